"""Inputs at the edges of the linear engine give scikit-learn's result or a reason."""

import numpy as np
import pytest
from declared import read_probe, read_protocol
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings, solve_problems
from genebench.protocols.declaration import Penalty

LINEAR, PAPER = read_probe("linear"), read_protocol("paper")
LARGE = SolverSettings(own_rows=0, own_rows_standardised=0, precision="float32")


def draw_matrix(rng, n, d, *, norm=1.0, decay=0.6):
    """Embedding-like vectors, (n, d) float32 of this mean length."""
    matrix = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -decay + 0.3 * rng.normal(size=d)
    return (norm * matrix / np.linalg.norm(matrix, axis=1).mean()).astype(np.float32)


def draw_split(rng, n, n_folds=3):
    folds = rng.permutation(np.arange(n) % n_folds)
    return np.where(folds[:, None] == np.arange(n_folds), TEST, TRAIN).astype(np.int8)


def solve(matrix, problem, protocol=PAPER, settings=LARGE):
    (output,) = solve_problems(matrix, [problem], LINEAR, protocol, settings)
    return output


def with_penalty(name, *c, **changes):
    protocol = read_protocol(name)
    return protocol.model_copy(update={"penalty": Penalty(c=c, **changes)})


@pytest.mark.parametrize("settings", [LARGE, SolverSettings()], ids=["shared", "own"])
@pytest.mark.parametrize("c", [0.001, 1.0])
def test_two_classes_are_one_binary_fit_as_in_scikit_learn(settings, c):
    rng = np.random.default_rng(0)
    matrix = draw_matrix(rng, 300, 12, norm=20.0)
    codes = (matrix @ rng.normal(size=12) + rng.logistic(size=300) > 0).astype(np.int64)
    split = draw_split(rng, 300)
    problem = Problem("two", "multiclass", np.arange(300)[:, None], codes, ("a", "b"), split)
    output = solve(matrix, problem, with_penalty("paper", c), settings)
    for fold, part in zip(output.folds, split.T, strict=True):
        model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10)
        model.fit(matrix[part == TRAIN].astype(float), codes[part == TRAIN])
        expected = model.decision_function(matrix[part == TEST].astype(float))
        np.testing.assert_allclose(fold.scores[:, 1] - fold.scores[:, 0], expected, atol=1e-3)


def test_a_path_of_c_is_solved_for_more_features_than_rows():
    rng = np.random.default_rng(1)
    matrix = draw_matrix(rng, 60, 200, norm=5.0)
    targets = (matrix[:, 0] > np.median(matrix[:, 0])).astype(np.uint8)
    problem = Problem(
        "p", "binary", np.arange(60)[:, None], targets, ("yes",), draw_split(rng, 60, 5)
    )
    output = solve(matrix, problem, with_penalty("paper", 0.1, 1.0, 10.0), SolverSettings())
    assert all(fold.fitted.all() and fold.c[0] in (0.1, 1.0, 10.0) for fold in output.folds)


def test_no_axis_that_matters_is_dropped_with_more_features_than_rows():
    """Singular values below 1 % of the greatest carry the signal here."""
    rng = np.random.default_rng(2)
    n, d = 400, 480
    matrix = draw_matrix(rng, n, d, norm=300.0, decay=1.5)
    left, lengths, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    signal = left[:, 150:250] @ rng.normal(size=100)
    assert lengths[150] < 0.003 * lengths[0]
    targets = (signal > np.median(signal)).astype(np.uint8)
    problem = Problem("p", "binary", np.arange(n)[:, None], targets, ("yes",), draw_split(rng, n))
    protocol = with_penalty("paper", 1e3)
    for fold, part in zip(solve(matrix, problem, protocol).folds, problem.split.T, strict=True):
        assert fold.fitted.all(), fold.reasons
        model = LogisticRegression(C=1e3, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        model.fit(matrix[part == TRAIN].astype(float), targets[part == TRAIN])
        expected = model.decision_function(matrix[part == TEST].astype(float))
        truth = targets[part == TEST]
        assert roc_auc_score(truth, fold.scores[:, 0]) == pytest.approx(
            roc_auc_score(truth, expected), abs=1e-4
        )

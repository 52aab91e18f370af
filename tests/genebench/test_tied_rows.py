"""Samples whose vectors are equal have equal decision values, whatever they are solved with."""

import numpy as np
import pytest
from declared import read_probe, read_protocol
from sklearn.metrics import roc_auc_score

from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings, fit_columns
from genebench.probes.linear.adapter import solve_problems

pytestmark = pytest.mark.slow

DISTINCT = 12


def draw(n, width, *, sparse=False, seed=0):
    """A matrix of a few distinct rows, each of them many times."""
    rng = np.random.default_rng(seed)
    distinct = rng.normal(size=(DISTINCT, width)) * np.arange(1, width + 1) ** -0.5
    if sparse:
        distinct = rng.poisson(3.0, size=distinct.shape) * (rng.random(distinct.shape) < 0.03)
    which = rng.integers(DISTINCT, size=n)
    return distinct.astype(np.float32)[which], which


def draw_split(n, seed=1):
    folds = np.random.default_rng(seed).permutation(np.arange(n) % 3)
    return np.where(folds[:, None] == np.arange(3), TEST, TRAIN).astype(np.int8)


def count_values(numbers, which):
    """Distinct decision values of each distinct row, at most."""
    return max(len(np.unique(numbers[which == one])) for one in np.unique(which))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    ("n", "width", "sparse"), [(200, 900, False), (3300, 60, False), (3300, 300, True)]
)
def test_equal_rows_have_equal_decision_values_and_one_auc(n, width, sparse, standardize, threads):
    """Columns added to a call, and threads, change nothing for them."""
    X, which = draw(n, width, sparse=sparse)
    Y = np.random.default_rng(2).random((n, 17)) < 0.1 + 0.5 * (which / DISTINCT)[:, None]
    split, areas = draw_split(n), set()
    for columns in (1, 9):
        fits = fit_columns(X, Y[:, :columns], split, standardize=standardize, threads=threads)
        for held, decision in zip(fits.held_out, fits.decision, strict=True):
            assert count_values(decision[:, 0], which[held]) == 1
        held, decision = fits.held_out[0], fits.decision[0]
        areas.add(roc_auc_score(Y[held, 0], decision[:, 0]))
    assert len(areas) == 1


def test_rows_that_differ_keep_decision_values_of_their_own():
    X, which = draw(200, 900)
    X[:100, 0] += np.arange(100)
    fits = fit_columns(X, which > DISTINCT // 2, draw_split(200))
    held, decision = fits.held_out[0], fits.decision[0][:, 0]
    assert len(np.unique(decision[held < 100])) == (held < 100).sum()


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("join", ["concat", "mean", "product", "difference"])
def test_pairs_of_equal_rows_have_equal_scores(join, kind):
    """Pairs in either order, where the join does not depend on it."""
    n = 150
    matrix, which = draw(100, 250)
    rng = np.random.default_rng(3)
    rows = rng.integers(100, size=(n, 2))
    ordered = which[rows] if join == "concat" else np.sort(which[rows], axis=1)
    pairs = ordered @ [DISTINCT, 1]
    targets = (rng.random(n) < 0.2 + 0.6 * pairs / pairs.max()).astype(np.uint8)
    if kind == "regression":
        targets = targets + rng.normal(size=n)
    problem = Problem("pairs", kind, rows, targets, ("value",), draw_split(n))
    protocol = read_protocol("paper").model_copy(update={"pair_join": join})
    (output,) = solve_problems(matrix, [problem], read_probe("linear"), protocol, SolverSettings())
    for fold in output.folds:
        assert count_values(fold.scores[:, 0], pairs[fold.rows]) == 1

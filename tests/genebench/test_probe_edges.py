"""Inputs at the edges of the linear engine give scikit-learn's result or a reason."""

import numpy as np
import pytest
import torch
from declared import read_probe, read_protocol
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.utils._python_dispatch import TorchDispatchMode

from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings, fold_fits
from genebench.probes.linear.adapter import solve_problems
from genebench.probes.linear.feature_transform import Designs, FeatureTransform
from genebench.probes.linear.fold_fits import plan_columns
from genebench.probes.linear.regularization_path import inner_folds
from genebench.protocols.declaration import Penalty

LINEAR, PAPER = read_probe("linear"), read_protocol("paper")
LARGE = SolverSettings(float64_rows=0, float64_rows_standardised=0)


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


@pytest.mark.parametrize("n_inner", [2, 3, 4])
@pytest.mark.parametrize("n_folds", [5, 6])
def test_every_fold_has_as_many_inner_folds_as_the_protocol_asks_for(n_inner, n_folds):
    split = draw_split(np.random.default_rng(3), 120, n_folds)
    found = inner_folds(split, n_inner, 0)
    assert [sum(k in fold.held for fold in found) for k in range(n_folds)] == [n_inner] * n_folds
    for fold in found:
        for k, held in fold.held.items():
            assert held.any()
            assert not (held & fold.train).any()
            assert (split[held | fold.train, k] == TRAIN).all()


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_targets_of_minus_one_and_one_are_refused(kind):
    targets = np.where(np.arange(20) % 2, 1, -1)
    targets = targets[:, None] if kind == "multilabel" else targets
    split = draw_split(np.random.default_rng(4), 20)
    with pytest.raises(ValueError, match="must be 0 or 1"):
        Problem("p", kind, np.arange(20)[:, None], targets, ("yes",), split)


def test_codes_outside_the_labels_and_infinite_numbers_are_refused():
    rows, split = np.arange(20)[:, None], draw_split(np.random.default_rng(4), 20)
    with pytest.raises(ValueError, match="positions in its 2 labels"):
        Problem("p", "multiclass", rows, np.arange(20) % 3, ("a", "b"), split)
    with pytest.raises(ValueError, match="finite"):
        Problem("p", "regression", rows, np.full(20, np.inf), ("value",), split)


@pytest.mark.parametrize("settings", [LARGE, SolverSettings()], ids=["shared", "own"])
def test_a_task_without_an_inner_fold_has_a_reason_and_no_c(settings):
    """Class a is in fold 1 alone and b in fold 2: what fold 0 trains on lacks one or the other."""
    rng = np.random.default_rng(5)
    matrix, split = draw_matrix(rng, 90, 8), draw_split(rng, 90, 3)
    codes = np.where(np.arange(90) % 2, 2, 3)
    for code, fold in ((0, 1), (1, 2)):
        codes[np.flatnonzero(split[:, fold] == TEST)[:5]] = code
    problem = Problem("p", "multiclass", np.arange(90)[:, None], codes, tuple("abcd"), split)
    first = solve(matrix, problem, with_penalty("paper", 0.1, 1.0), settings).folds[0]
    assert not first.fitted.any()
    assert first.reasons["a"] == "C cannot be chosen: in every inner fold a class is missing"
    assert first.unfittable == set("abcd")
    assert np.isnan(first.c).all()


def test_a_c_at_which_an_inner_fit_does_not_converge_is_not_chosen(monkeypatch):
    rng = np.random.default_rng(6)
    matrix = draw_matrix(rng, 200, 10, norm=5.0)
    targets = (matrix[:, 0] > np.median(matrix[:, 0])).astype(np.uint8)
    problem = Problem(
        "p", "binary", np.arange(200)[:, None], targets, ("yes",), draw_split(rng, 200)
    )
    protocol = with_penalty("paper", 0.01, 0.1, 1.0, 10.0)
    assert all(fold.c[0] >= 1.0 for fold in solve(matrix, problem, protocol).folds)
    real = fold_fits.solve_exactly

    def stop_early(*given):
        parts = real(*given)
        for _, batch, solution in parts:
            if batch.tolerance == fold_fits.PATH_TOLERANCE:
                solution.converged[batch.penalty_strength < 1.5] = False
        return parts

    monkeypatch.setattr(fold_fits, "solve_exactly", stop_early)
    assert all(fold.c[0] == 0.1 for fold in solve(matrix, problem, protocol).folds)
    protocol = with_penalty("paper", 1.0, 10.0)
    for fold in solve(matrix, problem, protocol).folds:
        assert "every inner fold did not converge" in fold.reasons["yes"]
        assert not fold.unfittable


def test_what_float64_finished_is_predicted_in_float64():
    rng = np.random.default_rng(7)
    half = rng.integers(1, 200, 200) / 64
    matrix = np.concatenate([half, -half]).astype(np.float32)[:, None]
    targets = (matrix[:, 0] + rng.logistic(size=400) > 0).astype(np.uint8)
    split = draw_split(rng, 400)
    problem = Problem("p", "binary", np.arange(400)[:, None], targets, ("yes",), split)
    settings = SolverSettings(float64_rows=0, tolerance=1e-11)
    output = solve(matrix, problem, with_penalty("paper", 100.0), settings)
    for fold, part in zip(output.folds, split.T, strict=True):
        assert fold.fitted.all(), fold.reasons
        model = LogisticRegression(C=100.0, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        model.fit(matrix[part == TRAIN].astype(float), targets[part == TRAIN])
        expected = model.decision_function(matrix[part == TEST].astype(float))
        np.testing.assert_allclose(fold.scores[:, 0], expected, atol=1e-9, rtol=1e-9)


def test_a_problem_whose_numbers_cannot_be_factorised_does_not_end_its_group(monkeypatch):
    """The second problem alone has five classes, whose preconditioner is made to fail."""
    rng = np.random.default_rng(8)
    matrix = draw_matrix(rng, 200, 10)
    rows, split = np.arange(200)[:, None], draw_split(rng, 200)
    problems = [
        Problem("good", "binary", rows, np.arange(200) % 2, ("yes",), split),
        Problem("bad", "multiclass", rows, np.arange(200) % 5, tuple("abcde"), split),
    ]

    def fail(*_args, **_kwargs):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "cholesky", fail)
    done = []
    outputs = {
        output.problem_id: output
        for output in solve_problems(matrix, problems, LINEAR, PAPER, LARGE, done.append)
    }
    assert all(fold.fitted.all() for fold in outputs["good"].folds)
    assert outputs["bad"].failure == "a factorisation failed: no convergence"
    assert sum(done) == 6


def test_a_fault_of_the_program_is_raised(monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    rng = np.random.default_rng(9)
    matrix, split = draw_matrix(rng, 90, 5), draw_split(rng, 90)
    problem = Problem("p", "binary", np.arange(90)[:, None], np.arange(90) % 2, ("yes",), split)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        solve(matrix, problem)


def test_words_of_any_number_need_no_matrix_of_all_their_products():
    """Squared, 20,000 words take 1.6 GB."""
    rng = np.random.default_rng(10)
    matrix = np.zeros((100, 20_000), np.float32)
    matrix[np.arange(100).repeat(5), rng.integers(0, 20_000, 500)] = 1
    with TensorSizes() as sizes:
        FeatureTransform(matrix, standardise=False, device=torch.device("cpu"))
    assert sizes.largest <= matrix.size


class TensorSizes(TorchDispatchMode):
    """Records the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not made.is_sparse_csr:
            self.largest = max(self.largest, made.numel())
        return made


@pytest.mark.parametrize("standardise", [False, True])
def test_masks_are_not_converted_before_rows_are_selected(standardise):
    """A group of 12 problems has 72 masks; a block of columns is of 3."""
    rng = np.random.default_rng(11)
    matrix, n = draw_matrix(rng, 3000, 4), 3000
    targets = (matrix[:, 0] > np.median(matrix[:, 0])).astype(np.uint8)
    protocol = PAPER.model_copy(update={"standardise": standardise})
    problems = [
        Problem(f"p{k}", "binary", np.arange(n)[:, None], targets, ("yes",), draw_split(rng, n))
        for k in range(12)
    ]
    settings = SolverSettings(float64_rows=0, float64_rows_standardised=0, memory_bytes=1)
    with FloatMasks(n, 72) as found:
        assert len(list(solve_problems(matrix, problems, LINEAR, protocol, settings))) == 12
    assert not found.shapes


class FloatMasks(TorchDispatchMode):
    """Records float tensors of all rows of a block and all masks of a group."""

    def __init__(self, n_rows, n_masks):
        super().__init__()
        self.n_masks, self.shapes = n_masks, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        is_float = isinstance(made, torch.Tensor) and made.is_floating_point()
        if is_float and made.ndim == 2 and made.shape[1] == self.n_masks:
            self.shapes.append(tuple(made.shape))
        return made


def test_designs_of_small_standardised_tasks_hold_no_features():
    rng = np.random.default_rng(12)
    source = Designs.in_float64(
        torch.from_numpy(rng.normal(size=(60, 900))), standardise=True, center=True
    )
    masks = torch.from_numpy(draw_split(rng, 60) == TRAIN)
    designs = [one.design for one in source.of(masks, [0, 1, 2])]
    assert len(designs) == 3
    means_and_deviations = 2 * 8 * 900
    for design in designs:
        held = [part for part in vars(design).values() if isinstance(part, torch.Tensor)]
        own = sum(8 * part.numel() for part in held if part is not source.vectors)
        assert own <= 1.1 * source.design_bytes + means_and_deviations
    assert plan_columns(60, 60, torch.float64, 10 * source.design_bytes, source.design_bytes) < 10


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_least_squares_of_any_rank_has_minimum_norm(shape):
    rng = np.random.default_rng(13)
    n, d = shape
    matrix = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d))
    split = draw_split(rng, n)
    problem = Problem("p", "regression", np.arange(n)[:, None], rng.normal(size=n), ("v",), split)
    for fold, part in zip(solve(matrix, problem).folds, split.T, strict=True):
        model = LinearRegression().fit(matrix[part == TRAIN], problem.targets[part == TRAIN])
        np.testing.assert_allclose(
            fold.scores[:, 0], model.predict(matrix[part == TEST]), atol=1e-8
        )

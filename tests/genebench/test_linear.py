"""The engine finds scikit-learn's optimum on every shape, and says so when it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from declared import read_probe, read_protocol
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from products import multiply_by, split
from scipy.sparse import csr_array
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from genebench.cancellation import cancel_while
from genebench.evaluation.resplits import subsample_training
from genebench.probes.declaration import TEST, TRAIN, UNUSED, Problem
from genebench.probes.linear import SolverSettings, lbfgs
from genebench.probes.linear.adapter import solve_problems
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.feature_transform import FeatureTransform
from genebench.probes.linear.fold_fits import plan_columns
from genebench.probes.linear.groups import group_problems
from genebench.probes.linear.objective import LOSSES
from genebench.probes.linear.operators import DenseMatrix
from genebench.probes.linear.pairs import prepare_pairs
from genebench.probes.linear.regularization_path import inner_folds
from genebench.probes.linear.sparse_operator import SparseMatrix
from genebench.probes.scikit_learn import join_vectors
from genebench.protocols.declaration import Penalty
from genebench.threads import use_threads

LINEAR = read_probe("linear")
LARGE = SolverSettings(float64_rows=0, float64_rows_standardised=0)
CPU = torch.device("cpu")


def load(name, **changes):
    return read_protocol(name).model_copy(update=changes)


PAPER = load("paper")


def vectors(rng, n, d, scale=1.0):
    """Embedding-like vectors: a spectrum that falls, a mean that is not zero."""
    spectrum = np.arange(1, d + 1) ** -0.6
    matrix = rng.normal(size=(n, d)) * spectrum + 0.3 * rng.normal(size=d)
    return (scale * matrix / np.linalg.norm(matrix, axis=1).mean()).astype(np.float32)


def plain_split(rng, n, n_folds=3):
    folds = rng.permutation(np.arange(n) % n_folds)
    return np.where(folds[:, None] == np.arange(n_folds), TEST, TRAIN).astype(np.int8)


def all_targets(rng, matrix, share, noise=1.0):
    signal = matrix @ rng.normal(size=matrix.shape[1])
    signal = signal / (signal.std() + 1e-9) + noise * rng.logistic(size=len(matrix)) / 2
    return (signal > np.quantile(signal, 1 - share)).astype(np.uint8)


def binary(rng, matrix, share=0.3, n=None, id_="task", **kwargs):
    rows = rng.permutation(len(matrix))[:n][:, None]
    targets = all_targets(rng, matrix[rows[:, 0]].astype(float), share, **kwargs)
    return Problem(id_, "binary", rows, targets, ("yes",), plain_split(rng, len(rows)))


def multiclass(rng, matrix, classes):
    n, d = matrix.shape
    logits = matrix @ rng.normal(size=(d, classes)) + rng.gumbel(size=(n, classes))
    codes = logits.argmax(axis=1)
    codes[: 4 * classes] = np.arange(4 * classes) % classes
    names = tuple(f"c{k}" for k in range(classes))
    return Problem("mc", "multiclass", np.arange(n)[:, None], codes, names, plain_split(rng, n))


def has_both_classes(problem):
    return all(len(np.unique(problem.targets[f == TRAIN])) == 2 for f in problem.split.T)


def run(matrix, problems, protocol=PAPER, how=LARGE, probe=LINEAR):
    outputs = {
        out.problem_id: out for out in solve_problems(matrix, problems, probe, protocol, how)
    }
    return [outputs[problem.id] for problem in problems]


def parts(matrix, problem, fold, join="concat", *, standardise=False):
    joined = join_vectors(matrix, problem.rows, join).astype(np.float64)
    train, test = (problem.split[:, fold] == part for part in (TRAIN, TEST))
    known, new = joined[train], joined[test]
    if standardise:
        scaler = StandardScaler().fit(known)
        known, new = scaler.transform(known), scaler.transform(new)
    return known, new, train, test


def logistic(c=1.0):
    return LogisticRegression(C=c, tol=1e-10, max_iter=10_000, solver="newton-cholesky")


def assert_scores_match(matrix, problem, output, tolerance, protocol=PAPER):
    """Held-out scores equal scikit-learn's at its tightest, at the C that the engine chose."""
    for fold, out in enumerate(output.folds):
        known, new, train, test = parts(
            matrix, problem, fold, protocol.pair_join, standardise=protocol.standardise
        )
        assert (out.rows == np.flatnonzero(test)).all()
        for column in range(problem.n_columns):
            assert out.fitted[column], out.reasons
            y = problem.targets[train]
            if problem.kind == "regression":
                model = LinearRegression() if np.isinf(out.c[0]) else Ridge(alpha=1 / out.c[0])
                expected = model.fit(known, y).predict(new)
            elif problem.kind == "multiclass":
                model = LogisticRegression(C=out.c[0], tol=1e-7, max_iter=2000).fit(known, y)
                expected = model.predict_proba(new)[:, column]
                shares = np.exp(out.scores - out.scores.max(axis=1, keepdims=True))
                np.testing.assert_allclose(
                    (shares / shares.sum(axis=1, keepdims=True))[:, column],
                    expected,
                    atol=tolerance,
                )
                continue
            else:
                y = y[:, column] if problem.kind == "multilabel" else y
                expected = logistic(out.c[column]).fit(known, y).decision_function(new)
            spread = expected.std() + 1e-12
            error = out.scores[:, column] - expected
            assert np.abs(error - error.mean()).max() <= tolerance * spread
            assert abs(error.mean()) <= max(tolerance * spread, tolerance / 10)


@settings(max_examples=25, deadline=None)
@example(n=37, d=26, scale=30.0, share=0.875, seed=329)
@given(
    n=st.integers(30, 160),
    d=st.integers(1, 60),
    scale=st.sampled_from([0.02, 1.0, 30.0]),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 10_000),
)
def test_small_binary_tasks_equal_scikit_learn_to_many_digits(n, d, scale, share, seed):
    rng = np.random.default_rng(seed)
    matrix = vectors(rng, n, d, scale)
    problem = binary(rng, matrix, share)
    assume(has_both_classes(problem))
    (output,) = run(matrix, [problem], how=SolverSettings())
    assert output.solver == "lbfgs float64"
    assert_scores_match(matrix, problem, output, 1e-5)


@settings(max_examples=15, deadline=None)
@example(n=503, d=2, scale=0.02, share=0.02, seed=0)
@given(
    n=st.integers(150, 600),
    d=st.integers(2, 80),
    scale=st.sampled_from([0.02, 1.0, 30.0]),
    share=st.sampled_from([0.02, 0.1, 0.5]),
    seed=st.integers(0, 10_000),
)
def test_float32_scores_equal_scikit_learn_within_a_hundredth_of_their_spread(
    n, d, scale, share, seed
):
    rng = np.random.default_rng(seed)
    matrix = vectors(rng, n, d, scale)
    problem = binary(rng, matrix, share)
    assume(has_both_classes(problem))
    (output,) = run(matrix, [problem])
    assert_scores_match(matrix, problem, output, 1e-2)
    for fold, out in enumerate(output.folds):
        known, new, train, test = parts(matrix, problem, fold)
        if len(np.unique(problem.targets[test])) == 2:
            expected = logistic().fit(known, problem.targets[train]).decision_function(new)
            areas = [roc_auc_score(problem.targets[test], s) for s in (out.scores[:, 0], expected)]
            # Rounding may exchange two rows of nearly equal score, and few rows make few pairs.
            found = int(problem.targets[test].sum())
            one_pair = 1 / (found * (int(test.sum()) - found))
            assert areas[0] == pytest.approx(areas[1], abs=max(1e-4, 1.01 * one_pair))


def test_coefficients_and_intercept_equal_scikit_learn():
    rng = np.random.default_rng(0)
    matrix = vectors(rng, 500, 40, 5.0)
    targets = all_targets(rng, matrix.astype(float), 0.3)
    space = FeatureTransform(matrix, standardise=False, device=CPU)
    design = space.prepare(torch.arange(500))
    every = torch.ones(500, 1, dtype=torch.bool)
    batch = Batch(
        design,
        "logistic",
        n_classes=1,
        all_targets=torch.from_numpy(targets)[:, None],
        target_columns=torch.tensor([0]),
        masks=every,
        folds=torch.tensor([0]),
        penalty_strength=torch.ones(1, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-7,
        row_segments=RowSegments.of((slice(0, 500),), every),
    )
    solution = lbfgs.solve(batch, initial_parameters(batch))
    model = logistic().fit(matrix.astype(float), targets)
    coefficients = design.to_features(solution.parameters[:-1])[:, 0].numpy()
    np.testing.assert_allclose(coefficients, model.coef_[0], atol=1e-4 * np.abs(model.coef_).max())
    intercept = float(solution.parameters[-1, 0]) - matrix.mean(axis=0) @ coefficients
    assert intercept == pytest.approx(model.intercept_[0], abs=1e-3)


def test_the_gradient_reached_is_the_gradient_reported():
    rng = np.random.default_rng(1)
    matrix = vectors(rng, 400, 30)
    problem = binary(rng, matrix)
    (output,) = run(matrix, [problem])
    for out in output.folds:
        assert 0 < out.gradient_norm[0] <= LARGE.tolerance
        assert out.n_iterations[0] > 0


def test_the_gradient_reported_of_classes_is_the_whole_gradient():
    """What moves all classes alike belongs to it: only the penalty pulls there."""
    rng = np.random.default_rng(12)
    matrix = vectors(rng, 1500, 40, 30.0)
    problem = multiclass(rng, matrix, 6)
    space = FeatureTransform(matrix, standardise=False, device=CPU)
    design = space.prepare(torch.arange(1500))
    codes, every = torch.from_numpy(problem.targets), torch.ones(1500, 1, dtype=torch.bool)
    batch = Batch(
        design,
        "multinomial",
        n_classes=6,
        all_targets=codes[:, None],
        target_columns=torch.zeros(1, dtype=torch.int64),
        masks=every,
        folds=torch.zeros(1, dtype=torch.int64),
        penalty_strength=torch.ones(1, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of((slice(0, 1500),), every),
    )
    start = initial_parameters(batch)
    start[:-1] += torch.from_numpy(rng.normal(size=(40, 1)).astype(np.float32))
    solution = lbfgs.solve(batch, start)
    assert solution.converged.all()
    x = design.double().coordinates.double()
    w, b = split(solution.parameters.double())
    residuals = torch.softmax(x @ w + b, dim=1) - torch.nn.functional.one_hot(codes, 6)
    gradient = (x.T @ residuals + w) / (x.square().sum() / 1500).sqrt()
    norm = float(torch.cat([gradient, residuals.sum(dim=0)[None]]).norm()) / 1500
    assert norm <= 1e-6
    assert norm == pytest.approx(float(solution.gradient_norm[0]), rel=0.2, abs=3e-8)
    assert float(w.mean(dim=1).norm()) <= 1e-5 * float(w.norm())


def test_a_fit_that_does_not_converge_is_reported_and_not_used(monkeypatch):
    rng = np.random.default_rng(2)
    matrix = vectors(rng, 300, 30, 30.0)
    monkeypatch.setattr(lbfgs, "MAX_STEPS", 1)
    (output,) = run(matrix, [binary(rng, matrix)])
    for out in output.folds:
        assert not out.fitted[0]
        assert "did not converge" in out.reasons["yes"]
        assert np.isnan(out.scores).all()


@pytest.mark.parametrize("classes", [1, 4])
def test_a_wish_to_stop_ends_a_solve_between_two_steps(classes):
    rng = np.random.default_rng(0)
    matrix = vectors(rng, 400, 20)
    problem = binary(rng, matrix) if classes == 1 else multiclass(rng, matrix, classes)
    done = []
    with cancel_while(), pytest.raises(KeyboardInterrupt):
        list(solve_problems(matrix, [problem], LINEAR, PAPER, LARGE, done.append))
    assert not done
    list(solve_problems(matrix, [problem], LINEAR, PAPER, LARGE, done.append))
    assert sum(done) == problem.n_folds


@pytest.mark.parametrize("how", [LARGE, SolverSettings()], ids=["shared", "own"])
def test_separable_duplicated_constant_and_wild_features_converge_to_the_optimum(how):
    rng = np.random.default_rng(3)
    base = vectors(rng, 240, 12)
    counts = rng.poisson(0.3, (240, 6)) * np.array([1, 1, 10, 100, 1000, 1]).astype(np.float32)
    leak = (np.arange(240) % 3 == 0).astype(np.float32)[:, None]
    matrix = np.concatenate([base, base, counts, np.ones((240, 2)), 40 * leak], axis=1)
    matrix = matrix.astype(np.float32)
    rows = np.arange(240)[:, None]
    split = plain_split(rng, 240)
    problem = Problem("p", "binary", rows, leak[:, 0].astype(np.uint8), ("yes",), split)
    (output,) = run(matrix, [problem], how=how)
    assert_scores_match(matrix, problem, output, 1e-2)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_more_features_than_rows_and_fewer_are_the_same_to_it(shape, standardise):
    rng = np.random.default_rng(4)
    n, d = shape
    matrix = vectors(rng, n, d, 3.0)
    protocol = load("paper", standardise=standardise)
    problem = binary(rng, matrix, 0.4)
    for how, tolerance in ((LARGE, 2e-3), (SolverSettings(), 1e-6)):
        (output,) = run(matrix, [problem], protocol, how)
        assert_scores_match(matrix, problem, output, tolerance, protocol)


@pytest.mark.parametrize("how", [LARGE, SolverSettings()], ids=["shared", "own"])
def test_constant_labels_and_one_class_folds_are_named_and_the_rest_fitted(how):
    rng = np.random.default_rng(5)
    matrix = vectors(rng, 300, 20)
    targets = np.stack(
        [all_targets(rng, matrix.astype(float), s) for s in (0.3, 0.01, 0.5)], axis=1
    )
    split = plain_split(rng, 300)
    targets[:, 2] = 0
    targets[:, 1] = split[:, 0] == TEST
    rows = np.arange(300)[:, None]
    problem = Problem("m", "multilabel", rows, targets, ("a", "fold", "none"), split)
    (output,) = run(matrix, [problem], how=how)
    assert output.folds[0].fitted.tolist() == [True, False, False]
    assert output.folds[1].fitted.tolist() == [True, True, False]
    assert output.folds[0].reasons == {
        "fold": "0 of 200 training samples are positive",
        "none": "0 of 200 training samples are positive",
    }


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(60, 250),
    d=st.integers(2, 40),
    classes=st.integers(3, 6),
    seed=st.integers(0, 999),
)
def test_multinomial_equals_scikit_learn(n, d, classes, seed):
    rng = np.random.default_rng(seed)
    matrix = vectors(rng, n, d, 4.0)
    problem = multiclass(rng, matrix, classes)
    folds = problem.split.T
    assume(all(len(np.unique(problem.targets[fold == TRAIN])) == classes for fold in folds))
    for how, tolerance in ((LARGE, 1e-3), (SolverSettings(), 1e-5)):
        (output,) = run(matrix, [problem], how=how)
        assert_scores_match(matrix, problem, output, tolerance)


@pytest.mark.parametrize("shape", [(300, 20), (90, 20), (40, 120), (61, 40)])
@pytest.mark.parametrize("fault", ["none", "duplicates", "rank", "wild"])
def test_least_squares_equals_linear_regression_minimum_norm_included(shape, fault):
    rng = np.random.default_rng(6)
    n, d = shape
    matrix = rng.normal(size=(n, d)) + rng.normal(size=d)
    if fault == "duplicates":
        matrix[:, d // 2 :] = matrix[:, : d - d // 2]
    if fault == "rank":
        matrix = matrix[:, :5] @ rng.normal(size=(5, d))
    if fault == "wild":
        matrix = matrix * 10.0 ** rng.integers(-3, 4, d)
    targets = 1e6 * (matrix[:, 0] / matrix[:, 0].std() + rng.normal(size=n))
    rows = np.arange(n)[:, None]
    problem = Problem("r", "regression", rows, targets, ("value",), plain_split(rng, n))
    (output,) = run(matrix, [problem])
    assert_scores_match(matrix, problem, output, 1e-6)


def test_least_squares_on_pairs_and_on_some_of_the_rows_equals_linear_regression():
    rng = np.random.default_rng(7)
    matrix = vectors(rng, 50, 6).astype(np.float64)
    rows = rng.integers(0, 50, (400, 2))
    targets = rng.normal(size=400) + matrix[rows[:, 0], 0]
    split = plain_split(rng, 400)
    split[:150] = 0
    for join in ("concat", "mean", "product", "difference"):
        problem = Problem("r", "regression", rows, targets, ("value",), split)
        protocol = load("paper", pair_join=join)
        (output,) = run(matrix, [problem], protocol)
        assert_scores_match(matrix, problem, output, 1e-8, protocol)


@pytest.mark.parametrize("join", ["concat", "mean", "product", "difference"])
@pytest.mark.parametrize("standardise", [False, True])
def test_pairs_equal_scikit_learn_on_the_materialised_matrix(join, standardise):
    rng = np.random.default_rng(8)
    matrix = vectors(rng, 80, 12, 4.0)
    rows = rng.integers(0, 80, (700, 2))
    joined = join_vectors(matrix, rows, join).astype(float)
    targets = all_targets(rng, joined, 0.4)
    problem = Problem("p", "binary", rows, targets, ("yes",), plain_split(rng, 700))
    protocol = load("paper", pair_join=join, standardise=standardise)
    blocks = SolverSettings(float64_rows=0, float64_rows_standardised=0, memory_bytes=1)
    for how in (LARGE, blocks):
        (output,) = run(matrix, [problem], protocol, how)
        assert_scores_match(matrix, problem, output, 2e-3, protocol)


@pytest.mark.parametrize("join", ["concat", "mean", "product", "difference"])
def test_products_with_pairs_are_those_of_the_joined_centred_matrix(join):
    rng = np.random.default_rng(9)
    matrix = vectors(rng, 40, 7, 2.0)
    rows = rng.integers(0, 40, (300, 2))
    joined = join_vectors(matrix, rows, join).astype(float)
    joined -= joined.mean(axis=0)
    for dense_bytes in (0, 1 << 30):
        design = prepare_pairs(
            matrix, rows, join, standardise=False, device=CPU, dense_bytes=dense_bytes
        )
        features = torch.from_numpy(rng.normal(size=(joined.shape[1], 3)).astype(np.float32))
        intercepts = torch.tensor([0.0, 1.0, -2.0])
        forward = multiply_by(design, design.to_coordinates(features), intercepts).numpy()
        np.testing.assert_allclose(forward, joined @ features.numpy() + [0, 1, -2], atol=1e-4)
        values = torch.from_numpy(rng.normal(size=(300, 3)).astype(np.float32))
        sums = design.zeros(3)
        for block in (slice(0, 100), slice(100, 300)):
            design.collect(sums, block, values[block])
        adjoint, over_rows = split(design.finish(sums))
        adjoint = design.to_features(adjoint).numpy()
        np.testing.assert_allclose(adjoint, joined.T @ values.numpy(), atol=1e-3)
        np.testing.assert_allclose(over_rows, values.sum(dim=0), atol=1e-4)
        mask = torch.from_numpy(rng.random((300, 2)) < 0.5)
        scaled = prepare_pairs(
            matrix, rows, join, standardise=True, device=CPU, dense_bytes=dense_bytes
        )
        variances = (scaled.variances(mask) * scaled.scale.square()[:, None]).numpy()
        for column in range(2):
            expected = joined[mask[:, column].numpy()].var(axis=0)
            np.testing.assert_allclose(variances[:, column], expected, rtol=1e-3)


def test_standardised_features_equal_a_scaler_fitted_on_the_training_rows():
    rng = np.random.default_rng(10)
    matrix = vectors(rng, 500, 15) * (10.0 ** rng.integers(-2, 3, 15)).astype(np.float32)
    protocol = load("paper", standardise=True)
    problems = [binary(rng, matrix, id_="all"), binary(rng, matrix, n=350, id_="some")]
    for how, tolerance in ((LARGE, 1e-3), (SolverSettings(), 1e-6)):
        for problem, output in zip(problems, run(matrix, problems, protocol, how), strict=True):
            assert_scores_match(matrix, problem, output, tolerance, protocol)


def test_ridge_and_logistic_with_a_chosen_penalty_equal_scikit_learn_at_that_penalty():
    rng = np.random.default_rng(11)
    matrix = vectors(rng, 400, 30)
    rows = np.arange(400)[:, None]
    number = 1e4 * (3 + matrix @ rng.normal(size=30) + rng.normal(size=400))
    problems = [
        binary(rng, matrix, id_="b"),
        Problem("r", "regression", rows, number, ("value",), plain_split(rng, 400)),
    ]
    protocol = load("standard", penalty=Penalty(c=(0.001, 0.01, 0.1, 1.0)))
    for how, tolerance in ((LARGE, 1e-2), (SolverSettings(), 1e-4)):
        for problem, output in zip(problems, run(matrix, problems, protocol, how), strict=True):
            assert_scores_match(matrix, problem, output, tolerance, protocol)


PATH = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def inner_losses(matrix, problem, k):
    """The summed loss on the inner folds of fold k, for each C of the path."""
    joined = matrix[problem.rows[:, 0]].astype(float)
    losses = np.zeros(len(PATH))
    for j in range(problem.n_folds):
        if j != k:
            train = (problem.split[:, k] == TRAIN) & (problem.split[:, j] == TRAIN)
            held = problem.split[:, j] == TEST
            for i, c in enumerate(PATH):
                model = logistic(c).fit(joined[train], problem.targets[train])
                shares = model.predict_proba(joined[held])
                losses[i] += log_loss(problem.targets[held], shares, normalize=False, labels=[0, 1])
    return losses


@pytest.mark.slow
def test_the_chosen_penalty_has_the_least_inner_loss_before_a_clear_rise():
    protocol = load("paper", penalty=Penalty(c=PATH, inner=4))
    chosen, expected = [], []
    shapes = ((1, 360, 40, 3.0), (1, 100, 8, 10.0), (1, 60, 30, 3.0), (2, 100, 50, 30.0))
    for seed, n, d, scale in shapes:
        rng = np.random.default_rng(seed)
        matrix = vectors(rng, n, d, scale)
        problem = replace(binary(rng, matrix), split=plain_split(rng, n, 5))
        (output,) = run(matrix, [problem], protocol, SolverSettings())
        chosen += [out.c[0] for out in output.folds]
        for k in range(problem.n_folds):
            losses = inner_losses(matrix, problem, k)
            least = np.minimum.accumulate(losses)
            risen = losses > least + np.maximum(0.01 * least, 5.0)
            end = int(risen.argmax()) if risen.any() else len(PATH)
            expected.append(PATH[losses[:end].argmin()])
    assert chosen == expected
    assert len(set(chosen)) > 2


@pytest.mark.parametrize("how", [LARGE, SolverSettings()])
def test_a_leading_direction_that_says_nothing_does_not_end_the_path(how):
    rng = np.random.default_rng(4)
    n, d = 160, 24
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, d))
    matrix = (shared + 0.1 * own).astype(np.float32)
    signal = own[:, :4].sum(axis=1) - own[:, 4:8].sum(axis=1) + rng.normal(size=n)
    targets = (signal > 0).astype(np.uint8)
    rows = np.arange(n)[:, None]
    problem = Problem("p", "binary", rows, targets, ("yes",), plain_split(rng, n, 5))
    (output,) = run(matrix, [problem], load("standard"), how)
    assert all(out.c[0] >= 1 for out in output.folds)
    areas = [roc_auc_score(targets[out.rows], out.scores[:, 0]) for out in output.folds]
    assert np.mean(areas) > 0.85


def test_inner_folds_hold_out_training_rows_only_each_once_and_serve_two_folds():
    rng = np.random.default_rng(13)
    split = plain_split(rng, 100, 5)
    folds = inner_folds(split, 2, 0)
    assert len(folds) == 5
    held_by = np.zeros((5, 100), dtype=int)
    for fold in folds:
        assert len(fold.held) == 2
        for k, held in fold.held.items():
            assert (split[held, k] == TRAIN).all()
            assert (split[fold.train, k] == TRAIN).all()
            assert not (fold.train & held).any()
            held_by[k] += held
    assert (held_by.sum(axis=1) == 40).all()
    assert held_by.max() == 1


def test_thinned_training_rows_keep_what_is_held_out_inside_apart():
    rng = np.random.default_rng(20)
    entities = rng.integers(0, 60, (900, 2))
    group = np.arange(60) % 5
    split = np.full((900, 5), UNUSED, dtype=np.int8)
    for k in range(5):
        is_held = group[entities] == k
        split[is_held.all(axis=1), k] = TEST
        split[~is_held.any(axis=1), k] = TRAIN
    problem = Problem("p", "binary", entities, rng.integers(0, 2, 900), ("yes",), split)
    thin = subsample_training(problem, 0.4).split
    folds = inner_folds(thin, 2, 0)
    assert len(folds) == 5
    for fold in folds:
        seen = set(entities[fold.train].ravel())
        for k, held in fold.held.items():
            assert held.any()
            assert (thin[held, k] == TRAIN).all()
            assert (thin[fold.train, k] == TRAIN).all()
            assert not seen & set(entities[held].ravel())


def test_a_single_split_by_time_gets_inner_folds_of_its_training_rows():
    split = np.full((90, 1), TRAIN, dtype=np.int8)
    split[60:] = TEST
    folds = inner_folds(split, 3, 0)
    assert len(folds) == 3
    assert sum(fold.held[0].astype(int) for fold in folds).tolist() == [1] * 60 + [0] * 30


def test_problems_on_the_same_rows_are_solved_together_and_alike():
    rng = np.random.default_rng(14)
    matrix = vectors(rng, 400, 20)
    problems = [binary(rng, matrix, n=n, id_=f"p{n}") for n in (400, 150)]
    problems += [
        replace(problems[0], id=f"q{k}", targets=rng.integers(0, 2, 400)) for k in range(2)
    ]
    groups = list(group_problems(problems, float64_rows=0))
    assert sorted(len(group.problems) for group in groups) == [1, 3]
    alone = [run(matrix, [problem])[0] for problem in problems]
    for one, other in zip(run(matrix, problems), alone, strict=True):
        for left, right in zip(one.folds, other.folds, strict=True):
            np.testing.assert_allclose(left.scores, right.scores, atol=2e-3)


def test_a_smaller_memory_budget_gives_more_blocks_and_the_same_scores():
    rng = np.random.default_rng(15)
    matrix = vectors(rng, 500, 24)
    targets = np.stack([all_targets(rng, matrix.astype(float), 0.2) for _ in range(12)], axis=1)
    names = tuple(f"l{k}" for k in range(12))
    rows = np.arange(500)[:, None]
    problem = Problem("m", "multilabel", rows, targets, names, plain_split(rng, 500))
    sizes = []
    solve = lbfgs.solve_in_threads

    def counting(batch, start, **kwargs):
        sizes.append(batch.n_subproblems)
        return solve(batch, start, **kwargs)

    results = []
    for memory in (1 << 30, 250_000):
        sizes.clear()
        how = SolverSettings(float64_rows=0, float64_rows_standardised=0, memory_bytes=memory)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lbfgs, "solve_in_threads", counting)
            results.append((list(sizes), run(matrix, [problem], how=how)[0], list(sizes)))
    assert results[0][2] == [36]
    assert len(results[1][2]) > 3
    assert sum(results[1][2]) == 36
    for left, right in zip(results[0][1].folds, results[1][1].folds, strict=True):
        np.testing.assert_allclose(left.scores, right.scores, atol=2e-3)


def test_the_plan_of_the_largest_tasks_fits_six_gigabytes():
    budget = 6 << 30
    matrix = 20_000 * 4096 * 4
    at_once = plan_columns(20_000, 4096, torch.float32, budget - 4 * matrix)
    assert at_once >= 1500
    entities = 40_000 * 4096 * 4
    assert plan_columns(411_569, 2 * 4096, torch.float32, budget - 5 * entities) >= 15
    assert plan_columns(100, 10, torch.float32, 0) == 1


def test_a_solver_is_named_by_the_products_it_used():
    rng = np.random.default_rng(18)
    matrix = vectors(rng, 300, 20)
    pairs = rng.integers(0, 300, (500, 2))
    target = (rng.random(500) < 0.4).astype(np.uint8)
    pair_task = Problem("pairs", "binary", pairs, target, ("yes",), plain_split(rng, 500))
    for how, name in ((LARGE, "lbfgs float32"), (SolverSettings(), "lbfgs float64")):
        for output in run(matrix, [binary(rng, matrix), pair_task], how=how):
            assert output.solver == name


def test_the_same_run_twice_gives_the_same_bits():
    rng = np.random.default_rng(17)
    matrix = vectors(rng, 300, 20)
    problem = binary(rng, matrix)
    first, second = run(matrix, [problem])[0], run(matrix, [problem])[0]
    for left, right in zip(first.folds, second.folds, strict=True):
        assert (left.scores == right.scores).all()


def test_row_order_and_label_order_do_not_count():
    rng = np.random.default_rng(18)
    matrix = vectors(rng, 260, 15)
    problem = binary(rng, matrix)
    order = rng.permutation(260)
    shuffled = Problem(
        "task",
        "binary",
        problem.rows[order],
        problem.targets[order],
        ("yes",),
        problem.split[order],
    )
    (first,), (second,) = run(matrix, [problem]), run(matrix, [shuffled])
    for left, right in zip(first.folds, second.folds, strict=True):
        by_row = dict(zip(order[right.rows], right.scores[:, 0], strict=True))
        np.testing.assert_allclose(left.scores[:, 0], [by_row[row] for row in left.rows], atol=1e-3)


def test_a_flat_design_with_no_signal_settles_at_the_intercept():
    matrix = np.ones((90, 4), dtype=np.float32)
    rng = np.random.default_rng(19)
    targets = (np.arange(90) % 3 == 0).astype(np.uint8)
    rows = np.arange(90)[:, None]
    problem = Problem("p", "binary", rows, targets, ("yes",), plain_split(rng, 90))
    for protocol in (PAPER, load("standard")):
        for how in (LARGE, SolverSettings()):
            (output,) = run(matrix, [problem], protocol, how)
            for fold, out in enumerate(output.folds):
                share = targets[problem.split[:, fold] == TRAIN].mean()
                np.testing.assert_allclose(out.scores, np.log(share / (1 - share)), atol=1e-4)


def test_threads_are_set_for_the_work_only():
    before = torch.get_num_threads()
    seen = list(use_threads(1, (torch.get_num_threads() for _ in range(2))))
    assert seen == [1, 1]
    assert torch.get_num_threads() == before


def test_systems_shared_between_threads_end_where_they_end_on_one():
    rng = np.random.default_rng(21)
    matrix = vectors(rng, 400, 30)
    targets = np.stack([all_targets(rng, matrix.astype(float), 0.2) for _ in range(12)], axis=1)
    names = tuple(f"l{k}" for k in range(12))
    split = plain_split(rng, 400)
    codes = (matrix @ rng.normal(size=(30, 4)) + rng.gumbel(size=(400, 4))).argmax(axis=1)
    rows = np.arange(400)[:, None]
    problems = [
        Problem("m", "multilabel", rows, targets, names, split),
        Problem("c", "multiclass", rows, codes, ("a", "b", "c", "d"), split),
    ]
    results = []
    for threads in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("genebench.probes.linear.group_solver.SERIAL", 0)
            before = torch.get_num_threads()
            outputs = use_threads(threads, solve_problems(matrix, problems, LINEAR, PAPER, LARGE))
            results.append({out.problem_id: out for out in outputs})
            assert torch.get_num_threads() == before
    for name in ("m", "c"):
        for left, right in zip(results[0][name].folds, results[1][name].folds, strict=True):
            assert right.fitted.all()
            np.testing.assert_allclose(left.scores, right.scores, atol=2e-3)


def test_the_spectrum_and_the_rotation_lose_nothing():
    rng = np.random.default_rng(20)
    matrix = vectors(rng, 50, 20)
    space = FeatureTransform(matrix, standardise=False, device=CPU)
    design = space.prepare(torch.arange(50))
    assert isinstance(design, DenseMatrix)
    back = design.coordinates @ design.basis.T
    np.testing.assert_allclose(back.numpy(), matrix - matrix.mean(axis=0), atol=1e-5)
    expected = np.linalg.svd(matrix - matrix.mean(axis=0))[1] ** 2
    np.testing.assert_allclose(design.spectrum.numpy(), expected, rtol=1e-3, atol=1e-6)


def word_counts(rng, n, d, per_row=6):
    """Counts of words: few in a row, most words rare."""
    shares = np.arange(1, d + 1) ** -0.5
    return rng.poisson(per_row * shares / shares.sum(), size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("protocol", [PAPER, load("standard")], ids=lambda protocol: protocol.id)
def test_word_counts_are_solved_without_their_zeros_and_equal_scikit_learn(protocol):
    rng = np.random.default_rng(21)
    matrix = word_counts(rng, 1500, 150)
    space = FeatureTransform(matrix, standardise=protocol.standardise, device=CPU)
    assert isinstance(space.prepare(torch.arange(1500)), SparseMatrix)
    problem = binary(rng, matrix, n=1400)
    (output,) = run(matrix, [problem], protocol)
    assert_scores_match(matrix, problem, output, 2e-3, protocol)


def test_products_without_the_zeros_equal_those_with_them():
    rng = np.random.default_rng(22)
    counts = word_counts(rng, 400, 60)
    center = torch.from_numpy(rng.normal(size=60))
    sparse = SparseMatrix(csr_array(counts.astype(np.float64)), center)
    dense = DenseMatrix(torch.from_numpy(counts).double() - center, None)
    coefficients, weights = (torch.from_numpy(rng.random((n, 3))) for n in (60, 400))
    intercepts = torch.from_numpy(rng.normal(size=3))
    np.testing.assert_allclose(
        multiply_by(sparse, coefficients, intercepts), multiply_by(dense, coefficients, intercepts)
    )
    np.testing.assert_allclose(sparse.spectrum, dense.spectrum)
    sums = [design.zeros(3) for design in (sparse, dense)]
    for design, sum_ in zip((sparse, dense), sums, strict=True):
        for block in (slice(0, 150), slice(150, 400)):
            design.collect(sum_, block, weights[block])
    np.testing.assert_allclose(sparse.finish(sums[0]), dense.finish(sums[1]))


@pytest.mark.parametrize("n_with", [5, 15, 200])
def test_a_word_in_no_training_row_counts_as_constant(n_with):
    # Were its variance taken to be what rounding leaves of it, its coefficient would be anything.
    matrix = np.zeros((22_000, 2), np.float32)
    matrix[:n_with, 0] = matrix[::2, 1] = 1
    space = FeatureTransform(matrix, standardise=True, device=CPU)
    mask = torch.ones(22_000, 1, dtype=torch.bool)
    mask[:n_with] = False
    variances = space.prepare(torch.arange(22_000)).variances(mask)
    assert variances[0, 0] == 1
    assert float(variances[1, 0]) == pytest.approx(1, abs=1e-3)


def test_a_small_regression_is_not_held_back_by_the_path_of_c():
    """One feature is the number itself; a strong penalty on 150 rows would leave a third of it."""
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(150, 8)).astype(np.float32)
    split = np.where(np.arange(150)[:, None] % 5 == np.arange(5), TEST, TRAIN).astype(np.int8)
    problem = Problem(
        "n", "regression", np.arange(150)[:, None], matrix[:, 0].astype(float), ("n",), split
    )
    (output,) = solve_problems(matrix, [problem], LINEAR, load("standard"), SolverSettings())
    for fold in output.folds:
        truth = problem.targets[fold.rows]
        assert ((fold.scores[:, 0] - truth) ** 2).sum() < 0.01 * ((truth - truth.mean()) ** 2).sum()


@pytest.mark.parametrize("join", ["product", "difference"])
@pytest.mark.parametrize("dense_bytes", [0, 1 << 30])
def test_products_in_float64_follow_float32_vectors_without_a_copy_of_them(join, dense_bytes):
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(40, 6)).astype(np.float32)
    rows = rng.integers(0, 40, (300, 2))
    design = prepare_pairs(
        matrix, rows, join, standardise=True, device=CPU, dense_bytes=dense_bytes
    )
    exact = design.double()
    joined = join_vectors(matrix, rows, join).astype(np.float64)
    joined = (joined - joined.mean(axis=0)) / joined.std(axis=0)
    coefficients = torch.from_numpy(rng.normal(size=(6, 2)))
    nothing = torch.zeros(2, dtype=torch.float64)
    values = multiply_by(exact, coefficients, nothing)
    assert values.dtype == torch.float64
    expected = joined @ exact.to_features(coefficients).numpy()
    np.testing.assert_allclose(values, expected, atol=1e-5)
    rough = multiply_by(design, coefficients.float(), nothing.float())
    np.testing.assert_allclose(rough, expected, atol=1e-4)
    sums = exact.zeros(2)
    exact.collect(sums, slice(None), values)
    products = exact.to_features(exact.finish(sums)[:-1])
    np.testing.assert_allclose(products, joined.T @ expected, atol=1e-3)
    np.testing.assert_allclose(exact.spectrum.sum(), (joined**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("truth", [0.0, 1.0])
@pytest.mark.parametrize("name", ["logistic", "multinomial"])
def test_the_loss_of_a_decided_sample_keeps_its_digits(name, truth):
    """12 is rounded by 1e-6 in float32, as much as a sixth of the loss beside it."""
    odds = torch.tensor([[12.0 if truth else -12.0]])
    values = odds if name == "logistic" else torch.cat([odds + 40.0, torch.tensor([[40.0]])], dim=1)
    targets = torch.full((1, 1), truth)
    if name == "multinomial":
        targets = 1.0 - targets
    losses, residuals = LOSSES[name](values, targets, None)
    exact = np.log1p(np.exp(-12.0))
    # A sum of classes that starts at one keeps the digits of one; the logistic loss keeps all.
    error = 1e-6 * exact if name == "logistic" else 6e-8
    assert float(losses) == pytest.approx(exact, abs=error, rel=0)
    assert float(residuals.abs().max()) == pytest.approx(
        1 / (1 + np.exp(12.0)), abs=max(error, 1e-11)
    )

"""The preconditioner is exact where it claims to be, and a preconditioner everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from declared import read_probe, read_protocol
from hypothesis import given, settings
from hypothesis import strategies as st
from products import split, stack

from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings, lbfgs
from genebench.probes.linear.adapter import solve_problems
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.feature_transform import FeatureTransform
from genebench.probes.linear.preconditioner import build_preconditioner


def make_batch(matrix, codes, classes, *, penalty_strength=0.5):
    """Two subproblems, on all rows and on some, in principal axes.

    A subproblem of one class is a single column, which tells the first code from all others.
    """
    n = len(matrix)
    space = FeatureTransform(matrix, standardise=False, device=torch.device("cpu"))
    masks = torch.ones(n, 2, dtype=torch.bool)
    masks[: n // 3, 1] = False
    return Batch(
        space.prepare(torch.arange(n)).double(),
        "multinomial" if classes > 1 else "logistic",
        n_classes=classes,
        all_targets=torch.from_numpy(codes if classes > 1 else codes == 0)[:, None],
        target_columns=torch.tensor([0, 0]),
        masks=masks,
        folds=torch.tensor([0, 1]),
        penalty_strength=torch.full((2,), penalty_strength, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-10,
        row_segments=RowSegments.of((slice(0, n),), masks),
    )


def draw_batch(rng, n, d, classes):
    """Classes of unequal size that no feature tells apart."""
    matrix = rng.normal(size=(n, d)).astype(np.float32) @ rng.normal(size=(d, d)).astype(np.float32)
    codes = rng.integers(0, max(classes, 2), n) * rng.integers(0, 2, n)
    return make_batch(matrix, codes, classes)


def curve(batch, parameters, coefficients, intercepts):
    """Second derivatives at these parameters times a change, subproblem by subproblem in numpy."""
    x, k = batch.design.coordinates.double().numpy(), batch.n_classes
    weights, shifts, moves, move_shifts = (
        part.double().numpy() for part in (*split(parameters), coefficients, intercepts)
    )
    values, moved, products, sums = x @ weights + shifts, x @ moves + move_shifts, [], []
    for number in range(batch.n_subproblems):
        own, rows = slice(number * k, (number + 1) * k), batch.masks[:, batch.folds[number]].numpy()
        if k == 1:
            rare = np.exp(-np.logaddexp(0, np.abs(values[rows, own])))
            curved = rare * (1 - rare) * moved[rows, own]
        else:
            shares = np.exp(values[rows, own] - values[rows, own].max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            curved = shares * moved[rows, own]
            curved -= shares * curved.sum(axis=1, keepdims=True)
        strength = float(batch.penalty_strength[number])
        products.append(x[rows].T @ curved + strength * moves[:, own])
        sums.append(curved.sum(axis=0))
    return stack(torch.from_numpy(np.hstack(products)), torch.from_numpy(np.concatenate(sums)))


def test_where_all_rows_weigh_the_same_one_division_solves_the_equations_of_all_classes():
    rng = np.random.default_rng(1)
    batch = draw_batch(rng, 200, 7, 4)
    batch = batch.take(torch.tensor([0]))
    start = initial_parameters(batch)
    preconditioner = build_preconditioner(batch, start)
    coefficients = torch.from_numpy(rng.normal(size=(7, 4)))
    intercepts = torch.from_numpy(rng.normal(size=4))
    found, found_b = split(preconditioner.solve(curve(batch, start, coefficients, intercepts)))
    torch.testing.assert_close(found, coefficients, rtol=1e-4, atol=1e-4)
    # What moves all classes alike changes nothing, and is left out.
    torch.testing.assert_close(found_b, intercepts - intercepts.mean(), rtol=1e-4, atol=1e-4)


def draw_parameters(rng, batch, scale):
    weights = torch.from_numpy(scale * rng.normal(size=(batch.design.width, batch.n_columns)))
    return stack(weights, weights[0])


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(1, 6), scale=st.floats(0.0, 30.0), seed=st.integers(0, 999))
def test_at_any_point_it_is_symmetric_positive_and_its_own_inverse_of_lengths(classes, scale, seed):
    rng = np.random.default_rng(seed)
    batch = draw_batch(rng, 60, 5, classes)
    preconditioner = build_preconditioner(batch, draw_parameters(rng, batch, scale))
    left, right = torch.from_numpy(rng.normal(size=(2, 6, batch.n_columns)))

    def product(one, other):
        return (one * other).sum()

    crossed, turned = (
        product(left, preconditioner.solve(right)),
        product(preconditioner.solve(left), right),
    )
    size = (
        product(left, preconditioner.solve(left)) * product(right, preconditioner.solve(right))
    ).sqrt()
    assert abs(float(crossed - turned)) <= 1e-8 * float(size)
    assert product(left, preconditioner.solve(left)) > 0
    solved = preconditioner.solve(stack(left[:5], torch.zeros_like(left[5])))[:-1]
    own = (left[:5] * solved).sum()
    torch.testing.assert_close(
        preconditioner.quadratic_form(solved).sum(), own, rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("odds", [16.8, 40.0, 200.0])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_it_divides_where_chances_are_one_but_for_what_float32_rounds_away(classes, odds):
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=(20_000, 3)).astype(np.float32)
    batch = make_batch(matrix, np.zeros(20_000, dtype=int), classes)
    space = FeatureTransform(matrix, standardise=False, device=torch.device("cpu"))
    batch = replace(batch, design=space.prepare(torch.arange(20_000)))
    intercepts = torch.zeros(2, classes)
    intercepts[:, 0] = odds
    parameters = stack(torch.zeros(3, 2 * classes), intercepts.flatten())
    preconditioner = build_preconditioner(batch, parameters)
    assert preconditioner.solve(torch.ones(4, 2 * classes)).isfinite().all()


@pytest.mark.parametrize("classes", [1, 4])
def test_weights_of_rows_and_of_classes_count_as_rows_do(classes):
    rng = np.random.default_rng(8)
    batch = draw_batch(rng, 90, 5, classes).take(torch.tensor([0]))
    parameters = draw_parameters(rng, batch, 0.5)
    gradient = draw_parameters(rng, batch, 1.0)
    is_used = torch.from_numpy(rng.random((90, 1)) < 0.6)
    without = replace(batch, masks=is_used, row_segments=RowSegments.of((slice(0, 90),), is_used))
    weighted = replace(batch, sample_weight=is_used.double())
    twice = replace(weighted, sample_weight=2 * is_used.double())
    by_class = replace(
        weighted, class_weight=torch.full((1, max(classes, 2)), 2.0, dtype=torch.float64)
    )
    for one, other in ((without, weighted), (twice, by_class)):
        found, expected = (build_preconditioner(each, parameters) for each in (one, other))
        torch.testing.assert_close(found.solve(gradient), expected.solve(gradient))


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_what_intercepts_lean_on_coefficients_by_is_exact_for_up_to_three_classes(classes):
    """Three classes have as many edges as shares, two have one edge; see `ClassPreconditioner`."""
    rng = np.random.default_rng(4)
    batch = draw_batch(rng, 60, 5, classes)
    parameters = draw_parameters(rng, batch, 0.3)
    preconditioner = build_preconditioner(batch, parameters)
    intercepts = torch.from_numpy(rng.normal(size=(batch.n_subproblems, classes)))
    if classes > 1:
        intercepts -= intercepts.mean(dim=1, keepdim=True)
    change = (torch.zeros(5, batch.n_columns, dtype=torch.float64), intercepts.flatten())
    found, found_b = split(preconditioner.solve(curve(batch, parameters, *change)))
    torch.testing.assert_close(found, change[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(found_b, change[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classes", [1, 12])
def test_fewer_steps_are_needed_for_what_is_known_of_where_columns_are_undecided(
    monkeypatch, classes
):
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 12, 1500)
    matrix = (rng.normal(size=(12, 40))[codes] + rng.normal(size=(1500, 40))).astype(np.float32)
    batch = make_batch(5 * matrix, codes, classes)

    def forget_means(*arguments):
        preconditioner = build_preconditioner(*arguments)
        name = "weighted_mean" if classes == 1 else "class_means"
        return preconditioner._replace(**{name: torch.zeros_like(getattr(preconditioner, name))})

    monkeypatch.setitem(lbfgs.N_PAIRS, torch.float64, lbfgs.N_PAIRS[torch.float32])
    coupled = lbfgs.solve(batch, initial_parameters(batch))
    monkeypatch.setattr(lbfgs, "build_preconditioner", forget_means)
    apart = lbfgs.solve(batch, initial_parameters(batch))
    assert coupled.converged.all()
    assert coupled.n_steps.sum() <= 0.9 * apart.n_steps.sum()


def test_the_axes_of_some_systems_are_those_among_all():
    rng = np.random.default_rng(2)
    batch = draw_batch(rng, 90, 4, 3)
    preconditioner = build_preconditioner(batch, initial_parameters(batch))
    gradient = torch.from_numpy(rng.normal(size=(5, 6)))
    found = preconditioner.take(torch.tensor([1])).solve(gradient[:, 3:])
    torch.testing.assert_close(found, preconditioner.solve(gradient)[:, 3:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [SolverSettings(), SolverSettings(float64_rows=0)], ids=["own", "shared"]
)
def test_many_separable_classes_of_wildly_scaled_features_converge(how):
    """As raw expression is: few rows a class, and variances over many powers of ten."""
    rng = np.random.default_rng(3)
    matrix = (rng.normal(size=(170, 40)) * 10.0 ** np.linspace(4, -1, 40)).astype(np.float32)
    codes = np.arange(170) % 20
    problem = Problem(
        "c",
        "multiclass",
        np.arange(170)[:, None],
        codes,
        tuple(f"c{k}" for k in range(20)),
        np.where(np.arange(170)[:, None] % 3 == np.arange(3), TEST, TRAIN).astype(np.int8),
    )
    probe = read_probe("linear")
    protocol = read_protocol("paper")
    (output,) = solve_problems(matrix, [problem], probe, protocol, how)
    for fold in output.folds:
        assert fold.fitted.all(), fold.reasons

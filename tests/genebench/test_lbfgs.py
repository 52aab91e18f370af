"""L-BFGS takes the steps that its method asks for, and ends at the optimum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import multiply_by, split
from sklearn.linear_model import LogisticRegression, Ridge

from genebench.probes.declaration import TEST, TRAIN
from genebench.probes.linear import fit_columns, lbfgs
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.lbfgs import (
    satisfies_wolfe,
    solve,
    solve_exactly,
    solve_in_threads,
)
from genebench.probes.linear.operators import DenseMatrix

LOSSES = {"logistic": 1, "multinomial": 4, "squared": 1}
STRENGTHS = (0.1, 1.0, 30.0)


def draw_batch(loss, seed=0, *, strengths=STRENGTHS, dtype=torch.float64):
    """A subproblem for each penalty, each on other rows; features of falling spread."""
    rng = np.random.default_rng(seed)
    n, width, n_classes = 120, 6, LOSSES[loss]
    x = 3 * rng.normal(size=(n, width)) * np.arange(1, width + 1) ** -1.0
    scores = x @ rng.normal(size=(width, max(n_classes, 2))) / 3
    if loss == "squared":
        targets = scores[:, 0] + rng.normal(size=n)
    else:
        targets = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    masks = torch.arange(n)[:, None] % 7 != torch.arange(len(strengths)) % 7
    return Batch(
        DenseMatrix(torch.from_numpy(x - x.mean(axis=0)).to(dtype), None),
        loss,
        n_classes=n_classes,
        all_targets=torch.from_numpy(targets)[:, None],
        target_columns=torch.zeros(len(strengths), dtype=torch.int64),
        masks=masks,
        folds=torch.arange(len(strengths)),
        penalty_strength=torch.tensor(strengths, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-10 if dtype == torch.float64 else 1e-6,
        row_segments=RowSegments.of((slice(0, n),), masks),
    )


def training_data(batch, number):
    """Vectors, targets and penalty of a subproblem, in numpy."""
    rows = batch.masks[:, batch.folds[number]]
    x = batch.design.coordinates[rows].double().numpy()
    return x, batch.all_targets[rows, 0].numpy(), float(batch.penalty_strength[number])


def take_vectors(parameters, number, n_classes):
    """(width + 1, classes) coefficients and intercepts of a subproblem, in numpy."""
    own = slice(number * n_classes, (number + 1) * n_classes)
    return parameters[:, own].double().numpy()


def look(batch, number, parameters):
    """Objective and (width + 1, classes) gradient of a subproblem, in numpy."""
    x, y, strength = training_data(batch, number)
    both = take_vectors(parameters, number, batch.n_classes)
    values = x @ both[:-1] + both[-1]
    if batch.loss == "squared":
        residuals = values - y[:, None]
        losses = residuals**2 / 2
    elif batch.loss == "logistic":
        signs = np.where(y == 1, -1, 1)[:, None]
        losses = np.logaddexp(0, signs * values)
        residuals = signs * np.exp(-np.logaddexp(0, -signs * values))
    else:
        logs = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
        losses = -logs[np.arange(len(y)), y]
        residuals = np.exp(logs) - np.eye(batch.n_classes)[y]
    gradient = np.vstack([x.T @ residuals + strength * both[:-1], residuals.sum(axis=0)[None]])
    return losses.sum() + strength / 2 * (both[:-1] ** 2).sum(), gradient


class ScaledPreconditioner:
    """A preconditioner times (width + 1, columns) factors on both sides."""

    def __init__(self, base, factors, n_classes):
        self.base, self.factors, self.n_classes = base, factors, n_classes

    def solve(self, gradient):
        return self.factors * self.base.solve(self.factors * gradient)

    def quadratic_form(self, coefficients):
        return self.base.quadratic_form(coefficients)

    def take(self, own):
        columns = (own[:, None] * self.n_classes + torch.arange(self.n_classes)).flatten()
        return type(self)(self.base.take(own), self.factors[:, columns], self.n_classes)


class Identity(ScaledPreconditioner):
    """Leaves gradients as they are."""

    def solve(self, gradient):
        return gradient.clone()


def scale_preconditioner(patch, find_factors, kind=ScaledPreconditioner):
    """Every preconditioner is scaled by `find_factors(width + 1, columns)`."""
    real = lbfgs.build_preconditioner

    def build(batch, parameters):
        size = batch.design.width + 1, batch.n_columns
        factors = find_factors(*size).to(batch.design.dtype)
        return kind(real(batch, parameters), factors, batch.n_classes)

    patch.setattr(lbfgs, "build_preconditioner", build)


def describe_dense(preconditioner, batch, number):
    """The (size, size) matrix of a preconditioner for one subproblem, size = width + 1, classes."""
    width, n_classes = batch.design.width, batch.n_classes
    columns = []
    for row in range(width + 1):
        for k in range(n_classes):
            unit = torch.zeros(width + 1, batch.n_columns, dtype=torch.float64)
            unit[row, number * n_classes + k] = 1
            solved = preconditioner.solve(unit)
            columns.append(take_vectors(solved, number, n_classes).ravel())
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("loss", LOSSES)
def test_directions_are_those_of_dense_bfgs_matrices(loss, monkeypatch):
    batch, built = draw_batch(loss, 1), []
    real = lbfgs.build_preconditioner

    def build(*given):
        built.append(real(*given))
        return built[-1]

    monkeypatch.setattr(lbfgs, "build_preconditioner", build)
    descent, n_compared = lbfgs._Descent(batch, initial_parameters(batch)), 0
    for _ in range(2 * lbfgs.N_PAIRS[torch.float32]):
        descent.measure()
        gradient, pairs, is_good = descent.at.gradient, descent.pairs, descent.is_good
        descent.advance(torch.zeros(3, dtype=torch.bool))
        for number in is_good.nonzero().flatten().tolist():
            down = take_vectors(gradient, number, batch.n_classes).ravel()
            if np.linalg.norm(down) < 1e-6:
                continue
            inverse = describe_dense(built[-1], batch, number)
            both = [
                [take_vectors(part, number, batch.n_classes).ravel() for part in pair[:2]]
                for pair in pairs
            ]
            both = [(step, change) for step, change in both if change.any()]
            if both:
                step, change = both[-1]
                inverse *= step @ change / (change @ inverse @ change)
            for step, change in both:
                left = np.eye(len(step)) - np.outer(step, change) / (step @ change)
                inverse = left @ inverse @ left.T + np.outer(step, step) / (step @ change)
            found = take_vectors(descent.step, number, batch.n_classes).ravel()
            expected = -inverse @ down
            np.testing.assert_allclose(found, expected, atol=1e-6 * np.linalg.norm(expected))
            n_compared += 1
    assert n_compared >= 12


@settings(deadline=None, max_examples=60)
@given(
    loss=st.sampled_from(sorted(LOSSES)),
    seed=st.integers(0, 999),
    powers=st.lists(st.floats(-1, 3), min_size=3, max_size=3),
    done=st.integers(0, 2),
)
def test_a_step_that_is_too_long_is_shortened_while_the_others_go_on(loss, seed, powers, done):
    batch = draw_batch(loss, seed)
    is_done = torch.arange(3) == done
    factors = 10.0 ** torch.tensor(powers).repeat_interleave(batch.n_classes)
    with pytest.MonkeyPatch.context() as patch:
        scale_preconditioner(patch, factors.expand)
        descent = lbfgs._Descent(batch, initial_parameters(batch))
        for _ in range(12):
            descent.measure()
            before, was_good = descent.parameters, descent.is_good
            at, shorter = descent.at, descent.share[:, None] * take_all(descent.step, batch)
            descent.advance(is_done)
            start, step, end = (
                take_all(part, batch) for part in (before, descent.step, descent.parameters)
            )
            torch.testing.assert_close(end, start + descent.is_good[:, None] * step)
            assert not step[done].any()
            moves = step.any(dim=1)
            torch.testing.assert_close(step[~was_good & moves], shorter[~was_good & moves])
            too_long = ~descent.is_good
            assert (descent.share[too_long] >= lbfgs.SHORTEST).all()
            assert (descent.share[too_long] <= lbfgs.LONGEST).all()
            noise = 1e-13 * at.objective.abs() + 1e-12
            assert (descent.at.objective <= at.objective + noise).all()
            for number in range(3):
                objective, gradient = look(batch, number, descent.parameters)
                assert float(descent.at.objective[number]) == pytest.approx(objective, rel=1e-10)
                found = take_vectors(descent.at.gradient, number, batch.n_classes)
                np.testing.assert_allclose(found, gradient, atol=1e-8)
                if descent.is_good[number] and moves[number]:
                    along = step[number].numpy()
                    slope, end_slope = (
                        look(batch, number, place)[1].ravel() @ along
                        for place in (before, descent.parameters)
                    )
                    assert slope <= 1e-12
                    assert end_slope <= lbfgs.CURVATURE * -slope + 1e-9


def take_all(parameters, batch):
    """(subproblems, (width + 1) · classes) numbers of each subproblem."""
    vectors = [take_vectors(parameters, k, batch.n_classes).ravel() for k in range(len(STRENGTHS))]
    return torch.from_numpy(np.stack(vectors))


def test_an_end_beyond_the_numbers_is_only_an_end(monkeypatch):
    batch = draw_batch("squared", 1)
    factors = torch.tensor([1.0, 1e200, 1e100], dtype=torch.float64)
    scale_preconditioner(monkeypatch, factors.expand)
    descent = lbfgs._Descent(batch, initial_parameters(batch))
    begun = descent.at.objective
    descent.advance(torch.zeros(3, dtype=torch.bool))
    assert descent.is_good.tolist() == [True, False, False]
    assert descent.share[1] == lbfgs.SHORTEST
    assert (descent.at.objective[1:] == begun[1:]).all()
    for part in (descent.parameters, descent.at.gradient):
        assert part.isfinite().all()
    assert not descent.parameters[:, 1:].any()


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_solutions_equal_scikit_learn(loss, fit_intercept):
    batch = replace(draw_batch(loss, 2), fit_intercept=fit_intercept)
    solution = solve(batch, initial_parameters(batch))
    assert solution.converged.all()
    for number in range(3):
        x, y, strength = training_data(batch, number)
        if loss == "squared":
            model = Ridge(alpha=strength, fit_intercept=fit_intercept, tol=1e-12)
        else:
            model = LogisticRegression(
                C=1 / strength,
                fit_intercept=fit_intercept,
                solver="newton-cholesky",
                tol=1e-12,
                max_iter=1000,
            )
        model.fit(x, y)
        found = take_vectors(solution.parameters, number, batch.n_classes)
        np.testing.assert_allclose(found[:-1], np.atleast_2d(model.coef_).T, atol=1e-6)
        shifts = np.ravel(model.intercept_) * fit_intercept
        np.testing.assert_allclose(
            found[-1] - found[-1].mean() * (loss == "multinomial"),
            shifts - shifts.mean() * (loss == "multinomial"),
            atol=1e-6,
        )
        gradient = look(batch, number, solution.parameters)[1]
        assert np.abs(gradient[: None if fit_intercept else -1]).max() <= 1e-8 * len(y)


def test_a_subproblem_among_others_ends_where_it_ends_alone():
    """Those of strong penalties leave early, and the numbers of the others change."""
    for loss in LOSSES:
        batch = draw_batch(loss, 3, strengths=tuple(10.0 ** np.arange(-3, 4)))
        together = solve(batch, initial_parameters(batch))
        assert together.converged.all()
        if loss != "squared":
            assert together.n_steps.max() > 2 * together.n_steps.min()
        for number in range(batch.n_subproblems):
            own = torch.tensor([number])
            part = batch.take(own)
            alone = solve(part, initial_parameters(part))
            columns = batch.columns_of(own)
            assert alone.converged.all()
            found = together.parameters[:, columns]
            torch.testing.assert_close(found, alone.parameters, atol=1e-6, rtol=1e-6)
            assert look(batch, number, together.parameters)[0] == pytest.approx(
                look(part, 0, alone.parameters)[0], rel=1e-12
            )


@pytest.mark.parametrize("loss", LOSSES)
def test_threads_end_where_one_thread_ends(loss):
    batch = draw_batch(loss, 4, strengths=tuple(10.0 ** np.linspace(-1, 2, 19)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        shared = solve_in_threads(batch, initial_parameters(batch))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    alone = solve(batch, initial_parameters(batch))
    assert shared.converged.all()
    assert (shared.n_steps > 0).all()
    torch.testing.assert_close(shared.parameters, alone.parameters, atol=1e-6, rtol=1e-6)


def draw_diagonal(size, columns):
    powers = np.random.default_rng(5).uniform(-0.3, 0.3, (size, columns))
    return torch.from_numpy(10.0**powers)


# On both sides, so that 10^±3 makes 10^±6.
WRONG = {
    "random diagonal": draw_diagonal,
    "far too short": lambda *size: torch.full(size, 1e-3),
    "far too long": lambda *size: torch.full(size, 1e3),
    "identity": torch.ones,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_a_wrong_preconditioner_costs_steps_and_not_the_optimum(loss, wrong, monkeypatch):
    batch = replace(draw_batch(loss, 6), tolerance=1e-8)
    expected = solve(batch, initial_parameters(batch))
    kind = Identity if wrong == "identity" else ScaledPreconditioner
    scale_preconditioner(monkeypatch, WRONG[wrong], kind)
    found = solve(batch, initial_parameters(batch))
    assert found.converged.all()
    assert (found.gradient_norm <= 1e-8).all()
    assert found.n_steps.sum() >= expected.n_steps.sum()
    values, wanted = (
        multiply_by(batch.design, *split(solution.parameters)).view(-1, 3, batch.n_classes)
        for solution in (found, expected)
    )
    if batch.n_classes > 1:
        values, wanted = (part - part.mean(dim=2, keepdim=True) for part in (values, wanted))
    torch.testing.assert_close(values, wanted, atol=1e-5, rtol=1e-5)


class Uphill(ScaledPreconditioner):
    """Turns gradients round, so that directions lead uphill."""

    def solve(self, gradient):
        return -super().solve(gradient)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_step_leads_uphill(loss, monkeypatch):
    batch = draw_batch(loss, 6)
    scale_preconditioner(monkeypatch, lambda *size: torch.full(size, 1e-9), Uphill)
    start = initial_parameters(batch)
    solution = solve(batch, start.clone())
    assert not solution.converged.any()
    assert torch.equal(solution.parameters, start)


def test_a_small_gradient_along_a_weak_axis_is_not_convergence():
    """The signal is in a feature whose gradient is below the tolerance from the start."""
    rng = np.random.default_rng(10)
    y = np.arange(200) % 2
    x = np.stack([rng.normal(size=200), 1e-8 * (y + 0.3 * rng.normal(size=200))], axis=1)
    batch = replace(
        draw_batch("logistic", strengths=(1e-18,)),
        design=DenseMatrix(torch.from_numpy(x - x.mean(axis=0)), None),
        all_targets=torch.from_numpy(y)[:, None],
        masks=torch.ones(200, 1, dtype=torch.bool),
        row_segments=RowSegments.of((slice(0, 200),), torch.ones(200, 1, dtype=torch.bool)),
        tolerance=1e-6,
    )
    strong = replace(batch, design=DenseMatrix(batch.design.coordinates[:, :1], None))
    start = initial_parameters(batch)
    start[[0, 2]] = solve(strong, initial_parameters(strong)).parameters
    values = multiply_by(batch.design, *split(solve(batch, start).parameters))[:, 0].numpy()
    assert values[y == 1].mean() > values[y == 0].mean() + 2


@pytest.mark.parametrize("loss", ["logistic", "multinomial"])
def test_what_converged_is_within_the_tolerance(loss):
    strengths = tuple(10.0 ** np.linspace(-3, 3, 300))
    for tolerance in (1e-3, 1e-5):
        batch = replace(draw_batch(loss, 11, strengths=strengths), tolerance=tolerance)
        solution = solve(batch, initial_parameters(batch))
        assert solution.converged.all()
        assert solution.gradient_norm.max() <= tolerance
        descent = lbfgs._Descent(batch, solution.parameters)
        _, left = descent.measure()
        assert left.max() <= 1.1


@pytest.mark.parametrize("loss", LOSSES)
def test_what_float32_cannot_reach_is_finished_in_float64(loss):
    exact = replace(draw_batch(loss, 7), tolerance=1e-11)
    batch = replace(exact, design=DenseMatrix(exact.design.coordinates.float(), None))
    rough = solve(batch, initial_parameters(batch))
    assert not rough.converged.any()
    assert (rough.n_steps < lbfgs.MAX_STEPS).all()
    start = initial_parameters(batch)
    parts = solve_exactly(batch, start, batch.n_classes)
    assert [part.own.tolist() for part in parts] == [[0], [1], [2]]
    expected = solve(exact, initial_parameters(exact)).parameters
    for own, part, solution in parts:
        columns = exact.columns_of(own)
        assert solution.converged.all()
        assert (solution.gradient_norm <= 1e-11).all()
        assert solution.n_steps > rough.n_steps[own]
        assert part.design.dtype == solution.parameters.dtype == torch.float64
        wanted = expected[:, columns]
        torch.testing.assert_close(solution.parameters, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(start[:, columns], solution.parameters.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_converges_is_not_solved_again(dtype):
    batch = draw_batch("logistic", 7, dtype=dtype)
    (part,) = solve_exactly(batch, initial_parameters(batch), 1)
    assert part.own.tolist() == [0, 1, 2]
    assert part.solution.converged.all()
    assert part.solution.parameters.dtype == dtype


def test_after_the_last_step_allowed_it_says_where_it_stands(monkeypatch):
    monkeypatch.setattr(lbfgs, "MAX_STEPS", 2)
    batch = draw_batch("logistic", 8, strengths=(1e-3, 1.0, 1e9))
    solution = solve(batch, initial_parameters(batch))
    assert solution.converged.tolist() == [False, False, True]
    assert solution.n_steps.tolist()[:2] == [2, 2]
    length = np.sqrt(float(batch.design.spectrum.sum()) / batch.design.n_rows)
    for number in range(3):
        gradient = look(batch, number, solution.parameters)[1]
        gradient[:-1] /= length
        norm = np.linalg.norm(gradient) / len(training_data(batch, number)[0])
        assert float(solution.gradient_norm[number]) == pytest.approx(norm, rel=1e-6, abs=1e-12)


def test_where_it_starts_at_the_optimum_it_takes_no_step():
    batch = draw_batch("multinomial", 9)
    first = solve(batch, initial_parameters(batch))
    again = solve(batch, first.parameters.clone())
    assert not again.n_steps.any()
    assert torch.equal(first.parameters, again.parameters)


def wolfe(start, start_slope, end, end_slope, loss="logistic", dtype=torch.float64):
    numbers = (
        torch.tensor([part] * 3, dtype=torch.float64)
        for part in (start, start_slope, end, end_slope)
    )
    return bool(satisfies_wolfe(draw_batch(loss, dtype=dtype), *numbers).all())


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_beyond_the_numbers_is_not_good(wrong):
    assert not wolfe(100.0, -1.0, wrong, 0.0)
    assert not wolfe(100.0, -1.0, 99.0, wrong)
    assert not wolfe(100.0, -1.0, wrong, wrong)


def test_a_good_step_lowers_the_objective_and_does_not_end_on_a_steep_rise():
    assert wolfe(100.0, -1.0, 99.5, 0.1)
    assert wolfe(100.0, -1.0, 99.5, -0.9)
    assert not wolfe(100.0, -1.0, 99.5, 0.9)
    assert not wolfe(100.0, -1.0, 100.5, 0.1)


def test_objectives_that_differ_by_rounding_are_told_apart_by_their_slopes():
    assert wolfe(100.0, -1e-7, 100.0 + 1e-5, 0.0, dtype=torch.float32)
    assert not wolfe(100.0, -1e-7, 100.0 + 1e-5, 0.0)
    assert not wolfe(100.0, -1e-2, 100.0 + 1e-5, 1e-2, dtype=torch.float32)
    assert not wolfe(1e-6, -1e-7, 2e-6, 0.0, dtype=torch.float32)
    # Each multinomial loss is rounded to the eps of a probability near one.
    assert wolfe(1e-6, -1e-7, 2e-6, 0.0, "multinomial", torch.float32)


@pytest.mark.parametrize("seed", [0, 16, 35, 38])
def test_losses_that_are_rounded_away_do_not_stop_a_multinomial_fit(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(34, 98))
    matrix = 1e3 * (matrix + rng.normal(size=98)) / np.sqrt(98)
    logits = matrix @ rng.normal(size=(98, 3)) / matrix.std() + rng.gumbel(size=(34, 3))
    split = np.where(np.arange(34) % 3 > 0, TRAIN, TEST)[:, None]
    fits = fit_columns(matrix, logits.argmax(axis=1), split, loss="multinomial", C=100.0)
    assert fits.converged.all(), fits.reason


@pytest.mark.parametrize("name", ["class_weight", "sample_weight"])
def test_losses_of_large_weights_are_rounded_more(name):
    """A loss near 0 is rounded to eps times its weight."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        codes = np.arange(60) % 3
        matrix = rng.normal(size=(60, 2)) / 2 + 0.3 * codes[:, None]
        split = np.where(np.arange(60) < 6, TEST, TRAIN)[:, None]
        weights = np.array([1e3, 1e-4, 1e-4])
        chosen = weights[codes] if name == "sample_weight" else weights
        fits = fit_columns(matrix, codes, split, loss="multinomial", **{name: chosen})
        assert fits.converged.all(), fits.reason

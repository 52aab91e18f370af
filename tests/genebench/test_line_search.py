"""Where steps end: the conditions of Wolfe, against objectives computed apart in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import multiply_by

from genebench.probes.declaration import TEST, TRAIN
from genebench.probes.linear import fit_columns
from genebench.probes.linear.batch import Batch, RowSegments
from genebench.probes.linear.objective import LOSSES, Point, evaluate
from genebench.probes.linear.operators import DenseMatrix
from genebench.probes.linear.steps import CURVATURE, advance, satisfies_wolfe, search

N, D = 60, 4
STRENGTHS = np.array([0.1, 1.0, 10.0])


def make_line(seed, lengths):
    """Three subproblems that stand anywhere, each with a downhill change of its own length."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(N, D)), rng.integers(0, 2, N)
    masks = np.arange(N)[:, None] % 3 != np.arange(3)
    rows = torch.from_numpy(masks)
    batch = Batch(
        DenseMatrix(torch.from_numpy(x), None),
        LOSSES["logistic"],
        n_classes=1,
        all_targets=torch.from_numpy(y)[:, None],
        target_columns=torch.zeros(3, dtype=torch.int64),
        masks=rows,
        folds=torch.arange(3),
        penalty_strength=torch.from_numpy(STRENGTHS),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of((slice(0, N),), rows),
    )
    coefficients, intercepts = rng.normal(size=(D, 3)), rng.normal(size=3)

    def residuals(values):
        return 1 / (1 + np.exp(-np.clip(values, -700, 700))) - y[:, None]

    def look(change, steps):
        """(3,) objectives and their slopes along the change."""
        w, b = coefficients + change[0] * steps, intercepts + change[1] * steps
        values, moved = x @ w + b, x @ change[0] + change[1]
        losses = np.logaddexp(0, values) - y[:, None] * values
        totals = (losses * masks).sum(axis=0) + STRENGTHS / 2 * (w**2).sum(axis=0)
        slopes = (residuals(values) * moved * masks).sum(axis=0)
        return totals, slopes + STRENGTHS * (w * change[0]).sum(axis=0)

    rest = residuals(x @ coefficients + intercepts) * masks
    down = -np.vstack([x.T @ rest + STRENGTHS * coefficients, rest.sum(axis=0)])
    down *= lengths / np.linalg.norm(down, axis=0)
    change = down[:D], down[D]
    tensors = tuple(torch.from_numpy(part.copy()) for part in change)
    point = Point(
        (torch.from_numpy(coefficients.copy()), torch.from_numpy(intercepts.copy())),
        torch.from_numpy(x @ coefficients + intercepts),
    )
    moved = Point(tensors, multiply_by(batch.design, *tensors))
    return batch, point, moved, lambda steps: look(change, steps)


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    powers=st.lists(st.floats(-2, 9), min_size=3, max_size=3),
)
def test_a_step_ends_lower_and_near_where_its_line_is_lowest(seed, powers):
    batch, point, change, look = make_line(seed, 10.0 ** np.array(powers))
    begun, step = point.parameters[1].clone(), change.parameters[1].clone()
    ended = advance(batch, point, evaluate(batch, point, batch.design), change, batch.design)
    length = (point.parameters[1] - begun) / step
    assert bool(((length > 0) & (length <= 1 + 1e-9)).all())
    totals, slopes = look(length.numpy())
    np.testing.assert_allclose(ended.objective.numpy(), totals, rtol=1e-6)
    assert (totals < look(0.0)[0]).all()
    assert (slopes <= CURVATURE * np.abs(look(0.0)[1]) * (1 + 1e-9)).all()
    is_short = length.numpy() < 1 - 1e-6
    assert (np.abs(slopes) <= CURVATURE * np.abs(look(0.0)[1]) * (1 + 1e-9))[is_short].all()
    torch.testing.assert_close(point.values, multiply_by(batch.design, *point.parameters))


def test_an_end_beyond_the_numbers_is_only_an_end():
    batch, point, change, look = make_line(1, np.full(3, 1e3))
    beyond = torch.tensor([torch.nan, torch.inf, torch.nan], dtype=torch.float64)
    begin = [torch.from_numpy(part) for part in look(0.0)]
    length, ended = search(batch, point, change, *begin, beyond, batch.design)
    np.testing.assert_allclose(ended.objective.numpy(), look(length.numpy())[0], rtol=1e-9)
    assert ((length > 0) & (length < 1)).all()
    assert (look(length.numpy())[0] < look(0.0)[0]).all()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_beyond_the_numbers_is_not_good(wrong):
    batch, _, _, look = make_line(0, np.ones(3))
    objective, slope = (torch.from_numpy(part) for part in look(0.0))
    whole, nothing = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    bad = torch.full((3,), wrong, dtype=torch.float64)
    assert not satisfies_wolfe(batch, objective, slope, whole, bad, nothing).any()
    assert not satisfies_wolfe(batch, objective, slope, whole, objective - 1, bad).any()


@pytest.mark.parametrize("seed", [0, 16, 35, 38])
def test_losses_that_are_rounded_away_do_not_stop_a_multinomial_fit(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(34, 98))
    matrix = 1e3 * (matrix + rng.normal(size=98)) / np.sqrt(98)
    logits = matrix @ rng.normal(size=(98, 3)) / matrix.std() + rng.gumbel(size=(34, 3))
    split = np.where(np.arange(34) % 3 > 0, TRAIN, TEST)[:, None]
    fits = fit_columns(matrix, logits.argmax(axis=1), split, loss="multinomial", C=100.0)
    assert fits.converged.all(), fits.reason

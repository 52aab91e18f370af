"""Every system's equations are solved as far as it asks, whenever it leaves."""

import numpy as np
import pytest
import torch

from genebench.probes.linear.axes import find_axes
from genebench.probes.linear.batches import Batch, find_start
from genebench.probes.linear.conjugate import _curve, dot, find_step
from genebench.probes.linear.designs import Dense
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.parts import Runs
from genebench.probes.linear.passes import move_to
from genebench.probes.linear.slopes import find_slope

N, WIDTH, FOLDS = 400, 30, 5


def draw_equations(n_classes):
    """Five folds with penalties, and so numbers of products, far apart; where they all begin."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(N, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH)))
    masks = torch.arange(N)[:, None] * FOLDS // N != torch.arange(FOLDS)
    rows = tuple(slice(k * N // FOLDS, (k + 1) * N // FOLDS) for k in range(FOLDS))
    batch = Batch(
        Dense(x, None),
        LOSSES["multinomial" if n_classes > 1 else "logistic"],
        n_classes=n_classes,
        outcomes=torch.from_numpy(rng.integers(0, max(n_classes, 2), N))[:, None],
        units=torch.zeros(FOLDS, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(FOLDS),
        strength=10.0 ** torch.arange(-2.0, 3.0, dtype=torch.float64),
        scales=None,
        tolerance=1e-6,
        runs=Runs.of(rows, masks),
    )
    values = move_to(batch, find_start(batch)).values
    start = torch.zeros(WIDTH, batch.n_columns, dtype=torch.float64)
    slope = find_slope(batch, start, values.__getitem__, batch.empty(), batch.design)
    return batch, slope


@pytest.mark.parametrize("n_classes", [1, 4])
def test_a_step_leaves_no_more_of_any_gradient_than_was_asked_for(n_classes):
    batch, slope = draw_equations(n_classes)
    axes = find_axes(batch, slope.weights, batch.design)
    forcing = 10.0 ** -torch.arange(1.0, 6.0, dtype=torch.float64)
    is_open = torch.ones(FOLDS, dtype=torch.bool)
    arguments = batch, slope.weights, slope.pair, axes, forcing, is_open, batch.design
    change, n_products = find_step(*arguments)
    assert n_products > 5
    curved = _curve(batch, slope.weights, change, batch.design)
    rest = tuple(part + down for part, down in zip(curved, slope.pair, strict=True))
    left, whole = (dot(n_classes, pair, axes.divide(pair)) for pair in (rest, slope.pair))
    assert (left <= forcing.square() * whole * (1 + 1e-6)).all()


def test_systems_that_are_not_open_stand_still():
    batch, slope = draw_equations(4)
    axes = find_axes(batch, slope.weights, batch.design)
    forcing = torch.full((FOLDS,), 1e-3, dtype=torch.float64)
    is_open = torch.tensor([True, False, True, False, False])
    arguments = batch, slope.weights, slope.pair, axes, forcing, is_open, batch.design
    moved = torch.stack(
        [part.abs().reshape(-1, FOLDS, 4).amax(dim=(0, 2)) for part in find_step(*arguments)[0]]
    )
    assert torch.equal(moved.amax(dim=0) > 0, is_open)

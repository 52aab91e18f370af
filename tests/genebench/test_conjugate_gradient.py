"""Every subproblem's equations are solved as far as it asks, whenever it leaves."""

import numpy as np
import pytest
import torch

from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.objective import LOSSES, dot, evaluate, hessian_product, point_at
from genebench.probes.linear.operators import DenseMatrix
from genebench.probes.linear.preconditioner import build_preconditioner
from genebench.probes.linear.steps import newton_step

N, WIDTH, FOLDS = 400, 30, 5


def draw_equations(n_classes):
    """Five folds with penalties, and so numbers of products, far apart; where they all begin."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(N, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH)))
    masks = torch.arange(N)[:, None] * FOLDS // N != torch.arange(FOLDS)
    rows = tuple(slice(k * N // FOLDS, (k + 1) * N // FOLDS) for k in range(FOLDS))
    batch = Batch(
        DenseMatrix(x, None),
        LOSSES["multinomial" if n_classes > 1 else "logistic"],
        n_classes=n_classes,
        all_targets=torch.from_numpy(rng.integers(0, max(n_classes, 2), N))[:, None],
        target_columns=torch.zeros(FOLDS, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(FOLDS),
        penalty_strength=10.0 ** torch.arange(-2.0, 3.0, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of(rows, masks),
    )
    point = point_at(batch, initial_parameters(batch))
    return batch, evaluate(batch, point, batch.design)


@pytest.mark.parametrize("n_classes", [1, 4])
def test_a_step_leaves_no_more_of_any_gradient_than_was_asked_for(n_classes):
    batch, slope = draw_equations(n_classes)
    preconditioner = build_preconditioner(batch, slope.weights, batch.design)
    forcing = 10.0 ** -torch.arange(1.0, 6.0, dtype=torch.float64)
    is_open = torch.ones(FOLDS, dtype=torch.bool)
    arguments = (
        batch,
        slope.weights,
        slope.gradient,
        preconditioner,
        forcing,
        is_open,
        batch.design,
    )
    change, n_products = newton_step(*arguments)
    assert n_products > 5
    curved = hessian_product(batch, slope.weights, change, batch.design)
    rest = tuple(part + down for part, down in zip(curved, slope.gradient, strict=True))
    left, whole = (
        dot(n_classes, pair, preconditioner.solve(pair)) for pair in (rest, slope.gradient)
    )
    assert (left <= forcing.square() * whole * (1 + 1e-6)).all()


def test_systems_that_are_not_open_stand_still():
    batch, slope = draw_equations(4)
    preconditioner = build_preconditioner(batch, slope.weights, batch.design)
    forcing = torch.full((FOLDS,), 1e-3, dtype=torch.float64)
    is_open = torch.tensor([True, False, True, False, False])
    arguments = (
        batch,
        slope.weights,
        slope.gradient,
        preconditioner,
        forcing,
        is_open,
        batch.design,
    )
    moved = torch.stack(
        [part.abs().reshape(-1, FOLDS, 4).amax(dim=(0, 2)) for part in newton_step(*arguments)[0]]
    )
    assert torch.equal(moved.amax(dim=0) > 0, is_open)

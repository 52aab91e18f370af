"""The way to where Newton's steps hold, against optima that are known otherwise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import multiply_by

from genebench.probes.linear import newton_cg
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.objective import LOSSES, Point, evaluate, gradient_norm, point_at
from genebench.probes.linear.operators import DenseMatrix, to_low_precision
from genebench.probes.linear.steps import advance, warm_up


def draw_batch(seed, *, norm=30.0, precision="float32", n=1500, width=64, classes=8):
    """Three folds of classes that compete, in preconditioner of falling spread."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, width)) * np.arange(1, width + 1) ** -0.6
    scores = matrix @ rng.normal(size=(width, classes)) + rng.gumbel(size=(n, classes))
    matrix *= norm / np.linalg.norm(matrix, axis=1, keepdims=True)
    coordinates = torch.from_numpy((matrix - matrix.mean(axis=0)).astype(np.float32))
    masks = torch.from_numpy(np.arange(n)[:, None] % 3 != np.arange(3))
    return Batch(
        DenseMatrix(coordinates, None, low_precision=to_low_precision(coordinates, precision)),
        LOSSES["multinomial"],
        n_classes=classes,
        all_targets=torch.from_numpy(scores.argmax(axis=1))[:, None],
        target_columns=torch.zeros(3, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(3),
        penalty_strength=torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of((slice(0, n),), masks),
    )


def evaluate_at(batch, pair):
    return evaluate(batch, point_at(batch, pair), batch.design)


@pytest.mark.parametrize("norm", [1.0, 30.0])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_ends_near_where_objectives_are_lowest(precision, norm):
    batch = draw_batch(0, norm=norm, precision=precision)
    pair = initial_parameters(batch)
    begun = evaluate_at(batch, pair)
    first = warm_up(batch, pair, batch.design.low_precision or batch.design)
    torch.testing.assert_close(first, gradient_norm(batch, begun), rtol=0.02, atol=0.0)
    ended, best = (
        evaluate_at(batch, pair),
        evaluate_at(batch, newton_cg.solve(batch, initial_parameters(batch)).parameters),
    )
    assert (ended.objective - best.objective <= 0.02 * (begun.objective - best.objective)).all()
    assert (gradient_norm(batch, ended) <= 0.05 * first).all()


def test_classes_need_fewer_products_after_it(monkeypatch):
    batch = draw_batch(2)
    after = newton_cg.solve(batch, initial_parameters(batch))
    monkeypatch.setattr(newton_cg, "warm_up", lambda *_: None)
    alone = newton_cg.solve(batch, initial_parameters(batch))
    assert after.converged.all()
    assert alone.converged.all()
    assert after.n_products <= 0.7 * alone.n_products
    found, expected = (
        multiply_by(batch.design, *solution.parameters) for solution in (after, alone)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-2)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 99),
    powers=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_a_step_never_ends_higher_and_those_that_stand_still_stay(seed, powers):
    batch = draw_batch(seed, n=90, width=6, classes=3)
    point = point_at(batch, initial_parameters(batch))
    slope = evaluate_at(batch, point.parameters)
    falls = slope.gradient[0].square().sum(dim=0) + slope.gradient[1].square()
    length = 10.0 ** torch.tensor(powers) / falls.view(3, 3).sum(dim=1).sqrt()
    length[seed % 3] = 0.0
    moves = length > 0
    steps = tuple(-part * length.repeat_interleave(3) for part in slope.gradient)
    change = Point(steps, multiply_by(batch.design, *steps))
    before = point.parameters[0].clone()
    ended = advance(batch, point, slope, change, batch.design)
    assert (ended.objective <= slope.objective * (1 + 1e-3)).all()
    stands = (~moves).repeat_interleave(3)
    assert torch.equal(point.parameters[0][:, stands], before[:, stands])
    moved = (point.parameters[0] - before).view(6, 3, 3).norm(dim=(0, 2))
    assert ((ended.objective < slope.objective) | (moved < 1e-3))[moves].all()
    is_short = moves & (torch.tensor(powers) < -1)
    assert (ended.objective < slope.objective)[is_short].all()
    expected = multiply_by(batch.design, *point.parameters)
    torch.testing.assert_close(point.values, expected, rtol=1e-3, atol=1e-2)

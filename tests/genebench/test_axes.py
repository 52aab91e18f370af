"""The preconditioner is exact where it claims to be, and a preconditioner everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import genebench.probes
import genebench.protocols
from genebench.probes import TEST, TRAIN, Probe, Problem
from genebench.probes.linear import Settings, solve_problems
from genebench.probes.linear.axes import find_axes
from genebench.probes.linear.batches import Batch, move_to, start_point
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.spaces import Space
from genebench.protocols import Protocol


def load(kind, package, name):
    path = Path(package.__file__).parent / f"{name}.yaml"
    return kind.model_validate(yaml.safe_load(path.read_text()))


def draw_batch(rng, n, d, classes, *, strength=0.5):
    """Two systems of classes of unequal size, on all rows and on some, in principal axes."""
    matrix = rng.normal(size=(n, d)).astype(np.float32) @ rng.normal(size=(d, d)).astype(np.float32)
    space = Space(matrix, standardise=False, device=torch.device("cpu"), precision="float32")
    codes = rng.integers(0, classes, n) * rng.integers(0, 2, n)
    masks = torch.ones(n, 2, dtype=torch.bool)
    masks[: n // 3, 1] = False
    return Batch(
        space.prepare(torch.arange(n)).design.double(),
        LOSSES["multinomial"],
        n_classes=classes,
        outcomes=torch.from_numpy(codes[:, None] == np.arange(classes)),
        units=torch.tensor([0, 0]),
        masks=masks,
        folds=torch.tensor([0, 1]),
        strength=torch.full((2,), strength, dtype=torch.float64),
        scales=None,
        tolerance=1e-10,
    )


def axes_at(batch, point):
    everything = slice(None)
    mask, targets = batch.mask(everything), batch.targets(everything)
    _, _, weights = batch.loss.slopes(point.values, targets, mask)
    return find_axes(batch, weights), weights


def curve(batch, weights, coefficients, intercepts):
    """Second derivatives times a change, written out row by row."""
    moved = batch.design.multiply(coefficients, intercepts)
    moved = batch.loss.curve(moved, weights, batch.n_classes)
    sums = batch.design.zeros(batch.n_columns)
    batch.design.collect(sums, slice(None), moved)
    return batch.design.finish(sums) + batch.penalise(coefficients), moved.sum(dim=0)


def test_where_all_rows_weigh_the_same_one_division_solves_the_equations_of_all_classes():
    rng = np.random.default_rng(1)
    batch = draw_batch(rng, 200, 7, 4).take(torch.tensor([0]))
    axes, weights = axes_at(batch, start_point(batch))
    coefficients = torch.from_numpy(rng.normal(size=(7, 4)))
    intercepts = torch.from_numpy(rng.normal(size=4))
    found, found_b = axes.divide(curve(batch, weights, coefficients, intercepts))
    torch.testing.assert_close(found, coefficients, rtol=1e-4, atol=1e-4)
    # What moves all classes alike changes nothing, and is left out.
    torch.testing.assert_close(found_b, intercepts - intercepts.mean(), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 6), scale=st.floats(0.0, 30.0), seed=st.integers(0, 999))
def test_at_any_point_it_is_symmetric_positive_and_its_own_inverse_of_lengths(classes, scale, seed):
    rng = np.random.default_rng(seed)
    batch = draw_batch(rng, 60, 5, classes)
    steps = torch.from_numpy(scale * rng.normal(size=(5, batch.n_columns)))
    axes, _ = axes_at(batch, move_to(batch, steps, steps[0]))
    left, right = torch.from_numpy(rng.normal(size=(2, 5, batch.n_columns)))
    nothing = torch.zeros_like(left[0])
    solved_left, solved_right = axes.divide((left, nothing))[0], axes.divide((right, nothing))[0]
    crossed = (left * solved_right).sum()
    torch.testing.assert_close(crossed, (solved_left * right).sum(), rtol=1e-8, atol=1e-10)
    own = (left * solved_left).sum()
    assert own > 0
    torch.testing.assert_close(axes.lengths(solved_left).sum(), own, rtol=1e-8, atol=1e-10)


def test_the_axes_of_some_systems_are_those_among_all():
    rng = np.random.default_rng(2)
    batch = draw_batch(rng, 90, 4, 3)
    axes, _ = axes_at(batch, start_point(batch))
    pair = (torch.from_numpy(rng.normal(size=(4, 6))), torch.from_numpy(rng.normal(size=6)))
    columns = torch.arange(3, 6)
    some = axes.take(torch.tensor([1]), columns)
    found = some.divide((pair[0][:, columns], pair[1][columns]))
    for part, whole in zip(found, axes.divide(pair), strict=True):
        torch.testing.assert_close(part, whole[..., columns])


@pytest.mark.parametrize("how", [Settings(), Settings(own_rows=0)], ids=["own", "shared"])
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
    probe = load(Probe, genebench.probes, "linear")
    protocol = load(Protocol, genebench.protocols, "paper")
    (output,) = solve_problems(matrix, [problem], probe, protocol, how)
    for fold in output.folds:
        assert fold.fitted.all(), fold.reasons

"""How far steps go, against objectives and derivatives computed apart."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian, jacobian

from genebench.probes.linear.batches import Batch, Point
from genebench.probes.linear.designs import Dense
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.planes import FLAT, Plane

N, D, SYSTEMS = 60, 4, 3
STRENGTHS = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)


def make_plane(seed, n_classes, sizes, *, scaled=False):
    """Three systems that stand anywhere, with a downhill change and one that is anything.

    Returns the plane, and the (systems,) objectives after (changes, columns) lengths, differently
    computed.
    """
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(N, D)))
    classes = torch.from_numpy(rng.integers(0, max(n_classes, 2), N))
    y = torch.nn.functional.one_hot(classes)[:, -n_classes:].double()
    masks = torch.from_numpy(np.arange(N)[:, None] % 3 != np.arange(SYSTEMS))
    columns = SYSTEMS * n_classes
    scales = torch.from_numpy(rng.uniform(0.5, 2, (D, SYSTEMS))) if scaled else None
    batch = Batch(
        Dense(x, None),
        LOSSES["logistic" if n_classes == 1 else "multinomial"],
        n_classes=n_classes,
        outcomes=y,
        units=torch.zeros(SYSTEMS, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(SYSTEMS),
        strength=STRENGTHS,
        scales=scales,
        tolerance=1e-6,
    )

    def point(w, b):
        return Point(w, b, x @ w + b)

    def objectives(w, b):
        values = (x @ w + b).view(N, SYSTEMS, n_classes)
        truth = y[:, None].expand_as(values)
        if n_classes == 1:
            losses = (torch.nn.functional.softplus(values) - truth * values)[:, :, 0]
        else:
            losses = torch.logsumexp(values, dim=2) - (truth * values).sum(dim=2)
        squares = w.view(D, SYSTEMS, n_classes).square().sum(dim=2)
        penalty = (squares * (1.0 if scales is None else scales)).sum(dim=0)
        return (losses * masks).sum(dim=0) + STRENGTHS / 2 * penalty

    w, b = (
        torch.from_numpy(rng.normal(size=(D, columns))),
        torch.from_numpy(rng.normal(size=columns)),
    )
    down = jacobian(lambda w, b: objectives(w, b).sum(), (w, b))
    size = torch.as_tensor(sizes).repeat_interleave(n_classes)
    length = (down[0].square().sum(dim=0) + down[1].square()).sqrt()
    changes = (
        point(-down[0] * size / length, -down[1] * size / length),
        point(torch.from_numpy(rng.normal(size=(D, columns))), torch.zeros(columns).double()),
    )

    def after(lengths):
        ahead = list(zip(changes, lengths, strict=True))
        return objectives(
            w + sum(change.coefficients * along for change, along in ahead),
            b + sum(change.intercepts * along for change, along in ahead),
        )

    nothing = torch.zeros(2, columns).double()
    slopes = jacobian(lambda lengths: after(lengths).sum(), nothing)
    # What the plane moves in place is its own.
    own = tuple(point(c.coefficients.clone(), c.intercepts.clone()) for c in changes)
    return Plane(batch, point(w.clone(), b.clone()), own, after(nothing), slopes), after


def slopes_at(after, lengths):
    return jacobian(lambda lengths: after(lengths).sum(), lengths)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_a_look_gives_the_objective_and_both_its_derivatives_by_the_lengths(n_classes, scaled):
    plane, after = make_plane(0, n_classes, [0.1, 1.0, 3.0], scaled=scaled)
    lengths = torch.from_numpy(np.random.default_rng(1).normal(size=plane.slopes.shape))
    total, slopes, second = plane.look(lengths)
    torch.testing.assert_close(total, after(lengths))
    torch.testing.assert_close(slopes, slopes_at(after, lengths))
    size = 2 * n_classes
    whole = hessian(lambda lengths: after(lengths).sum(), lengths)
    whole = whole.view(2, SYSTEMS, n_classes, 2, SYSTEMS, n_classes)
    for system in range(SYSTEMS):
        expected = whole[:, system, :, :, system].reshape(size, size)
        torch.testing.assert_close(second[system], expected)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 999),
    n_classes=st.sampled_from([1, 2, 4]),
    powers=st.lists(st.floats(-2, 9), min_size=3, max_size=3),
)
def test_a_search_ends_lower_and_near_where_the_objective_is_lowest(seed, n_classes, powers):
    plane, after = make_plane(seed, n_classes, 10.0 ** np.array(powers))
    lengths = plane.search(slopes_at(after, plane.whole))
    found, best = after(lengths), lengths.clone()
    assert (found < plane.total).all()
    # Newton's method, step by step halved until it falls, to its very end.
    for _ in range(30):
        total, slopes, second = plane.look(best)
        rest = slopes.view(2, SYSTEMS, -1).transpose(0, 1).flatten(1)
        step = -torch.linalg.pinv(second, hermitian=True) @ rest[:, :, None]
        step = step.view(SYSTEMS, 2, -1).transpose(0, 1).flatten(1)
        for halving in range(20):
            falls = (after(best + step / 2**halving) < total).repeat_interleave(n_classes)
            best, step = torch.where(falls, best + step / 2**halving, best), step * ~falls
    left, gained = found - after(best), plane.total - found
    assert (left <= 0.1 * gained + 1e-9).all()


def test_classes_go_as_far_as_each_of_them_should():
    plane, after = make_plane(3, 4, [30.0, 30.0, 30.0])
    lengths = plane.search(slopes_at(after, plane.whole))
    shares = torch.linspace(0, 1, 1001).double()
    alike = torch.stack([after(plane.whole * share) for share in shares])
    assert (after(lengths) < alike.min(dim=0).values).all()
    assert (lengths[0].view(SYSTEMS, 4).std(dim=1) > 0).all()


@pytest.mark.parametrize("n_classes", [1, 3])
def test_a_moved_point_stands_where_its_lengths_lead(n_classes):
    plane, _ = make_plane(5, n_classes, [1.0, 1.0, 1.0])
    lengths = torch.from_numpy(np.random.default_rng(2).normal(size=plane.slopes.shape))
    before = plane.point.coefficients.clone()
    expected, values = plane.coefficients(lengths), plane.values(lengths)(slice(0, N))
    moved = plane.move(lengths)
    torch.testing.assert_close(plane.point.coefficients, expected)
    torch.testing.assert_close(plane.point.values, values)
    torch.testing.assert_close(moved.coefficients, expected - before)
    here = plane.batch.design.multiply(plane.point.coefficients, plane.point.intercepts)
    torch.testing.assert_close(plane.point.values, here)


def test_some_of_the_systems_are_searched_as_all_are():
    plane, after = make_plane(7, 3, [100.0, 1e4, 3.0])
    slopes = slopes_at(after, plane.whole)
    together, columns = plane.search(slopes), torch.tensor([0, 1, 2, 6, 7, 8])
    some = plane.take(torch.tensor([0, 2]), columns).search(slopes[:, columns])
    torch.testing.assert_close(some, together[:, columns])


def test_an_end_beyond_the_numbers_is_only_an_end():
    plane, after = make_plane(1, 1, [1e3, 1e3, 0.1])
    beyond = torch.tensor([[torch.nan, torch.inf, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    lengths = plane.search(beyond)
    assert lengths.isfinite().all()
    assert (after(lengths) < plane.total).all()


class Indefinite(Plane):
    """A plane whose second derivatives rounding has left without a meaning."""

    def look(self, lengths):
        total, slopes, second = super().look(lengths)
        noise = torch.randn(second.shape, generator=torch.Generator().manual_seed(0)).double()
        noise *= second.abs().amax()
        return total, slopes, second + noise + noise.mT


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_second_derivatives_without_a_meaning_do_not_lead_uphill(n_classes):
    for seed in range(10):
        plane, after = make_plane(seed, n_classes, [1.0, 100.0, 1e4])
        plane = Indefinite(*(getattr(plane, field.name) for field in fields(plane)))
        lengths = plane.search(slopes_at(after, plane.whole))
        assert lengths.isfinite().all()
        assert (after(lengths) <= plane.total).all()


def test_nothing_good_is_no_step():
    plane, _ = make_plane(2, 3, [1.0, 1.0, 1.0])
    for change in plane.changes:
        change.values.fill_(torch.nan)
    assert not plane.search(plane.slopes).any()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_beyond_the_numbers_is_not_good(wrong):
    plane, _ = make_plane(0, 2, [1.0, 1.0, 1.0])
    bad, nothing = torch.full_like(plane.total, wrong), torch.zeros_like(plane.slopes)
    assert not plane.is_good(bad, nothing).any()
    assert not plane.is_good(plane.total - 1, torch.full_like(nothing, wrong)).any()


def test_a_whole_step_is_good_where_it_falls_and_hardly_rises_at_its_end():
    plane, _ = make_plane(0, 1, [1.0, 1.0, 1.0])
    fallen, ends = plane.total - 1e3, torch.zeros_like(plane.slopes)
    assert plane.is_good(fallen, ends).all()
    assert plane.is_good(fallen, plane.slopes).all()
    assert not plane.is_good(plane.total + 1, ends).any()
    assert not plane.is_good(fallen, -2 * FLAT * plane.slopes).any()

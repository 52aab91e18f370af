"""Newton's method with preconditioned conjugate gradients, for many systems at once.

All systems of a batch share one design, so each step is a product of matrices. Steps are inexact
(Nocedal and Wright 2006, algorithm 7.1): a system's equations are solved only as far as its
gradient is small. Systems leave as they converge.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, Point, columns_of
from genebench.probes.linear.designs import row_blocks

MAX_STEPS = 60
MAX_CONJUGATE = 200
MAX_HALVINGS = 30
IDLE_STEPS = 5
NOISE = 1e-5
SUFFICIENT_DECREASE = 1e-4
SETTLED = 10.0
LEAVE_SHARE = 0.1
LEAVE_EARLY_SHARE = 0.25


@dataclass(frozen=True)
class Solution:
    """Where the systems of a batch ended.

    Attributes:
        point: The last point.
        gradient_norm: (systems,) float64, as the tolerance measures it.
        converged: (systems,) bool.
        n_steps: (systems,) int64 Newton steps.
        n_products: Products with second derivatives, of all systems together.
    """

    point: Point
    gradient_norm: Tensor
    converged: Tensor
    n_steps: Tensor
    n_products: int


@dataclass(frozen=True)
class _Slope:
    """The objective and its derivatives at a point."""

    total: Tensor
    gradient: Tensor
    intercept_gradient: Tensor
    weights: Tensor
    mass: Tensor

    def take(self, systems: Tensor, columns: Tensor) -> "_Slope":
        return _Slope(
            self.total[systems],
            self.gradient[:, columns],
            self.intercept_gradient[columns],
            self.weights[:, columns],
            self.mass[columns],
        )


def solve(batch: Batch, start: Point, *, fast: bool = False) -> Solution:
    """Minimise all systems of a batch.

    Args:
        batch: The systems.
        start: Where to start; its tensors are overwritten with where the systems end.
        fast: Let products that only steer use the design's low precision.

    Returns:
        Where they ended, converged or not.
    """
    device = batch.mask.device
    systems = torch.arange(batch.n_systems, device=device)
    norms = torch.full((batch.n_systems,), torch.inf, dtype=torch.float64, device=device)
    steps = torch.zeros_like(systems)
    settled = torch.zeros_like(systems, dtype=torch.bool)
    n_classes, point, slope = batch.n_classes, start, _slope(batch, start)
    first = best = _gradient_norm(batch, slope)
    lowest = slope.total
    idle = torch.zeros_like(systems)
    n_products = 0
    for step in range(MAX_STEPS + 1):
        norm, axes = _gradient_norm(batch, slope), _axes(batch, slope)
        here = (norm <= batch.tolerance) & is_settled(batch, point, slope, axes)
        norms[systems], steps[systems], settled[systems] = norm, step, here
        falls = (norm < 0.7 * best) | (slope.total < lowest - NOISE * lowest.abs())
        idle = torch.where(falls, 0, idle + 1)
        best, lowest = torch.minimum(best, norm), torch.minimum(lowest, slope.total)
        # Far from the end a gradient can grow while the objective falls; a system is at its noise
        # when neither gets better. The first look counts as idle too.
        done = here | (idle > IDLE_STEPS)
        if step == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            if point is not start:
                _put(start, point, columns_of(systems, n_classes))
            keep = (~done).nonzero().flatten()
            columns = columns_of(keep, n_classes)
            batch, point, slope = batch.take(keep), point.take(columns), slope.take(keep, columns)
            systems, first, best, idle = systems[keep], first[keep], best[keep], idle[keep]
            lowest = lowest[keep]
            norm, axes = norm[keep], (axes[0][:, columns], axes[1][columns])
            done = done[keep]
        forcing = torch.clamp(torch.sqrt(norm / first), max=0.1)
        change, n = _direction(batch, slope, axes, forcing, ~done, fast=fast)
        n_products += n
        point, slope = _advance(batch, point, slope, change)
    if point is not start:
        _put(start, point, columns_of(systems, n_classes))
    return Solution(start, norms, settled, steps, n_products)


def _put(whole: Point, part: Point, columns: Tensor) -> None:
    whole.coefficients[:, columns] = part.coefficients
    whole.intercepts[columns] = part.intercepts
    whole.values[:, columns] = part.values


def _sum_systems(columns: Tensor, n_classes: int) -> Tensor:
    """(columns,) summed over the classes of each system, in float64."""
    return columns.double().view(-1, n_classes).sum(dim=1)


def _dot(batch_classes: int, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> Tensor:
    """(systems,) inner products of coefficients and intercepts."""
    inner = torch.linalg.vecdot(left[0], right[0], dim=0) + left[1] * right[1]
    return _sum_systems(inner, batch_classes)


def _slope(batch: Batch, point: Point) -> _Slope:
    """Objective, gradient and what the second derivatives need, in one pass over the rows."""
    design, loss = batch.design, batch.loss
    n_columns = point.values.shape[1]
    weights = torch.empty_like(point.values)
    sums = design.zeros(n_columns, fast=False)
    total = torch.zeros(batch.n_systems, dtype=torch.float64, device=weights.device)
    intercept_gradient, mass = (torch.zeros_like(total[:1].expand(n_columns)) for _ in range(2))
    for block in row_blocks(len(weights), n_columns, weights.itemsize):
        mask = batch.mask[block]
        losses, residuals, weights[block] = loss.slopes(
            point.values[block], batch.targets[block], mask
        )
        total += losses
        design.collect(sums, block, residuals)
        intercept_gradient = intercept_gradient + residuals.sum(dim=0, dtype=torch.float64)
        mass = mass + loss.own(weights[block], mask).sum(dim=0, dtype=torch.float64)
    penalty = batch.penalise(point.coefficients)
    total += _sum_systems(
        torch.linalg.vecdot(penalty, point.coefficients, dim=0) / 2, batch.n_classes
    )
    dtype = weights.dtype
    gradient = design.finish(sums) + penalty
    return _Slope(total, gradient, intercept_gradient.to(dtype), weights, mass.to(dtype))


def _gradient_norm(batch: Batch, slope: _Slope) -> Tensor:
    """(systems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    square = slope.gradient.double().square().sum(dim=0) / length
    square += slope.intercept_gradient.double().square()
    n_train = batch.mask.sum(dim=0, dtype=torch.float64)
    return _sum_systems(square, batch.n_classes).sqrt() / n_train


def _axes(batch: Batch, slope: _Slope) -> tuple[Tensor, Tensor]:
    """Inverse of the second derivatives' diagonal, which is nearly all of them in principal axes.

    Returns:
        (width, columns) and (columns,); an intercept's is one over the summed weight.
    """

    def own(block: slice) -> Tensor:
        return batch.loss.own(slope.weights[block], batch.mask[block])

    second = batch.design.second(own, slope.mass) + batch.penalty_diagonal()
    # A column without weight (all rows decided) has nothing to say about its intercept.
    return 1 / second, 1 / slope.mass.clamp_min(1e-8 * batch.design.n_rows)


def is_settled(batch: Batch, point: Point, slope: _Slope, axes: tuple[Tensor, Tensor]) -> Tensor:
    """(systems,) whether the objective has nothing left to fall.

    The Newton decrement (Boyd and Vandenberghe 2004, section 9.5), its second derivatives taken as
    diagonal, is about the change of the scores that is still to come. Unlike a gradient it does not
    depend on the scale of any feature: along weak axes a small gradient can hide a long way to go.
    Under a strong penalty the scores themselves are small, and it must be small beside them.
    """
    n_train = batch.mask.sum(dim=0, dtype=torch.float64)
    square = (slope.gradient.square() * axes[0]).sum(dim=0)
    square += slope.intercept_gradient.square() * axes[1]
    signal = (point.coefficients.square() / axes[0]).sum(dim=0)
    decrement, signal = (
        (_sum_systems(part, batch.n_classes) / n_train).sqrt() for part in (square, signal)
    )
    return decrement <= SETTLED * batch.tolerance * (100 * signal).clamp(3e-3, 1.0)


def _direction(
    batch: Batch,
    slope: _Slope,
    axes: tuple[Tensor, Tensor],
    forcing: Tensor,
    is_open: Tensor,
    *,
    fast: bool,
) -> tuple[tuple[Tensor, Tensor], int]:
    """Solve second derivatives times change = - gradient as far as `forcing` asks.

    Preconditioned conjugate gradients (Nocedal and Wright 2006, algorithm 5.3). A system that is
    not open, or no longer, stands still: beyond its goal there is only rounding to amplify.

    Returns:
        Changes of the coefficients and intercepts, and the number of products used.
    """
    n_classes = batch.n_classes
    scale, scale_b = axes
    change = (torch.zeros_like(slope.gradient), torch.zeros_like(slope.intercept_gradient))
    whole, here = change, torch.arange(batch.n_systems, device=forcing.device)
    weights = slope.weights
    rest = (-slope.gradient, -slope.intercept_gradient)
    scaled = (scale * rest[0], _centred(scale_b * rest[1], n_classes))
    conjugate = (scaled[0].clone(), scaled[1].clone())
    eps = torch.finfo(scale.dtype).eps
    size = _dot(n_classes, rest, scaled)
    goal = forcing.square() * size
    for product in range(1, MAX_CONJUGATE + 1):
        curved = _curve(batch, weights, conjugate, fast=fast)
        along = _dot(n_classes, conjugate, curved)
        # Rounding can leave a direction without curvature; there is nothing to gain along it.
        is_open = is_open & (along > eps * size) & (size > 0)
        length = torch.where(is_open, size / along.clamp_min(1e-300), 0.0)
        length = _spread(length, n_classes, rest[0])
        for part in range(2):
            change[part].addcmul_(conjugate[part], length)
            rest[part].addcmul_(curved[part], length, value=-1.0)
        torch.mul(scale, rest[0], out=scaled[0])
        scaled[1].copy_(_centred(scale_b * rest[1], n_classes))
        new_size = _dot(n_classes, rest, scaled)
        is_open = is_open & (new_size > goal)
        if product == MAX_CONJUGATE or not bool(is_open.any()):
            break
        ratio = torch.where(is_open, new_size / size.clamp_min(1e-300), 0.0)
        ratio = _spread(ratio, n_classes, rest[0])
        for part in range(2):
            conjugate[part].mul_(ratio).add_(scaled[part])
        size = new_size
        if is_open.double().mean() <= 1 - LEAVE_EARLY_SHARE:
            keep = is_open.nonzero().flatten()
            columns = columns_of(keep, n_classes)
            if change is not whole:
                _put_change(whole, change, columns_of(here, n_classes))
            batch, weights = batch.take(keep), weights[:, columns]
            here, size, goal, is_open = here[keep], size[keep], goal[keep], is_open[keep]
            scale, scale_b = scale[:, columns], scale_b[columns]
            change, rest, scaled, conjugate = (
                (pair[0][:, columns], pair[1][columns])
                for pair in (change, rest, scaled, conjugate)
            )
    if change is not whole:
        _put_change(whole, change, columns_of(here, n_classes))
    return whole, product


def _centred(intercepts: Tensor, n_classes: int) -> Tensor:
    """Without what moves all classes of a system alike, which changes no probability."""
    if n_classes == 1:
        return intercepts
    by_system = intercepts.view(-1, n_classes)
    return (by_system - by_system.mean(dim=1, keepdim=True)).flatten()


def _put_change(whole: tuple[Tensor, Tensor], part: tuple[Tensor, Tensor], columns: Tensor) -> None:
    whole[0][:, columns] = part[0]
    whole[1][columns] = part[1]


def _spread(systems: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """(columns,) from (systems,)."""
    return systems.to(like.dtype).repeat_interleave(n_classes)


def _curve(
    batch: Batch, weights: Tensor, change: tuple[Tensor, Tensor], *, fast: bool
) -> tuple[Tensor, Tensor]:
    """Second derivatives of the objective times a change, in one pass over the rows."""
    design = batch.design
    projected = design.project(change[0], fast=fast)
    n_columns = weights.shape[1]
    sums = design.zeros(n_columns, fast=fast)
    intercepts = torch.zeros_like(change[1])
    for block in row_blocks(len(weights), n_columns, weights.itemsize):
        moved = design.rows(projected, block).add_(change[1])
        moved = batch.loss.curve(moved, weights[block], batch.mask[block])
        design.collect(sums, block, moved)
        intercepts += moved.sum(dim=0)
    return design.finish(sums) + batch.penalise(change[0]), intercepts


def _advance(
    batch: Batch, point: Point, slope: _Slope, change: tuple[Tensor, Tensor]
) -> tuple[Point, _Slope]:
    """Step, halving it for each system until the objective falls enough (Armijo 1966)."""
    n_classes = batch.n_classes
    moved = batch.design.multiply(*change)
    decrease = _dot(n_classes, (slope.gradient, slope.intercept_gradient), change)
    point.coefficients.add_(change[0])
    point.intercepts.add_(change[1])
    point.values.add_(moved)
    new = _slope(batch, point)
    step = torch.ones_like(decrease)
    noise = 8 * torch.finfo(moved.dtype).eps * slope.total.abs()
    for _ in range(MAX_HALVINGS):
        too_far = new.total > slope.total + SUFFICIENT_DECREASE * step * decrease + noise
        if not bool(too_far.any()):
            break
        back = _spread(torch.where(too_far, step / 2, 0.0), n_classes, moved)
        step = torch.where(too_far, step / 2, step)
        point.coefficients.addcmul_(change[0], back, value=-1.0)
        point.intercepts.addcmul_(change[1], back, value=-1.0)
        point.values.addcmul_(moved, back, value=-1.0)
        new = _slope(batch, point)
    return point, new

"""Newton's method, for many systems at once.

All systems of a batch share one design, so each step is a product of matrices. Steps are inexact
(Nocedal and Wright 2006, algorithm 7.1): a system's equations are solved only as far as its
gradient is small. Systems leave as they converge.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, Point, columns_of, spread, sum_systems
from genebench.probes.linear.conjugate import dot, find_step
from genebench.probes.linear.designs import row_blocks

MAX_STEPS = 60
MAX_HALVINGS = 30
IDLE_STEPS = 5
NOISE = 1e-5
SUFFICIENT_DECREASE = 1e-4
SETTLED = 10.0
LEAVE_SHARE = 0.1


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
        falls = (norm < 0.7 * best) | (slope.total < lowest - NOISE * lowest.abs())
        idle = torch.where(falls, 0, idle + 1)
        best, lowest = torch.minimum(best, norm), torch.minimum(lowest, slope.total)
        # Far from the end a gradient can grow while the objective falls; a system is at its noise
        # when neither gets better. The first look counts as idle too.
        at_noise = idle > IDLE_STEPS
        here = (norm <= batch.tolerance) & (is_settled(batch, point, slope, axes) | at_noise)
        norms[systems], steps[systems], settled[systems] = norm, step, here
        done = here | at_noise
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
        gradient = slope.gradient, slope.intercept_gradient
        change, n = find_step(batch, slope.weights, gradient, axes, forcing, ~done, fast=fast)
        n_products += n
        point, slope = _advance(batch, point, slope, change)
    if point is not start:
        _put(start, point, columns_of(systems, n_classes))
    return Solution(start, norms, settled, steps, n_products)


def _put(whole: Point, part: Point, columns: Tensor) -> None:
    whole.coefficients[:, columns] = part.coefficients
    whole.intercepts[columns] = part.intercepts
    whole.values[:, columns] = part.values


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
    total += sum_systems(
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
    return sum_systems(square, batch.n_classes).sqrt() / n_train


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
        (sum_systems(part, batch.n_classes) / n_train).sqrt() for part in (square, signal)
    )
    return decrement <= SETTLED * batch.tolerance * (100 * signal).clamp(3e-3, 1.0)


def _advance(
    batch: Batch, point: Point, slope: _Slope, change: tuple[Tensor, Tensor]
) -> tuple[Point, _Slope]:
    """Step, halving it for each system until the objective falls enough (Armijo 1966)."""
    n_classes = batch.n_classes
    moved = batch.design.multiply(*change)
    decrease = dot(n_classes, (slope.gradient, slope.intercept_gradient), change)
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
        back = spread(torch.where(too_far, step / 2, 0.0), n_classes, moved)
        step = torch.where(too_far, step / 2, step)
        point.coefficients.addcmul_(change[0], back, value=-1.0)
        point.intercepts.addcmul_(change[1], back, value=-1.0)
        point.values.addcmul_(moved, back, value=-1.0)
        new = _slope(batch, point)
    return point, new

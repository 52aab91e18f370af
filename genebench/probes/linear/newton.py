"""Newton's method, for many systems at once.

All systems of a batch share one design, so each step is a product of matrices. Steps are inexact
(Nocedal and Wright 2006, algorithm 7.1): a system's equations are solved only as far as its
gradient is small. Systems leave as they converge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genebench.probes.linear.axes import Axes, Pair, find_axes
from genebench.probes.linear.batches import Batch, Point, balance, columns_of, spread, sum_systems
from genebench.probes.linear.conjugate import LEAVE_SHARE, dot, find_step, inner
from genebench.probes.linear.designs import Products, row_blocks
from genebench.probes.linear.planes import Plane

MAX_STEPS = 60
IDLE_STEPS = 5
NOISE = 1e-5
SETTLED = 10.0
# Equations are solved to the share of the first gradient that is left, to this power, but at least
# to this share of the gradient. Solving them further costs more than the steps that it saves.
FORCING, POWER = 0.3, 1 / 3
# The last equations need not be solved further than this share of what the tolerance asks for.
ENOUGH = 0.3


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

    def along(self, changes: Sequence[Point]) -> Tensor:
        """(changes, columns) float64 slopes along changes."""
        gradient = self.gradient, self.intercept_gradient
        return torch.stack(
            [inner(gradient, (part.coefficients, part.intercepts)) for part in changes]
        ).double()

    def take(self, systems: Tensor, columns: Tensor) -> "_Slope":
        return _Slope(
            self.total[systems],
            self.gradient.index_select(1, columns),
            self.intercept_gradient[columns],
            self.weights.index_select(1, columns),
        )

    def put(self, part: "_Slope", systems: Tensor, columns: Tensor) -> None:
        """Write what some of the systems, which have these columns, have come to."""
        self.total[systems] = part.total
        self.gradient.index_copy_(1, columns, part.gradient)
        self.intercept_gradient[columns] = part.intercept_gradient
        self.weights.index_copy_(1, columns, part.weights)


def solve(batch: Batch, start: Point) -> Solution:
    """Minimise all systems of a batch.

    Products that only steer are rounded ones where the design has them; systems that these do not
    bring to their end go on without.

    Args:
        batch: The systems.
        start: Where to start; its tensors are overwritten with where the systems end.

    Returns:
        Where they ended, converged or not.
    """
    rounded = batch.design.rounded
    if rounded is None:
        return _descend(batch, start, batch.design)
    solution = _descend(batch, start, rounded)
    left = (~solution.converged).nonzero().flatten()
    if not len(left):
        return solution
    columns = columns_of(left, batch.n_classes)
    rest = _descend(batch.take(left), start.take(columns), batch.design)
    _put(start, rest.point, columns)
    solution.gradient_norm[left], solution.converged[left] = rest.gradient_norm, rest.converged
    solution.n_steps[left] += rest.n_steps
    return replace(solution, n_products=solution.n_products + rest.n_products)


def _descend(batch: Batch, start: Point, products: Products) -> Solution:
    """See `solve`; `products` are those that only steer."""
    device = batch.strength.device
    systems = torch.arange(batch.n_systems, device=device)
    norms = torch.full((batch.n_systems,), torch.inf, dtype=torch.float64, device=device)
    steps = torch.zeros_like(systems)
    settled = torch.zeros_like(systems, dtype=torch.bool)
    n_classes, point = batch.n_classes, start
    values = start.values
    slope = _slope(batch, start.coefficients, values.__getitem__, torch.empty_like(values))
    first = best = _gradient_norm(batch, slope)
    lowest = slope.total
    idle = torch.zeros_like(systems)
    last: Point | None = None
    n_products = 0
    for step in range(MAX_STEPS + 1):
        norm = _gradient_norm(batch, slope)
        axes = find_axes(batch, slope.weights, products)
        falls = (norm < 0.7 * best) | (slope.total < lowest - NOISE * lowest.abs())
        idle = torch.where(falls, 0, idle + 1)
        best, lowest = torch.minimum(best, norm), torch.minimum(lowest, slope.total)
        # Far from the end a gradient can grow while the objective falls; a system is at its noise
        # when neither gets better. The first look counts as idle too.
        at_noise = idle > IDLE_STEPS
        left = torch.maximum(norm / batch.tolerance, _left(batch, point, slope, axes))
        here = left <= 1
        if products is batch.design:
            here |= (norm <= batch.tolerance) & at_noise
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
            lowest, left = lowest[keep], left[keep]
            last = last and last.take(columns)
            norm, axes = norm[keep], axes.take(keep, columns)
            done = done[keep]
        forcing = torch.clamp((norm / first) ** POWER, max=FORCING)
        forcing = torch.maximum(forcing, ENOUGH / left)
        gradient = slope.gradient, slope.intercept_gradient
        change, n = find_step(batch, slope.weights, gradient, axes, forcing, ~done, products)
        n_products += n
        slope, moved = _advance(batch, point, slope, change, last)
        # Whole steps are nearly always good for single columns, which have one class to move.
        last = moved if n_classes > 1 else None
    if point is not start:
        _put(start, point, columns_of(systems, n_classes))
    return Solution(start, norms, settled, steps, n_products)


def _put(whole: Point, part: Point, columns: Tensor) -> None:
    whole.coefficients.index_copy_(1, columns, part.coefficients)
    whole.intercepts[columns] = part.intercepts
    whole.values.index_copy_(1, columns, part.values)


def _slope(
    batch: Batch, coefficients: Tensor, values: Callable[[slice], Tensor], weights: Tensor
) -> _Slope:
    """Objective, gradient and what the second derivatives need, in one pass over the rows.

    Args:
        batch: The systems.
        coefficients: (width, columns), where they stand.
        values: Gives the values there of a block of rows.
        weights: (n, columns) that the slope's weights are written to.
    """
    design, loss = batch.design, batch.loss
    n_columns = weights.shape[1]
    sums = design.zeros(n_columns)
    total = torch.zeros(batch.n_systems, dtype=torch.float64, device=weights.device)
    intercept_gradient = total.new_zeros(n_columns)
    for block in row_blocks(len(weights), n_columns, weights.itemsize):
        losses, residuals, weights[block] = loss.slopes(
            values(block), batch.targets(block), batch.mask(block)
        )
        total += losses
        intercept_gradient += residuals.sum(dim=0)
        design.collect(sums, block, residuals)
    penalty = batch.penalise(coefficients)
    total += sum_systems(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    dtype = weights.dtype
    gradient = balance(design.finish(sums).add_(penalty), batch.n_classes)
    return _Slope(total, gradient, intercept_gradient.to(dtype), weights)


def _gradient_norm(batch: Batch, slope: _Slope) -> Tensor:
    """(systems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    square = slope.gradient.double().square().sum(dim=0) / length
    square += slope.intercept_gradient.double().square()
    return sum_systems(square, batch.n_classes).sqrt() / batch.n_train


def _left(batch: Batch, point: Point, slope: _Slope, axes: Axes) -> Tensor:
    """(systems,) how much the objective has left to fall, 1 where it is little enough.

    The Newton decrement (Boyd and Vandenberghe 2004, section 9.5), its second derivatives taken as
    diagonal, is about the change of the scores that is still to come. Unlike a gradient it does not
    depend on the scale of any feature: along weak axes a small gradient can hide a long way to go.
    Under a strong penalty the scores themselves are small, and it must be small beside them.
    """
    gradient = slope.gradient, slope.intercept_gradient
    step = axes.divide(gradient)
    square = (gradient[0] * step[0]).sum(dim=0) + gradient[1] * step[1]
    signal = axes.lengths(point.coefficients)
    # Both are at least 0 but for rounding.
    decrement, signal = (
        (sum_systems(part, batch.n_classes).clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, signal)
    )
    return decrement / (SETTLED * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))


def _look(plane: Plane, lengths: Tensor, weights: Tensor) -> _Slope:
    """The slope after steps of these lengths; see `_slope`."""
    return _slope(plane.batch, plane.coefficients(lengths), plane.values(lengths), weights)


def _advance(
    batch: Batch, point: Point, slope: _Slope, change: Pair, last: Point | None
) -> tuple[_Slope, Point]:
    """Step along a change and the last one, to near where the objective is lowest.

    Returns:
        The slope there, and how the point moved.
    """
    n_classes = batch.n_classes
    falls = dot(n_classes, (slope.gradient, slope.intercept_gradient), change)
    # Rounded products can turn a direction uphill, or beyond the numbers; it is not taken then.
    is_down = spread(falls.isfinite() & (falls < 0), n_classes, slope.weights).bool()
    coefficients, intercepts = (torch.where(is_down, part, 0.0) for part in change)
    new = Point(coefficients, intercepts, batch.design.multiply(coefficients, intercepts))
    changes = (new,) if last is None else (new, last)
    plane = Plane(batch, point, changes, slope.total, slope.along(changes))
    lengths = plane.whole
    slope = _look(plane, lengths, slope.weights)
    slopes = slope.along(changes)
    is_good = plane.is_good(slope.total, slopes)
    if not bool(is_good.all()):
        bad = (~is_good).nonzero().flatten()
        columns = columns_of(bad, n_classes)
        part = plane.take(bad, columns)
        better = part.search(slopes[:, columns])
        lengths[:, columns] = better
        slope.put(_look(part, better, torch.empty_like(part.point.values)), bad, columns)
    return slope, plane.move(lengths)

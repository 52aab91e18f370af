"""Newton-CG (truncated Newton) for many subproblems at once.

All systems of a batch share one design, so each step is a product of matrices. Steps are inexact
(Nocedal and Wright 2006, algorithm 7.1): a system's equations are solved only as far as its
gradient is small. Systems leave as they converge.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genebench.probes.linear.approach import approach
from genebench.probes.linear.axes import Axes, find_axes
from genebench.probes.linear.batches import Batch, Point, spread, sum_systems
from genebench.probes.linear.conjugate import LEAVE_SHARE, dot, find_step
from genebench.probes.linear.designs import Products
from genebench.probes.linear.lines import Line
from genebench.probes.linear.parts import Pair
from genebench.probes.linear.passes import move_to
from genebench.probes.linear.slopes import Slope, find_slope, gradient_norm
from genebench.probes.linear.solver_settings import plan_columns

MAX_STEPS = 60
IDLE_STEPS = 5
# The preconditioner is found again once an objective has fallen by this share.
REFRESH = 0.01
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
        coefficients: (width, columns).
        intercepts: (columns,).
        gradient_norm: (systems,) float64, as the tolerance measures it.
        converged: (systems,) bool.
        n_steps: (systems,) int64 Newton steps.
        n_products: Products with second derivatives, of all systems together.
    """

    coefficients: Tensor
    intercepts: Tensor
    gradient_norm: Tensor
    converged: Tensor
    n_steps: Tensor
    n_products: int

    @property
    def pair(self) -> Pair:
        """Coefficients and intercepts."""
        return self.coefficients, self.intercepts


def solve(batch: Batch, start: Pair) -> Solution:
    """Minimise all systems of a batch.

    Systems of many classes are brought near first (`approach`). Products that only steer are
    rounded ones where the design has them; systems that these do not bring to their end go on
    without.

    Args:
        batch: The systems.
        start: Where to start; its tensors are overwritten with where the systems end.

    Returns:
        Where they ended, converged or not.
    """
    rounded = batch.design.rounded
    products = batch.design if rounded is None else rounded
    first = None
    # Newton's steps hold from the start where there is one class to move.
    if batch.n_classes > 1:
        first = approach(batch, start, products)
    solution = _descend(batch, start, products, first)
    if rounded is None:
        return solution
    left = (~solution.converged).nonzero().flatten()
    if not len(left):
        return solution
    some = batch.some(left)
    rest = _descend(batch.take(some), some.take(start), batch.design)
    some.put(start, rest.pair)
    solution.gradient_norm[left], solution.converged[left] = rest.gradient_norm, rest.converged
    solution.n_steps[left] += rest.n_steps
    return replace(solution, n_products=solution.n_products + rest.n_products)


@dataclass(frozen=True)
class Finished:
    """Systems of a batch that were finished in float64.

    Attributes:
        systems: Their numbers in the batch.
        batch: They alone, in float64.
        pair: Where they ended, in float64.
    """

    systems: Tensor
    batch: Batch
    pair: Pair


def polish(batch: Batch, rough: Solution, memory_bytes: int) -> list[Finished]:
    """Finish in float64, in place, the systems that float32 could not bring to the tolerance."""
    left = (~rough.converged).nonzero().flatten()
    if batch.dtype == torch.float64 or not len(left):
        return []
    design = batch.design.double()
    columns_at_once = plan_columns(design.n_rows, design.width, 8, 0, memory_bytes // 3)
    finished = []
    for part in torch.split(left, max(columns_at_once // batch.n_classes, 1)):
        some = batch.some(part)
        exact = batch.take(some)
        scales = None if exact.scales is None else exact.scales.double()
        exact = replace(exact, design=design, scales=scales)
        coefficients, intercepts = some.take(rough.pair)
        solution = solve(exact, (coefficients.double(), intercepts.double()))
        rough.gradient_norm[part], rough.converged[part] = (
            solution.gradient_norm,
            solution.converged,
        )
        rough.n_steps[part] += solution.n_steps
        coefficients, intercepts = (half.to(batch.dtype) for half in solution.pair)
        some.put(rough.pair, (coefficients, intercepts))
        finished.append(Finished(part, exact, solution.pair))
    return finished


def _descend(
    batch: Batch, start: Pair, products: Products, first: Tensor | None = None
) -> Solution:
    """See `solve`.

    Args:
        batch: The systems.
        start: Where to start.
        products: Those that only steer.
        first: (systems,) norms of the gradients where all began, if not here.
    """
    device = batch.strength.device
    systems = torch.arange(batch.n_systems, device=device)
    norms = torch.full((batch.n_systems,), torch.inf, dtype=torch.float64, device=device)
    steps = torch.zeros_like(systems)
    settled = torch.zeros_like(systems, dtype=torch.bool)
    whole, point = batch, move_to(batch, start)
    slope = find_slope(batch, start[0], point.values.__getitem__, batch.empty(), batch.design)
    best = gradient_norm(batch, slope)
    first = best if first is None else first
    lowest = known = slope.total
    idle = torch.zeros_like(systems)
    n_products = 0
    for step in range(MAX_STEPS + 1):
        norm = gradient_norm(batch, slope)
        if step == 0 or bool((slope.total < (1 - REFRESH) * known).any()):
            known, axes = slope.total, find_axes(batch, slope.weights, products)
        falls = (norm < 0.7 * best) | (slope.total < lowest - NOISE * lowest.abs())
        idle = torch.where(falls, 0, idle + 1)
        best, lowest = torch.minimum(best, norm), torch.minimum(lowest, slope.total)
        # Far from the end a gradient can grow while the objective falls; a system is at its noise
        # when neither gets better. The first look counts as idle too.
        at_noise = idle > IDLE_STEPS
        left = torch.maximum(norm / batch.tolerance, _left(batch, point, slope, axes))
        here = left <= 1
        norms[systems], steps[systems], settled[systems] = norm, step, here
        done = here | at_noise
        if step == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            if batch is not whole:
                whole.some(systems).put(start, point.pair)
            keep = (~done).nonzero().flatten()
            some = batch.some(keep)
            batch, point, slope = batch.take(some), point.take(some), slope.take(some)
            systems, first, best, idle = systems[keep], first[keep], best[keep], idle[keep]
            lowest, left, known = lowest[keep], left[keep], known[keep]
            norm, axes = norm[keep], axes.take(some)
            done = done[keep]
        forcing = torch.clamp((norm / first) ** POWER, max=FORCING)
        forcing = torch.maximum(forcing, ENOUGH / left)
        change, n = find_step(batch, slope.weights, slope.pair, axes, forcing, ~done, products)
        n_products += n
        slope = _advance(batch, point, slope, change)
    if batch is not whole:
        whole.some(systems).put(start, point.pair)
    return Solution(*start, norms, settled, steps, n_products)


def _left(batch: Batch, point: Point, slope: Slope, axes: Axes) -> Tensor:
    """(systems,) how much the objective has left to fall, 1 where it is little enough.

    The Newton decrement (Boyd and Vandenberghe 2004, section 9.5), its second derivatives taken as
    diagonal, is about the change of the scores that is still to come. Unlike a gradient it does not
    depend on the scale of any feature: along weak axes a small gradient can hide a long way to go.
    Under a strong penalty the scores themselves are small, and it must be small beside them.
    """
    step = axes.divide(slope.pair)
    square = (slope.gradient * step[0]).sum(dim=0) + slope.intercept_gradient * step[1]
    signal = axes.lengths(point.coefficients)
    # Both are at least 0 but for rounding.
    decrement, signal = (
        (sum_systems(part, batch.n_classes).clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, signal)
    )
    return decrement / (SETTLED * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))


def _advance(batch: Batch, point: Point, slope: Slope, change: Pair) -> Slope:
    """Step along a change, in place, to near where the objective is lowest on it.

    Returns:
        The slope there.
    """
    falls = dot(batch.n_classes, slope.pair, change)
    # Rounded products can turn a direction uphill, or beyond the numbers; it is not taken then.
    is_down = falls.isfinite() & (falls < 0)
    taken = spread(is_down, batch.n_classes, change[1]).bool()
    change = torch.where(taken, change[0], 0.0), torch.where(taken, change[1], 0.0)
    falls = torch.where(is_down, falls, 0.0)
    line = Line(batch, point, move_to(batch, change), slope.total, falls)
    length = torch.ones_like(falls)
    slope = line.look(length, slope.weights)
    rises = line.slope_at(slope)
    is_good = line.is_good(length, slope.total, rises)
    if not bool(is_good.all()):
        bad = batch.some((~is_good).nonzero().flatten())
        part = line.take(bad)
        length[bad.systems] = shorter = part.search(rises[bad.systems])
        slope.put(part.look(shorter, part.batch.empty()), bad)
    line.move(length)
    return slope

"""Newton-CG (truncated Newton) for many subproblems at once.

    repeat:  H change = -gradient   by conjugate gradients, to the forcing term (Nocedal and Wright
                                    2006, algorithm 7.1)
             parameters += length · change   with a length from the line search

The subproblems of a batch share one design, so each product is one matrix product for all of them.
Hessian products may be in low precision: gradients and objectives are exact, so rounding can make
the path longer and cannot move the optimum (Dembo, Eisenstat and Steihaug 1982). Subproblems leave
as they converge.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genebench.probes.linear.conjugate_gradient import LEAVE_SHARE, dot, newton_step
from genebench.probes.linear.line_search import LineSearch
from genebench.probes.linear.objective import (
    ValueAndGradient,
    gradient_norm,
    point_at,
    value_and_gradient,
)
from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.preconditioner import Preconditioner, build_preconditioner
from genebench.probes.linear.segments import Parameters
from genebench.probes.linear.solver_settings import plan_columns
from genebench.probes.linear.subproblems import Batch, Point, spread, sum_classes
from genebench.probes.linear.warm_up import warm_up

MAX_STEPS = 60
# A subproblem is stalled after this many steps without progress.
MAX_IDLE_STEPS = 5
# The preconditioner is rebuilt when an objective has fallen by this share.
REFRESH = 0.01
# Progress is a gradient norm below 0.7 of the best or an objective lower by this share.
NOISE = 1e-5
# Largest Newton decrement at convergence, relative to the tolerance.
DECREMENT_SCALE = 10.0
# Forcing term: (gradient norm / first gradient norm) ** POWER, at most FORCING.
FORCING, POWER = 0.3, 1 / 3
# The last equations are solved to this share of what the tolerance asks for.
ENOUGH = 0.3


@dataclass(frozen=True)
class Solution:
    """Where the subproblems of a batch ended.

    Attributes:
        coefficients: (width, columns).
        intercepts: (columns,).
        gradient_norm: (subproblems,) float64, see `objective.gradient_norm`.
        converged: (subproblems,) bool.
        n_steps: (subproblems,) int64 Newton steps.
        n_products: Number of Hessian products of the batch.
    """

    coefficients: Tensor
    intercepts: Tensor
    gradient_norm: Tensor
    converged: Tensor
    n_steps: Tensor
    n_products: int

    @property
    def parameters(self) -> Parameters:
        """Coefficients and intercepts."""
        return self.coefficients, self.intercepts


@dataclass(frozen=True)
class Polished:
    """Subproblems of a batch that were finished in float64.

    Attributes:
        subproblems: Their numbers in the batch.
        batch: The subproblems alone, in float64.
        parameters: Where they ended, float64.
    """

    subproblems: Tensor
    batch: Batch
    parameters: Parameters


def solve(batch: Batch, start: Parameters) -> Solution:
    """Minimise all subproblems of a batch.

    Multinomial subproblems begin with the warm-up. Subproblems that do not converge with Hessian
    products in low precision continue with exact ones.

    Args:
        batch: The subproblems.
        start: Where to start; overwritten with the solution.

    Returns:
        The solution, converged or not.
    """
    low_precision = batch.design.low_precision
    operator = batch.design if low_precision is None else low_precision
    first = warm_up(batch, start, operator) if batch.n_classes > 1 else None
    solution = _descend(batch, start, operator, first)
    left = (~solution.converged).nonzero().flatten()
    if low_precision is None or not len(left):
        return solution
    subset = batch.subset(left)
    rest = _descend(batch.take(subset), subset.take(start), batch.design)
    subset.put(start, rest.parameters)
    solution.gradient_norm[left], solution.converged[left] = rest.gradient_norm, rest.converged
    solution.n_steps[left] += rest.n_steps
    return replace(solution, n_products=solution.n_products + rest.n_products)


def polish(batch: Batch, rough: Solution, memory_bytes: int) -> list[Polished]:
    """Finish in float64, in place, the subproblems that did not converge in float32."""
    left = (~rough.converged).nonzero().flatten()
    if batch.dtype == torch.float64 or not len(left):
        return []
    design = batch.design.double()
    columns_at_once = plan_columns(design.n_rows, design.width, 8, 0, memory_bytes // 3)
    polished = []
    for part in torch.split(left, max(columns_at_once // batch.n_classes, 1)):
        subset = batch.subset(part)
        exact = batch.take(subset)
        weights = exact.penalty_weights
        exact = replace(
            exact, design=design, penalty_weights=None if weights is None else weights.double()
        )
        coefficients, intercepts = subset.take(rough.parameters)
        solution = solve(exact, (coefficients.double(), intercepts.double()))
        rough.gradient_norm[part] = solution.gradient_norm
        rough.converged[part] = solution.converged
        rough.n_steps[part] += solution.n_steps
        coefficients, intercepts = (half.to(batch.dtype) for half in solution.parameters)
        subset.put(rough.parameters, (coefficients, intercepts))
        polished.append(Polished(part, exact, solution.parameters))
    return polished


def _descend(
    batch: Batch, start: Parameters, operator: LinearOperator, first: Tensor | None = None
) -> Solution:
    """Newton-CG steps; `first` are the gradient norms at the start of a warm-up."""
    device = batch.penalty_strength.device
    own = torch.arange(batch.n_subproblems, device=device)
    norms = torch.full((batch.n_subproblems,), torch.inf, dtype=torch.float64, device=device)
    steps, converged = torch.zeros_like(own), torch.zeros_like(own, dtype=torch.bool)
    whole, point = batch, point_at(batch, start)
    at = value_and_gradient(batch, start[0], point.values.__getitem__, batch.empty(), batch.design)
    best = gradient_norm(batch, at)
    first = best if first is None else first
    lowest = known = at.objective
    idle = torch.zeros_like(own)
    n_products = 0
    for step in range(MAX_STEPS + 1):
        norm = gradient_norm(batch, at)
        if step == 0 or bool((at.objective < (1 - REFRESH) * known).any()):
            known = at.objective
            preconditioner = build_preconditioner(batch, at.weights, operator)
        has_progress = (norm < 0.7 * best) | (at.objective < lowest - NOISE * lowest.abs())
        # The first evaluation counts as idle too.
        idle = torch.where(has_progress, 0, idle + 1)
        best, lowest = torch.minimum(best, norm), torch.minimum(lowest, at.objective)
        left = torch.maximum(norm / batch.tolerance, _decrement(batch, point, at, preconditioner))
        done = (left <= 1) | (idle > MAX_IDLE_STEPS)
        norms[own], steps[own], converged[own] = norm, step, left <= 1
        if step == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            if batch is not whole:
                whole.subset(own).put(start, point.parameters)
            keep = (~done).nonzero().flatten()
            subset = batch.subset(keep)
            batch, point, at = batch.take(subset), point.take(subset), at.take(subset)
            preconditioner = preconditioner.take(subset)
            own, first, best, idle, lowest, left, known, norm, done = (
                part[keep] for part in (own, first, best, idle, lowest, left, known, norm, done)
            )
        forcing = torch.clamp((norm / first) ** POWER, max=FORCING)
        forcing = torch.maximum(forcing, ENOUGH / left)
        change, n = newton_step(
            batch, at.weights, at.parameters, preconditioner, forcing, ~done, operator
        )
        n_products += n
        at = _advance(batch, point, at, change)
    if batch is not whole:
        whole.subset(own).put(start, point.parameters)
    return Solution(*start, norms, converged, steps, n_products)


def _decrement(
    batch: Batch, point: Point, at: ValueAndGradient, preconditioner: Preconditioner
) -> Tensor:
    """(subproblems,) Newton decrement relative to its largest value at convergence.

    The decrement (Boyd and Vandenberghe 2004, section 9.5), with the preconditioner in place of the
    Hessian, is about the root mean square change of the scores that is still to come. Unlike a
    gradient it does not depend on the scale of a feature. Under a strong penalty the scores are
    small, and the decrement must be small beside them.
    """
    step = preconditioner.solve(at.parameters)
    square = (at.gradient * step[0]).sum(dim=0) + at.intercept_gradient * step[1]
    signal = preconditioner.quadratic_form(point.coefficients)
    decrement, signal = (
        (sum_classes(part, batch.n_classes).clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, signal)
    )
    return decrement / (DECREMENT_SCALE * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))


def _advance(
    batch: Batch, point: Point, at: ValueAndGradient, change: Parameters
) -> ValueAndGradient:
    """Step along a change, in place, by the length that the line search finds.

    Returns:
        Objective and gradient at the end.
    """
    slope = dot(batch.n_classes, at.parameters, change)
    # Rounded products can give an ascent direction or overflow; such a step is not taken.
    is_down = slope.isfinite() & (slope < 0)
    taken = spread(is_down, batch.n_classes, change[1]).bool()
    change = torch.where(taken, change[0], 0.0), torch.where(taken, change[1], 0.0)
    slope = torch.where(is_down, slope, 0.0)
    line = LineSearch(batch, point, point_at(batch, change), at.objective, slope)
    length = torch.ones_like(slope)
    at = line.evaluate(length, at.weights)
    slope_after = line.derivative(at)
    is_good = line.satisfies_wolfe(length, at.objective, slope_after)
    if not bool(is_good.all()):
        bad = batch.subset((~is_good).nonzero().flatten())
        part = line.take(bad)
        length[bad.subproblems] = shorter = part.search(slope_after[bad.subproblems])
        at.put(part.evaluate(shorter, part.batch.empty()), bad)
    line.move(length)
    return at

"""Newton-CG (truncated Newton) for many subproblems at once.

    repeat:  H change = -gradient   by conjugate gradients, to the forcing term (Nocedal and Wright
                                    2006, algorithm 7.1)
             parameters += length · change   with a length from the line search

Gradients and objectives are exact, so Hessian products in low precision cannot move the optimum
(Dembo, Eisenstat and Steihaug 1982). Subproblems leave as they converge; each thread solves some of
them. What float32 cannot bring to the tolerance is finished in float64.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch
from torch import Tensor

from genebench.probes.linear.batch import (
    Batch,
    Parameters,
    put_columns,
    sum_classes,
    take_columns,
)
from genebench.probes.linear.objective import (
    Point,
    ValueAndGradient,
    dot,
    evaluate,
    gradient_norm,
    point_at,
)
from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.preconditioner import Preconditioner, build_preconditioner
from genebench.probes.linear.steps import advance, newton_step, warm_up
from genebench.threads import limit_threads

MAX_STEPS = 60
# Finished subproblems leave when they are this share: leaving copies the others.
LEAVE_SHARE = 0.1
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
# A thread needs this many columns, or its products are slow for their size.
LEAST_COLUMNS = 8
# Subproblems with at least this many classes keep all threads busy with one product each; they are
# not divided if more than this share of the threads' time would be spent waiting for the last.
MANY_CLASSES, MUCH_WAITING = 64, 0.1


@dataclass(frozen=True)
class Solution:
    """Where the subproblems of a batch ended.

    Attributes:
        parameters: (width, columns) coefficients and (columns,) intercepts.
        gradient_norm: (subproblems,) float64, see `objective.gradient_norm`.
        converged: (subproblems,) bool.
        n_steps: (subproblems,) int64 Newton steps.
        n_products: Number of Hessian products of the batch.
    """

    parameters: Parameters
    gradient_norm: Tensor
    converged: Tensor
    n_steps: Tensor
    n_products: int = 0

    @classmethod
    def unsolved(cls, batch: Batch, start: Parameters) -> "Solution":
        """The start of a batch, to be filled."""
        norms = torch.full_like(batch.penalty_strength, torch.inf)
        steps = torch.zeros_like(batch.folds)
        return cls(start, norms, steps.bool(), steps)

    def put(self, part: "Solution", own: Tensor, columns: Tensor) -> None:
        """Write the solution of some subproblems and their columns, in place."""
        put_columns(self.parameters, part.parameters, columns)
        self.gradient_norm[own], self.converged[own] = part.gradient_norm, part.converged
        self.n_steps[own] += part.n_steps


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
    columns = batch.columns_of(left)
    rest = _descend(batch.take(left), take_columns(start, columns), batch.design)
    solution.put(rest, left, columns)
    return replace(solution, n_products=solution.n_products + rest.n_products)


def solve_in_threads(batch: Batch, start: Parameters) -> Solution:
    """Minimise all subproblems of a batch, a share of them on each thread; see `solve`."""
    n_threads = min(torch.get_num_threads(), batch.n_subproblems, batch.n_columns // LEAST_COLUMNS)
    if batch.folds.device.type != "cpu" or n_threads < 2:
        return solve(batch, start)
    waiting = 1 - batch.n_subproblems / (n_threads * ceil(batch.n_subproblems / n_threads))
    if batch.n_classes >= MANY_CLASSES and waiting > MUCH_WAITING:
        return solve(batch, start)
    solution = Solution.unsolved(batch, start)
    # Neighbours take equally long, so each thread takes every n-th.
    shares = [torch.arange(first, batch.n_subproblems, n_threads) for first in range(n_threads)]
    starts = [take_columns(start, batch.columns_of(share)) for share in shares]
    # A new thread begins with the number of threads that the process has set last.
    set_one = partial(torch.set_num_threads, 1)
    with limit_threads(1), ThreadPoolExecutor(n_threads, initializer=set_one) as pool:
        parts = list(pool.map(solve, [batch.take(share) for share in shares], starts))
    for share, part in zip(shares, parts, strict=True):
        solution.put(part, share, batch.columns_of(share))
    return replace(solution, n_products=sum(part.n_products for part in parts))


def polish(batch: Batch, rough: Solution, at_once: int) -> list[tuple[Tensor, Batch, Parameters]]:
    """Finish in float64, in place, the subproblems that did not converge in float32.

    Args:
        batch: The subproblems.
        rough: Their solution.
        at_once: How many columns may be solved together.

    Returns:
        Numbers of subproblems, these alone in float64, and their float64 parameters.
    """
    left = (~rough.converged).nonzero().flatten()
    if batch.design.dtype == torch.float64 or not len(left):
        return []
    design, polished = batch.design.double(), []
    for own in torch.split(left, max(at_once // batch.n_classes, 1)):
        exact, columns = batch.take(own), batch.columns_of(own)
        weights = exact.penalty_weights
        weights = None if weights is None else weights.double()
        exact = replace(exact, design=design, penalty_weights=weights)
        coefficients, intercepts = take_columns(rough.parameters, columns)
        solution = solve(exact, (coefficients.double(), intercepts.double()))
        single = (
            solution.parameters[0].to(batch.design.dtype),
            solution.parameters[1].to(batch.design.dtype),
        )
        rough.put(replace(solution, parameters=single), own, columns)
        polished.append((own, exact, solution.parameters))
    return polished


def _descend(
    batch: Batch, start: Parameters, operator: LinearOperator, first: Tensor | None = None
) -> Solution:
    """Newton-CG steps; `first` are the gradient norms at the start of a warm-up."""
    solution, n_products = Solution.unsolved(batch, start), 0
    own = torch.arange(batch.n_subproblems, device=batch.folds.device)
    columns = batch.columns_of(own)
    whole, point = batch, point_at(batch, start)
    at = evaluate(batch, point, batch.design)
    best = gradient_norm(batch, at)
    first = best if first is None else first
    lowest = known = at.objective
    idle = torch.zeros_like(own)
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
        solution.gradient_norm[own], solution.converged[own] = norm, left <= 1
        solution.n_steps[own] = step
        if step == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            if batch is not whole:
                put_columns(start, point.parameters, columns)
            keep = (~done).nonzero().flatten()
            kept = batch.columns_of(keep)
            batch, point, at = batch.take(keep), point.take(kept), at.take(keep, kept)
            preconditioner, columns = preconditioner.take(keep, kept), columns[kept]
            own, first, best, idle, lowest, left, known, norm, done = (
                part[keep] for part in (own, first, best, idle, lowest, left, known, norm, done)
            )
        forcing = torch.clamp((norm / first) ** POWER, max=FORCING)
        forcing = torch.maximum(forcing, ENOUGH / left)
        change, n = newton_step(
            batch, at.weights, at.gradient, preconditioner, forcing, ~done, operator
        )
        n_products += n
        at = advance(batch, point, at, point_at(batch, change), batch.design)
    if batch is not whole:
        put_columns(start, point.parameters, columns)
    return replace(solution, n_products=n_products)


def _decrement(
    batch: Batch, point: Point, at: ValueAndGradient, preconditioner: Preconditioner
) -> Tensor:
    """(subproblems,) Newton decrement relative to its largest value at convergence.

    The decrement (Boyd and Vandenberghe 2004, section 9.5), with the preconditioner in place of the
    Hessian, is about the root mean square change of the scores that is still to come. Unlike a
    gradient it does not depend on the scale of a feature. Under a strong penalty the scores are
    small, and the decrement must be small beside them.
    """
    square = dot(batch.n_classes, at.gradient, preconditioner.solve(at.gradient))
    signal = preconditioner.quadratic_form(point.parameters[0])
    decrement, signal = (
        (part.clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, sum_classes(signal, batch.n_classes))
    )
    return decrement / (DECREMENT_SCALE * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))

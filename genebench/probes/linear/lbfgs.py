"""Preconditioned L-BFGS for many subproblems at once (Nocedal and Wright 2006, algorithm 7.4).

    direction = -(approximate inverse Hessian) · gradient
    parameters += length · direction

The inverse comes from the last pairs of steps and changes of the gradient, and a preconditioner;
the length is 1, and shorter where that is too far.

Each subproblem has its own pairs, step lengths and end. All take a step in one evaluation: one that
has gone too far stays where it was and tries a shorter step while the others go on, so there is no
loop for lengths. Subproblems leave as they converge; each thread solves some of them. What float32
cannot bring to the tolerance is finished in float64.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.batch import Batch, put_columns, spread, sum_classes, take_columns
from genebench.probes.linear.objective import ValueAndGradient, dot, evaluate, gradient_norm
from genebench.probes.linear.operators import Parameters
from genebench.probes.linear.preconditioner import Preconditioner, build_preconditioner
from genebench.threads import limit_threads

MAX_STEPS = 2000
# Pairs of steps and changes of the gradient that are kept.
N_PAIRS = 8
# Finished subproblems leave when they are this share: leaving copies the others.
LEAVE_SHARE = 0.1
# A subproblem is stalled after this many steps without progress: a gradient norm below a share of
# the least, or an objective that is lower by more than its rounding.
MAX_IDLE_STEPS, PROGRESS = 30, 0.9
# The preconditioner is rebuilt when an objective has fallen by this share.
REFRESH = 0.1
# Largest Newton decrement at convergence, relative to the tolerance.
DECREMENT_SCALE = 20.0
# A step is good if it lowers the objective by this share of what the slope promises, and the slope
# at its end is at most CURVATURE of that at its start.
SUFFICIENT_DECREASE, CURVATURE = 1e-4, 0.5
# A step that has gone too far is shortened to a share between these.
SHORTEST, LONGEST = 0.1, 0.5
# A thread needs this many columns, or its products are slow for their size.
LEAST_COLUMNS = 8
# Subproblems with at least this many classes keep all threads busy with one product each; they are
# not divided if more than this share of the threads' time would be spent waiting for the last.
MANY_CLASSES, MUCH_WAITING = 64, 0.1


@dataclass(frozen=True)
class Solution:
    """Where the subproblems of a batch ended."""

    parameters: Parameters
    gradient_norm: Tensor  # (subproblems,) float64, see `objective.gradient_norm`
    converged: Tensor  # (subproblems,) bool
    n_steps: Tensor  # (subproblems,) int64

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


class Pair(NamedTuple):
    """A step, and the change of the gradient that it made; all 0 where no step was taken."""

    step: Parameters
    change: Parameters
    inverse: Tensor  # (subproblems,) float64, 1 / (step · change)

    @classmethod
    def of(cls, step: Parameters, change: Parameters, n_classes: int) -> "Pair":
        """The pair; the objective is convex, so that the product is positive but for rounding."""
        product = dot(n_classes, step, change)
        return cls(step, change, torch.where(product > 0, 1 / product.clamp_min(1e-300), 0.0))

    def take(self, own: Tensor, columns: Tensor) -> "Pair":
        """The pair of some subproblems and their columns."""
        step, change = take_columns(self.step, columns), take_columns(self.change, columns)
        return Pair(step, change, self.inverse[own])


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
    return solution


def polish(batch: Batch, rough: Solution, at_once: int) -> list[tuple[Tensor, Batch, Parameters]]:
    """Finish in float64, in place, the subproblems that did not converge in float32.

    At most `at_once` columns are solved together. Returns numbers of subproblems, these alone in
    float64, and their float64 parameters.
    """
    left = (~rough.converged).nonzero().flatten()
    if batch.design.dtype == torch.float64 or not len(left):
        return []
    double, polished = batch.double(), []
    for own in torch.split(left, max(at_once // batch.n_classes, 1)):
        exact, columns = double.take(own), batch.columns_of(own)
        start, shifts = take_columns(rough.parameters, columns)
        solution = solve(exact, (start.double(), shifts.double()))
        start, shifts = (part.to(batch.design.dtype) for part in solution.parameters)
        rough.put(replace(solution, parameters=(start, shifts)), own, columns)
        polished.append((own, exact, solution.parameters))
    return polished


def solve(batch: Batch, start: Parameters) -> Solution:
    """Minimise all subproblems of a batch; `start` is overwritten with the solution."""
    solution, descent = Solution.unsolved(batch, start), _Descent(batch, start)
    for n_steps in range(MAX_STEPS + 1):
        raise_if_cancelled()
        own, (norm, left) = descent.own, descent.measure()
        done = (left <= 1) | (descent.idle > MAX_IDLE_STEPS)
        solution.gradient_norm[own], solution.converged[own] = norm, left <= 1
        solution.n_steps[own] = n_steps
        if n_steps == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            put_columns(start, descent.parameters, batch.columns_of(own))
            descent.keep(~done)
            done = done[~done]
        descent.advance(done)
    put_columns(start, descent.parameters, batch.columns_of(descent.own))
    return solution


class _Descent:
    """The subproblems of a batch that have not left, with their numbers `own`."""

    def __init__(self, batch: Batch, start: Parameters) -> None:
        self.batch, self.parameters = batch, (start[0].clone(), start[1].clone())
        self.own = torch.arange(batch.n_subproblems, device=batch.folds.device)
        self.idle = torch.zeros_like(self.own)
        self.at = evaluate(batch, start)
        self.preconditioner, self.known = build_preconditioner(batch, start), self.at.objective
        self.best = self.lowest = torch.full_like(self.known, torch.inf)
        # The last step, whether it was good, and the share of it that is tried if it was not.
        self.step, self.pairs = self.parameters, list[Pair]()
        self.is_good, self.share = self.own >= 0, self.known

    def measure(self) -> tuple[Tensor, Tensor]:
        """(subproblems,) gradient norms, and what is left to do, at most 1 at convergence."""
        batch, (objective, gradient) = self.batch, self.at
        if bool((objective < (1 - REFRESH) * self.known).any()):
            self.preconditioner, self.known = (
                build_preconditioner(batch, self.parameters),
                objective,
            )
        norm = gradient_norm(batch, gradient)
        is_lower = objective < self.lowest - round_off(batch, self.lowest)
        self.idle = torch.where((norm < PROGRESS * self.best) | is_lower, 0, self.idle + 1)
        self.best = torch.minimum(self.best, norm)
        self.lowest = torch.minimum(self.lowest, objective)
        decrement = _decrement(batch, self.parameters, gradient, self.preconditioner)
        return norm, torch.maximum(norm / batch.tolerance, decrement)

    def keep(self, stays: Tensor) -> None:
        """Drop the other subproblems."""
        own = stays.nonzero().flatten()
        columns = self.batch.columns_of(own)
        self.batch, self.preconditioner = self.batch.take(own), self.preconditioner.take(own)
        self.parameters = take_columns(self.parameters, columns)
        gradient = take_columns(self.at.gradient, columns)
        self.at = ValueAndGradient(self.at.objective[own], gradient)
        self.step = take_columns(self.step, columns)
        self.pairs = [pair.take(own, columns) for pair in self.pairs]
        for name in ("own", "idle", "known", "best", "lowest", "is_good", "share"):
            setattr(self, name, getattr(self, name)[own])

    def advance(self, done: Tensor) -> None:
        """Step along the direction, or a share of the last one if it was too long."""
        batch, n_classes, (objective, gradient) = self.batch, self.batch.n_classes, self.at
        shorter = _multiply(self.step, self.share, n_classes)
        step = _choose(self.is_good, self._find_direction(), shorter, n_classes)
        slope = dot(n_classes, gradient, step)
        # Rounding can give an ascent direction, which is not taken; its pairs are soon replaced.
        stays = done | ~(slope < 0)
        slope = torch.where(stays, 0.0, slope)
        nothing = torch.zeros_like(step[0]), torch.zeros_like(step[1])
        self.step = _choose(~stays, step, nothing, n_classes)
        ahead = self.parameters[0] + self.step[0], self.parameters[1] + self.step[1]
        end = evaluate(batch, ahead)
        end_slope = dot(n_classes, end.gradient, self.step)
        self.is_good = is_good = satisfies_wolfe(batch, objective, slope, end.objective, end_slope)
        share = slope / (slope - end_slope)
        self.share = torch.where(share.isfinite(), share.clamp(SHORTEST, LONGEST), SHORTEST)
        change = end.gradient[0] - gradient[0], end.gradient[1] - gradient[1]
        taken, change = (_choose(is_good, x, nothing, n_classes) for x in (self.step, change))
        self.pairs = [*self.pairs, Pair.of(taken, change, n_classes)][-N_PAIRS:]
        self.parameters = _choose(is_good, ahead, self.parameters, n_classes)
        objective = torch.where(is_good, end.objective, objective)
        gradient = _choose(is_good, end.gradient, gradient, n_classes)
        self.at = ValueAndGradient(objective, gradient)

    def _find_direction(self) -> Parameters:
        """The two loops of L-BFGS, with the preconditioner as the first inverse Hessian."""
        n_classes, (first, second) = self.batch.n_classes, self.at.gradient
        left, weights = (first.clone(), second.clone()), []
        for pair in reversed(self.pairs):
            weights.append(pair.inverse * dot(n_classes, pair.step, left))
            _add(left, pair.change, -weights[-1], n_classes)
        direction = self.preconditioner.solve(left)
        if self.pairs:
            # Scaled as the last step found the curvature.
            change = self.pairs[-1].change
            curvature = dot(n_classes, change, self.preconditioner.solve(change))
            scale = 1 / (self.pairs[-1].inverse * curvature)
            scale = torch.where(scale.isfinite() & (scale > 0), scale, 1.0)
            direction = _multiply(direction, scale, n_classes)
        for pair, weight in zip(self.pairs, reversed(weights), strict=True):
            ahead = pair.inverse * dot(n_classes, pair.change, direction)
            _add(direction, pair.step, weight - ahead, n_classes)
        return -direction[0], -direction[1]


def _choose(own: Tensor, chosen: Parameters, others: Parameters, n_classes: int) -> Parameters:
    """Parameters of some subproblems, (subproblems,) bool, and others elsewhere."""
    columns = own.repeat_interleave(n_classes)
    first, second = (torch.where(columns, *both) for both in zip(chosen, others, strict=True))
    return first, second


def _multiply(parameters: Parameters, factor: Tensor, n_classes: int) -> Parameters:
    """(subproblems,) multiples of parameters."""
    along = spread(factor, n_classes, parameters[0])
    return parameters[0] * along, parameters[1] * along


def _add(total: Parameters, part: Parameters, factor: Tensor, n_classes: int) -> None:
    """Add (subproblems,) multiples of parameters, in place."""
    along = spread(factor, n_classes, total[0])
    for sums, numbers in zip(total, part, strict=True):
        sums.addcmul_(numbers, along)


def round_off(batch: Batch, objective: Tensor) -> Tensor:
    """(subproblems,) rounding of objectives."""
    return 8 * torch.finfo(batch.design.dtype).eps * objective.abs()


def satisfies_wolfe(
    batch: Batch, start: Tensor, start_slope: Tensor, end: Tensor, end_slope: Tensor
) -> Tensor:
    """Which (subproblems,) steps are good, by the objectives and slopes at start and end.

    Objectives that differ by less than their rounding count as equal: the slopes then decide, which
    keep their digits (approximate Wolfe conditions, Hager and Zhang 2005). A step may end before
    the minimum along it.
    """
    eps, noise = torch.finfo(batch.design.dtype).eps, round_off(batch, start)
    # A small multinomial loss is the logarithm of a probability near 1, which is rounded to eps.
    rounding = eps * batch.class_sums.sum(dim=1) if batch.n_classes > 1 else 0.0
    is_lower = end <= start + SUFFICIENT_DECREASE * start_slope + noise + rounding
    return is_lower & (end_slope <= torch.maximum(CURVATURE * start_slope.abs(), noise))


def _decrement(
    batch: Batch, parameters: Parameters, gradient: Parameters, preconditioner: Preconditioner
) -> Tensor:
    """(subproblems,) Newton decrement relative to its largest value at convergence.

    The decrement (Boyd and Vandenberghe 2004, section 9.5), with the preconditioner in place of the
    Hessian, is about the root mean square change of the scores that is still to come. Unlike a
    gradient it does not depend on the scale of a feature. Under a strong penalty the scores are
    small, and the decrement must be small beside them.
    """
    square = dot(batch.n_classes, gradient, preconditioner.solve(gradient))
    signal = preconditioner.quadratic_form(parameters[0])
    decrement, signal = (
        (part.clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, sum_classes(signal, batch.n_classes))
    )
    return decrement / (DECREMENT_SCALE * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))

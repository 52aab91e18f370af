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
from functools import partial
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.batch import Batch, spread, sum_classes
from genebench.probes.linear.objective import ValueAndGradient, dot, evaluate, gradient_norm
from genebench.probes.linear.preconditioner import Preconditioner, build_preconditioner
from genebench.threads import limit_threads

MAX_STEPS = 2000
# Pairs of steps and changes of the gradient that are kept: with weights of rows that lie far apart,
# the last digits of float64 need many.
N_PAIRS = {torch.float32: 8, torch.float64: 100}
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


class Solution(NamedTuple):
    """Where the subproblems of a batch ended."""

    parameters: Tensor  # (width + 1, columns)
    gradient_norm: Tensor  # (subproblems,) float64, see `objective.gradient_norm`
    converged: Tensor  # (subproblems,) bool
    n_steps: Tensor  # (subproblems,) int64


class Part(NamedTuple):
    """Some subproblems of a batch, by number, and their solution."""

    own: Tensor
    batch: Batch
    solution: Solution


class Pair(NamedTuple):
    """A step, and the change of the gradient that it made; 0 if it was not taken."""

    step: Tensor  # (width + 1, columns)
    change: Tensor  # the same
    inverse: Tensor  # (subproblems,) float64, 1 / (step · change); 0 if the product is not positive


def solve_exactly(batch: Batch, start: Tensor, at_once: int) -> list[Part]:
    """Minimise all subproblems, in float64 those that do not converge in float32.

    `start` is overwritten with the solution; `at_once` columns are solved together in float64. The
    parts are together all subproblems.
    """
    solution = solve_in_threads(batch, start)
    own, left = (part.nonzero().flatten() for part in (solution.converged, ~solution.converged))
    if batch.design.dtype == torch.float64 or not len(left):
        return [Part(torch.arange(batch.n_subproblems), batch, solution)]
    parts = []
    if len(own):
        rest = (part[own] for part in solution[1:])
        parts.append(Part(own, batch.take(own), Solution(start[:, batch.columns_of(own)], *rest)))
    double = batch.double()
    for own in torch.split(left, max(at_once // batch.n_classes, 1)):
        exact, columns = double.take(own), batch.columns_of(own)
        found = solve(exact, start[:, columns].double())
        start[:, columns] = found.parameters.to(start.dtype)
        n_steps = solution.n_steps[own] + found.n_steps
        parts.append(Part(own, exact, found._replace(n_steps=n_steps)))
    return parts


def solve_in_threads(batch: Batch, start: Tensor) -> Solution:
    """Minimise all subproblems of a batch, a share of them on each thread; see `solve`."""
    n, n_threads = batch.n_subproblems, torch.get_num_threads()
    n_threads = min(n_threads, n, batch.n_columns // LEAST_COLUMNS)
    waiting = 1 - n / (n_threads * ceil(n / n_threads)) if n_threads > 1 else 0.0
    is_shared = batch.n_classes >= MANY_CLASSES and waiting > MUCH_WAITING
    if batch.folds.device.type != "cpu" or n_threads < 2 or is_shared:
        return solve(batch, start)
    # Neighbours take equally long, so each thread takes every n-th.
    shares = [torch.arange(first, n, n_threads) for first in range(n_threads)]
    starts = [start[:, batch.columns_of(share)] for share in shares]
    # A new thread begins with the number of threads that the process has set last.
    set_one = partial(torch.set_num_threads, 1)
    with limit_threads(1), ThreadPoolExecutor(n_threads, initializer=set_one) as pool:
        parts = list(pool.map(solve, [batch.take(share) for share in shares], starts))
    order = torch.cat(shares).argsort()
    for share, part in zip(shares, parts, strict=True):
        start[:, batch.columns_of(share)] = part.parameters
    return Solution(start, *(torch.cat(rest)[order] for rest in list(zip(*parts, strict=True))[1:]))


def solve(batch: Batch, start: Tensor) -> Solution:
    """Minimise all subproblems of a batch; `start` is overwritten with the solution."""
    descent, norms = _Descent(batch, start), torch.full_like(batch.penalty_strength, torch.inf)
    solution = Solution(start, norms, norms < 0, torch.zeros_like(batch.folds))
    for n_steps in range(MAX_STEPS + 1):
        raise_if_cancelled()
        own, (norm, left) = descent.own, descent.measure()
        done = (left <= 1) | (descent.idle > MAX_IDLE_STEPS)
        solution.gradient_norm[own], solution.converged[own] = norm, left <= 1
        solution.n_steps[own] = n_steps
        if n_steps == MAX_STEPS or bool(done.all()):
            break
        if done.double().mean() >= LEAVE_SHARE:
            start[:, batch.columns_of(own)] = descent.parameters
            descent.keep(~done)
            done = done[~done]
        descent.advance(done)
    start[:, batch.columns_of(descent.own)] = descent.parameters
    return solution


class _Descent:
    """The subproblems of a batch that have not left, with their numbers `own`."""

    def __init__(self, batch: Batch, start: Tensor) -> None:
        self.batch, self.parameters, self.at = batch, start.clone(), evaluate(batch, start)
        self.own = torch.arange(batch.n_subproblems, device=batch.folds.device)
        self.idle = torch.zeros_like(self.own)
        self.preconditioner, self.known = build_preconditioner(batch, start), self.at.objective
        self.best = self.lowest = torch.full_like(self.known, torch.inf)
        # The last step, whether it was good, and the share of it that is tried if it was not.
        self.step, self.is_good, self.share = self.parameters, self.own >= 0, self.known
        self.pairs: list[Pair] = []

    def measure(self) -> tuple[Tensor, Tensor]:
        """(subproblems,) gradient norms, and what is left to do, at most 1 at convergence."""
        batch, (objective, gradient) = self.batch, self.at
        if bool((objective < (1 - REFRESH) * self.known).any()):
            self.preconditioner = build_preconditioner(batch, self.parameters)
            self.known = objective
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
        self.parameters, self.step = self.parameters[:, columns], self.step[:, columns]
        self.at = ValueAndGradient(self.at.objective[own], self.at.gradient[:, columns])
        self.pairs = [
            Pair(step[:, columns], change[:, columns], inverse[own])
            for step, change, inverse in self.pairs
        ]
        for name in ("own", "idle", "known", "best", "lowest", "is_good", "share"):
            setattr(self, name, getattr(self, name)[own])

    def advance(self, done: Tensor) -> None:
        """Step along the direction, or a share of the last one if it was too long."""
        batch, (objective, gradient) = self.batch, self.at
        shorter = self.step * self._spread(self.share)
        step = torch.where(self._columns(self.is_good), self._find_direction(), shorter)
        slope = dot(batch.n_classes, gradient, step)
        # Rounding can give an ascent direction, which is not taken; its pairs are soon replaced.
        stays = done | ~(slope < 0)
        slope = torch.where(stays, 0.0, slope)
        self.step = torch.where(self._columns(stays), 0.0, step)
        ahead = self.parameters + self.step
        end = evaluate(batch, ahead)
        end_slope = dot(batch.n_classes, end.gradient, self.step)
        self.is_good = satisfies_wolfe(batch, objective, slope, end.objective, end_slope)
        share = slope / (slope - end_slope)
        self.share = torch.where(share.isfinite(), share.clamp(SHORTEST, LONGEST), SHORTEST)
        moved = self._columns(self.is_good)
        change = torch.where(moved, end.gradient - gradient, 0.0)
        # The objective is convex: the product is positive but for rounding.
        product = dot(batch.n_classes, self.step, change)
        inverse = torch.where(product > 0, 1 / product.clamp_min(1e-300), 0.0)
        self.pairs = [*self.pairs, Pair(self.step, change, inverse)][-N_PAIRS[step.dtype] :]
        self.parameters = torch.where(moved, ahead, self.parameters)
        objective = torch.where(self.is_good, end.objective, objective)
        self.at = ValueAndGradient(objective, torch.where(moved, end.gradient, gradient))

    def _find_direction(self) -> Tensor:
        """The two loops of L-BFGS, with the preconditioner as the first inverse Hessian."""
        n_classes, left, weights = self.batch.n_classes, self.at.gradient.clone(), []
        for step, change, inverse in reversed(self.pairs):
            weights.append(inverse * dot(n_classes, step, left))
            left.addcmul_(change, self._spread(-weights[-1]))
        direction = self.preconditioner.solve(left)
        if self.pairs:
            # Scaled as the last step found the curvature.
            _, change, inverse = self.pairs[-1]
            scale = 1 / (inverse * dot(n_classes, change, self.preconditioner.solve(change)))
            direction *= self._spread(torch.where(scale.isfinite() & (scale > 0), scale, 1.0))
        for (step, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            ahead = inverse * dot(n_classes, change, direction)
            direction.addcmul_(step, self._spread(weight - ahead))
        return -direction

    def _columns(self, own: Tensor) -> Tensor:
        """(columns,) bool of (subproblems,)."""
        return own.repeat_interleave(self.batch.n_classes)

    def _spread(self, factors: Tensor) -> Tensor:
        """(columns,) of (subproblems,), in the dtype of the parameters."""
        return spread(factors, self.batch.n_classes, self.parameters)


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
    batch: Batch, parameters: Tensor, gradient: Tensor, preconditioner: Preconditioner
) -> Tensor:
    """(subproblems,) Newton decrement relative to its largest value at convergence.

    The decrement (Boyd and Vandenberghe 2004, section 9.5), with the preconditioner in place of the
    Hessian, is about the root mean square change of the scores that is still to come. Unlike a
    gradient it does not depend on the scale of a feature. Under a strong penalty the scores are
    small, and the decrement must be small beside them.
    """
    square = dot(batch.n_classes, gradient, preconditioner.solve(gradient))
    signal = preconditioner.quadratic_form(parameters[:-1])
    decrement, signal = (
        (part.clamp_min(0.0) / batch.n_train).sqrt()
        for part in (square, sum_classes(signal, batch.n_classes))
    )
    return decrement / (DECREMENT_SCALE * batch.tolerance * (100 * signal).clamp(3e-3, 1.0))

"""Nonlinear conjugate-gradient warm-up of multinomial subproblems, before Newton-CG.

Far from the optimum, second derivatives change before the Newton equations are solved: Newton steps
end far beyond the minimum where many classes compete. Here each step uses one forward and one
adjoint product at the current point (Polak-Ribière with restarts, Nocedal and Wright 2006, section
5.2, preconditioned; the step length is a Newton step along the line). Products in low precision
suffice until the gradient is no larger than their rounding.
"""

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.conjugate_gradient import dot
from genebench.probes.linear.objective import (
    Forward,
    ValueAndGradient,
    gradient_norm,
    point_at,
    value_and_gradient,
)
from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.preconditioner import build_preconditioner
from genebench.probes.linear.segments import Block, Parameters, RaggedArray
from genebench.probes.linear.subproblems import Batch, Point, spread, sum_classes

MAX_STEPS = 60
# The preconditioner is rebuilt when an objective has fallen by this share.
REFRESH = 0.2
# A step that ends higher is shortened, to this share at least; the last evaluation takes it back.
MIN_SHORTENING, MAX_EVALUATIONS = 0.1, 5
# A subproblem is done when a step lowers its objective by less than this share, or its gradient is
# of the size of the rounding; all stop when this share of them is done.
MIN_DECREASE, DONE_SHARE = 1e-4, 0.5


def warm_up(batch: Batch, start: Parameters, operator: LinearOperator) -> Tensor:
    """Bring subproblems near their optima, in place.

    Args:
        batch: The subproblems.
        start: Where to start.
        operator: The design matrix, exact or in low precision.

    Returns:
        (subproblems,) float64 gradient norms at the start.
    """
    n_classes, point = batch.n_classes, point_at(batch, start)
    weights, change = batch.empty(), batch.empty()
    at = value_and_gradient(batch, point.coefficients, point.values.__getitem__, weights, operator)
    first = gradient_norm(batch, at)
    rounding = operator.noise * (n_classes / batch.n_train).sqrt()
    is_open = torch.ones_like(first, dtype=torch.bool)
    known = at.objective
    before, size = at.parameters, torch.ones_like(first)
    direction = torch.zeros_like(before[0]), torch.zeros_like(before[1])
    for step in range(MAX_STEPS):
        raise_if_cancelled()
        if step == 0 or bool((at.objective < (1 - REFRESH) * known).any()):
            known, preconditioner = at.objective, build_preconditioner(batch, weights, operator)
        gradient = at.parameters
        scaled = preconditioner.solve(gradient)
        new_size = dot(n_classes, gradient, scaled)
        ratio = ((new_size - dot(n_classes, before, scaled)) / size).clamp_min(0.0)
        for half, down in zip(direction, scaled, strict=True):
            half.mul_(spread(ratio, n_classes, half)).sub_(down)
        before, size = gradient, new_size
        slope = dot(n_classes, gradient, direction)
        length = -slope / _curvature(batch, weights, direction, operator, change)
        is_open &= length.isfinite() & (length > 0)
        if not bool(is_open.all()):
            # NaN · 0 is NaN, so the directions of the others are overwritten.
            is_done = ~spread(is_open, n_classes, direction[1]).bool()
            for half in direction:
                half.masked_fill_(is_done, 0.0)
        last = at.objective
        length = torch.where(is_open, length, 0.0)
        at = _step(batch, point, Point(*direction, change), at, slope, length, operator)
        is_open &= (last - at.objective > MIN_DECREASE * last) & (
            gradient_norm(batch, at) > rounding
        )
        if is_open.double().mean() <= DONE_SHARE:
            break
    return first


def _curvature(
    batch: Batch,
    weights: RaggedArray,
    direction: Parameters,
    operator: LinearOperator,
    change: RaggedArray,
) -> Tensor:
    """(subproblems,) float64 second derivative of the objective along a direction.

    Writes the change of the linear predictor to `change`.
    """
    forward = Forward(direction, operator)
    curvature = torch.linalg.vecdot(batch.penalise(direction[0]), direction[0], dim=0).double()
    for block in batch.blocks():
        change[block] = forward.rows(block)
        curved = batch.loss.hessian_product(change[block].clone(), weights[block], batch.n_classes)
        curved = curved.mul_(change[block]).sum(dim=0)
        curvature.index_add_(0, block.segment.columns, curved.double())
    return sum_classes(curvature, batch.n_classes)


def _step(
    batch: Batch,
    point: Point,
    change: Point,
    at: ValueAndGradient,
    slope: Tensor,
    length: Tensor,
    operator: LinearOperator,
) -> ValueAndGradient:
    """Step along a change, in place; shorten a step that ends higher, or take it back.

    Args:
        batch: The subproblems.
        point: Where they start.
        change: Change of the point by a step of length 1.
        at: Objective and gradient at the start; its weights are overwritten.
        slope: (subproblems,) float64 derivative along the change.
        length: (subproblems,) float64; 0 for those that do not move.
        operator: The design matrix, exact or in low precision.

    Returns:
        Objective and gradient at the end.
    """
    last, weights, added = at.objective, at.weights, length
    for evaluation in range(1, MAX_EVALUATIONS + 1):
        along = spread(added, batch.n_classes, point.intercepts)

        def values(block: Block, along: Tensor = along) -> Tensor:
            return point.values[block].addcmul_(change.values[block], block.segment.take(along))

        point.coefficients.addcmul_(change.coefficients, along)
        point.intercepts.addcmul_(change.intercepts, along)
        at = value_and_gradient(batch, point.coefficients, values, weights, operator)
        has_risen = (length > 0) & ~(at.objective <= last)
        if not bool(has_risen.any()):
            break
        # Minimum of the parabola through both objectives and the slope.
        share = slope * length / (slope * length + last - at.objective) / 2
        share = share.nan_to_num(MIN_SHORTENING).clamp(MIN_SHORTENING, 0.5)
        share = share * (evaluation < MAX_EVALUATIONS - 1)
        added = torch.where(has_risen, (share - 1) * length, 0.0)
        length = length + added
    return at

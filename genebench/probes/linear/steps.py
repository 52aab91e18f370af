"""Steps of many subproblems at once: conjugate gradients, warm-up and line search.

Each subproblem has its own step lengths and its own goal. Along a direction the linear predictor is
linear in the step length, so phi(length), the objective, costs no forward product (Nocedal and
Wright 2006, sections 3.1, strong Wolfe conditions, and 3.5).
"""

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.batch import (
    Batch,
    Block,
    Parameters,
    spread,
    sum_classes,
)
from genebench.probes.linear.objective import (
    Point,
    ValueAndGradient,
    dot,
    evaluate,
    gradient_norm,
    hessian_product,
    point_at,
    value_and_gradient,
)
from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.preconditioner import Preconditioner, build_preconditioner

MAX_ITERATIONS = 1000
MAX_WARM_UP = 60
# In the warm-up the preconditioner is rebuilt when an objective has fallen by this share.
REFRESH = 0.2
# A subproblem is warm when a step lowers its objective by less than this share, or its gradient is
# of the size of the rounding; all stop when this share of them is warm.
MIN_DECREASE, WARM_SHARE = 1e-4, 0.5
SUFFICIENT_DECREASE = 1e-4
# Largest |phi'(length)| of an accepted step, relative to |phi'(0)|.
CURVATURE = 0.5
# The next trial is at least this share of the bracket away from its ends.
INSIDE = 0.1
MAX_EVALUATIONS = 40


def newton_step(
    batch: Batch,
    weights: Tensor,
    gradient: Parameters,
    preconditioner: Preconditioner,
    forcing: Tensor,
    is_open: Tensor,
    operator: LinearOperator,
) -> tuple[Parameters, int]:
    """Solve H change = -gradient as far as the forcing term asks for (algorithm 5.3).

    Args:
        batch: The subproblems.
        weights: (n, columns) second derivatives of the losses.
        gradient: Gradient of the objective.
        preconditioner: Approximation of H.
        forcing: (subproblems,) float64, the residual that may be left, relative to the gradient.
        is_open: (subproblems,) bool; the change of the others is 0.
        operator: The design matrix, exact or in low precision.

    Returns:
        The change, and the number of Hessian products.
    """
    n_classes, weights = batch.n_classes, weights.to(operator.dtype)
    change = (torch.zeros_like(gradient[0]), torch.zeros_like(gradient[1]))
    residual = (-gradient[0], -gradient[1])
    direction = preconditioner.solve(residual)
    eps = torch.finfo(residual[0].dtype).eps
    size = dot(n_classes, residual, direction)
    goal = forcing.square() * size
    n_products = 0
    while n_products < MAX_ITERATIONS:
        raise_if_cancelled()
        n_products += 1
        product = hessian_product(batch, weights, direction, operator)
        curvature = dot(n_classes, direction, product)
        # Rounding can leave a direction without curvature, which then ends the subproblem.
        is_open = is_open & (curvature > eps * size) & (size > 0)
        length = torch.where(is_open, size / curvature.clamp_min(1e-300), 0.0)
        length = spread(length, n_classes, residual[0])
        for part in range(2):
            change[part].addcmul_(direction[part], length)
            residual[part].addcmul_(product[part], length, value=-1.0)
        scaled = preconditioner.solve(residual)
        size = dot(n_classes, residual, scaled)
        is_open = is_open & (size > goal)
        if not bool(is_open.any()):
            break
        # The next direction is conjugate to this one even if products are rounded; with exact
        # products the ratio is that of the sizes.
        ratio = -dot(n_classes, scaled, product) / curvature.clamp_min(1e-300)
        ratio = spread(torch.where(is_open, ratio, 0.0), n_classes, residual[0])
        for part in range(2):
            direction[part].mul_(ratio).add_(scaled[part])
    return change, n_products


def warm_up(batch: Batch, start: Parameters, operator: LinearOperator) -> Tensor:
    """Bring multinomial subproblems near their optima, in place (Polak-Ribière, section 5.2).

    Newton steps would end far beyond the minimum where many classes compete. Products in low
    precision suffice until the gradient is no larger than their rounding.

    Args:
        batch: The subproblems.
        start: Where to start.
        operator: The design matrix, exact or in low precision.

    Returns:
        (subproblems,) float64 gradient norms at the start.
    """
    n_classes, point = batch.n_classes, point_at(batch, start)
    at = evaluate(batch, point, operator)
    first = gradient_norm(batch, at)
    rounding = operator.noise * (n_classes / batch.n_train).sqrt()
    known, is_open = at.objective, torch.ones_like(first, dtype=torch.bool)
    before, size, direction = at.gradient, torch.ones_like(first), (0 * start[0], 0 * start[1])
    for step in range(MAX_WARM_UP):
        raise_if_cancelled()
        if step == 0 or bool((at.objective < (1 - REFRESH) * known).any()):
            known, preconditioner = at.objective, build_preconditioner(batch, at.weights, operator)
        scaled = preconditioner.solve(at.gradient)
        new_size = dot(n_classes, at.gradient, scaled)
        ratio = ((new_size - dot(n_classes, before, scaled)) / size).clamp_min(0.0)
        before, size = at.gradient, new_size
        for half, down in zip(direction, scaled, strict=True):
            half.mul_(spread(ratio, n_classes, half)).sub_(down)
        line = point_at(batch, direction, operator)
        length = -dot(n_classes, before, direction) / _curvature(batch, at.weights, line)
        length = spread(torch.where(is_open, length, torch.nan), n_classes, line.values)
        steps = direction[0] * length, direction[1] * length
        last = at.objective
        at = advance(batch, point, at, Point(steps, line.values.mul_(length)), operator)
        is_open &= last - at.objective > MIN_DECREASE * last
        is_open &= gradient_norm(batch, at) > rounding
        if is_open.double().mean() <= WARM_SHARE:
            break
    return first


def _curvature(batch: Batch, weights: Tensor, line: Point) -> Tensor:
    """(subproblems,) float64 second derivative of the objective along a line."""
    coefficients = line.parameters[0]
    products = torch.linalg.vecdot(batch.penalise(coefficients), coefficients, dim=0)
    curvature = sum_classes(products, batch.n_classes)
    for block in batch.blocks():
        moved = line.values[block.rows, block.columns]
        own = weights[block.rows, block.columns]
        curved = batch.loss.hessian_product(moved.clone(), own, batch.n_classes).mul_(moved)
        curvature[block.subproblems] += sum_classes(curved.sum(dim=0), batch.n_classes)
    return curvature


def advance(
    batch: Batch, point: Point, at: ValueAndGradient, change: Point, operator: LinearOperator
) -> ValueAndGradient:
    """Step along a change, in place; shorten a step that does not satisfy the Wolfe conditions.

    Args:
        batch: The subproblems.
        point: Where they start.
        at: Objective and gradient there; its weights are overwritten.
        change: Change of the point by a step of length 1; set to 0 where it is no descent.
        operator: The design matrix, exact or in low precision.

    Returns:
        Objective and gradient at the end.
    """
    slope = dot(batch.n_classes, at.gradient, change.parameters)
    # Rounded products can give an ascent direction or overflow; such a step is not taken.
    is_down = slope.isfinite() & (slope < 0)
    stays = ~spread(is_down, batch.n_classes, slope).bool()
    if bool(stays.any()):
        slope = torch.where(is_down, slope, 0.0)
        for changed in (*change.parameters, change.values):
            changed.masked_fill_(stays, 0.0)
    length = torch.ones_like(slope)
    end = _evaluate(batch, point, change, length, at.weights, operator)
    end_slope = dot(batch.n_classes, end.gradient, change.parameters)
    is_good = satisfies_wolfe(batch, at.objective, slope, length, end.objective, end_slope)
    if not bool(is_good.all()):
        own = (~is_good).nonzero().flatten()
        columns, part = batch.columns_of(own), batch.take(own)
        here, line = point.take(columns), change.take(columns)
        slopes = slope[own], end_slope[own]
        length[own], found = search(part, here, line, at.objective[own], *slopes, operator)
        end.put(found, own, columns)
    along = spread(length, batch.n_classes, point.values)
    for start, step in zip(point.parameters, change.parameters, strict=True):
        start.addcmul_(step, along)
    for block in batch.blocks():
        at_block = block.rows, block.columns
        point.values[at_block].addcmul_(change.values[at_block], along[block.columns])
    return end


def search(
    batch: Batch,
    point: Point,
    change: Point,
    start: Tensor,
    start_slope: Tensor,
    slope: Tensor,
    operator: LinearOperator,
) -> tuple[Tensor, ValueAndGradient]:
    """Find lengths below 1 that satisfy the Wolfe conditions, by secant steps of phi'.

    Args:
        batch: The subproblems.
        point: Where the line starts.
        change: Change of the point by a step of length 1.
        start: (subproblems,) float64, phi(0).
        start_slope: (subproblems,) float64, phi'(0); negative, or 0 where the change is 0.
        slope: (subproblems,) float64, phi'(1).
        operator: The design matrix, exact or in low precision.

    Returns:
        (subproblems,) float64 lengths, 0 where none was found; objective and gradient there.
    """
    length, is_open = torch.ones_like(start), torch.ones_like(start, dtype=torch.bool)
    ends, slopes = [torch.zeros_like(length), length.clone()], [start_slope, slope]
    for _ in range(MAX_EVALUATIONS):
        # Near the start if phi' at the other end is not finite.
        share = slopes[0] / (slopes[0] - slopes[1])
        share = torch.where(share.isfinite(), share.clamp(INSIDE, 1 - INSIDE), INSIDE)
        length = torch.where(is_open, ends[0] + (ends[1] - ends[0]) * share, length)
        at = _evaluate(batch, point, change, length, batch.empty(), operator)
        slope = dot(batch.n_classes, at.gradient, change.parameters)
        is_open &= ~satisfies_wolfe(batch, start, start_slope, length, at.objective, slope)
        if not bool(is_open.any()):
            return length, at
        for side, is_here in enumerate((slope < 0, ~(slope < 0))):
            ends[side] = torch.where(is_here, length, ends[side])
            slopes[side] = torch.where(is_here, slope, slopes[side])
    length = torch.where(is_open, 0.0, length)
    return length, _evaluate(batch, point, change, length, batch.empty(), operator)


def satisfies_wolfe(
    batch: Batch,
    start: Tensor,
    start_slope: Tensor,
    length: Tensor,
    objective: Tensor,
    slope: Tensor,
) -> Tensor:
    """Which (subproblems,) steps are good; a whole step may end before the minimum.

    Objectives that differ by less than their rounding count as equal: the slopes then decide, which
    keep their digits (approximate Wolfe conditions, Hager and Zhang 2005).
    """
    eps = torch.finfo(batch.design.dtype).eps
    noise = 8 * eps * start.abs()
    # A small multinomial loss is the logarithm of a probability near 1, which is rounded to eps.
    rounding = eps * batch.n_train if batch.n_classes > 1 else 0.0
    is_lower = objective <= start + SUFFICIENT_DECREASE * length * start_slope + noise + rounding
    flat = torch.maximum(CURVATURE * start_slope.abs(), noise)
    return is_lower & (slope <= flat) & ((slope >= -flat) | (length == 1))


def _evaluate(
    batch: Batch,
    point: Point,
    change: Point,
    length: Tensor,
    weights: Tensor,
    operator: LinearOperator,
) -> ValueAndGradient:
    """Objective and gradient after steps of (subproblems,) lengths."""
    along = spread(length, batch.n_classes, point.values)
    coefficients = torch.addcmul(point.parameters[0], change.parameters[0], along)

    def values(block: Block) -> Tensor:
        at = block.rows, block.columns
        return torch.addcmul(point.values[at], change.values[at], along[block.columns])

    return value_and_gradient(batch, coefficients, values, weights, operator)

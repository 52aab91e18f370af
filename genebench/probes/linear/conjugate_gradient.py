"""Preconditioned conjugate gradients for the Newton equations of many subproblems at once.

    H change = -gradient

Nocedal and Wright 2006, algorithm 5.3. Each subproblem has its own step lengths and its own goal,
and leaves the products when it has reached the goal.
"""

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.objective import hessian_product
from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.preconditioner import Preconditioner
from genebench.probes.linear.segments import Parameters, RaggedArray
from genebench.probes.linear.subproblems import Batch, spread, sum_classes

MAX_ITERATIONS = 1000
# Finished subproblems leave when they are this share: leaving copies the others.
LEAVE_SHARE = 0.1


def dot(n_classes: int, left: Parameters, right: Parameters) -> Tensor:
    """(subproblems,) float64 inner products."""
    return sum_classes(
        torch.linalg.vecdot(left[0], right[0], dim=0) + left[1] * right[1], n_classes
    )


def newton_step(
    batch: Batch,
    weights: RaggedArray,
    gradient: Parameters,
    preconditioner: Preconditioner,
    forcing: Tensor,
    is_open: Tensor,
    operator: LinearOperator,
) -> tuple[Parameters, int]:
    """Solve H change = -gradient as far as the forcing term asks for.

    Args:
        batch: The subproblems.
        weights: Second derivatives of the losses.
        gradient: Gradient of the objective.
        preconditioner: Approximation of H.
        forcing: (subproblems,) float64, the residual that may be left, relative to the gradient.
        is_open: (subproblems,) bool; the change of the others is 0.
        operator: The design matrix, exact or in low precision.

    Returns:
        The change, and the number of Hessian products.
    """
    n_classes = batch.n_classes
    change = (torch.zeros_like(gradient[0]), torch.zeros_like(gradient[1]))
    whole, everyone, weights = change, batch, weights.to(operator.dtype)
    here = torch.arange(batch.n_subproblems, device=forcing.device)
    residual = (-gradient[0], -gradient[1])
    direction = preconditioner.solve(residual)
    eps = torch.finfo(residual[0].dtype).eps
    size = dot(n_classes, residual, direction)
    goal = forcing.square() * size
    for iteration in range(1, MAX_ITERATIONS + 1):
        raise_if_cancelled()
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
        new_size = dot(n_classes, residual, scaled)
        is_open = is_open & (new_size > goal)
        if iteration == MAX_ITERATIONS or not bool(is_open.any()):
            break
        # The next direction is conjugate to this one even if products are rounded; with exact
        # products the ratio is new_size / size.
        ratio = -dot(n_classes, scaled, product) / curvature.clamp_min(1e-300)
        ratio = spread(torch.where(is_open, ratio, 0.0), n_classes, residual[0])
        for part in range(2):
            direction[part].mul_(ratio).add_(scaled[part])
        size = new_size
        if is_open.double().mean() <= 1 - LEAVE_SHARE:
            if change is not whole:
                everyone.subset(here).put(whole, change)
            keep = is_open.nonzero().flatten()
            subset = batch.subset(keep)
            batch, weights = batch.take(subset), weights.take(subset)
            preconditioner = preconditioner.take(subset)
            here, size, goal, is_open = here[keep], size[keep], goal[keep], is_open[keep]
            change, residual, direction = (
                subset.take(part) for part in (change, residual, direction)
            )
    if change is not whole:
        everyone.subset(here).put(whole, change)
    return whole, iteration

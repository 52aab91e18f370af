"""Preconditioned conjugate gradients for many linear systems at once.

Nocedal and Wright 2006, algorithm 5.3, each system with step lengths and a goal of its own; those
that reached it leave.
"""

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.axes import Axes
from genebench.probes.linear.batches import Batch, balance, spread, sum_systems
from genebench.probes.linear.designs import Products
from genebench.probes.linear.parts import ByPart, Pair
from genebench.probes.linear.passes import Adjoint, Forward

MAX_CONJUGATE = 1000
# Systems that are done leave once they are this share: leaving copies those that stay.
LEAVE_SHARE = 0.1


def dot(n_classes: int, left: Pair, right: Pair) -> Tensor:
    """(systems,) inner products, in float64."""
    return sum_systems(inner(left, right), n_classes)


def inner(left: Pair, right: Pair) -> Tensor:
    """(columns,) inner products."""
    products: Tensor = torch.linalg.vecdot(left[0], right[0], dim=0) + left[1] * right[1]
    return products


def find_step(
    batch: Batch,
    weights: ByPart,
    gradient: Pair,
    axes: Axes,
    forcing: Tensor,
    is_open: Tensor,
    products: Products,
) -> tuple[Pair, int]:
    """Solve second derivatives times change = - gradient.

    A system that is not open, or no longer, stands still: beyond its goal there is only rounding
    to amplify.

    Args:
        batch: The systems.
        weights: Second derivatives of the losses.
        gradient: Of the objective.
        axes: The preconditioner.
        forcing: (systems,) float64; the rest that may be left, as a share of the gradient.
        is_open: (systems,) bool, those to solve.
        products: Of the design's matrix, or of one that is rounded.

    Returns:
        The change, and the number of products used.
    """
    n_classes = batch.n_classes
    change = (torch.zeros_like(gradient[0]), torch.zeros_like(gradient[1]))
    whole, everyone, weights = change, batch, weights.to(products.dtype)
    here = torch.arange(batch.n_systems, device=forcing.device)
    rest = (-gradient[0], -gradient[1])
    conjugate = axes.divide(rest)
    eps = torch.finfo(rest[0].dtype).eps
    size = dot(n_classes, rest, conjugate)
    goal = forcing.square() * size
    for product in range(1, MAX_CONJUGATE + 1):
        raise_if_cancelled()
        curved = _curve(batch, weights, conjugate, products)
        along = dot(n_classes, conjugate, curved)
        # Rounding can leave a direction without curvature; there is nothing to gain along it.
        is_open = is_open & (along > eps * size) & (size > 0)
        length = torch.where(is_open, size / along.clamp_min(1e-300), 0.0)
        length = spread(length, n_classes, rest[0])
        for part in range(2):
            change[part].addcmul_(conjugate[part], length)
            rest[part].addcmul_(curved[part], length, value=-1.0)
        scaled = axes.divide(rest)
        new_size = dot(n_classes, rest, scaled)
        is_open = is_open & (new_size > goal)
        if product == MAX_CONJUGATE or not bool(is_open.any()):
            break
        # What makes the next direction conjugate to this one, rounded products or not; with
        # exact ones it is new_size / size.
        ratio = -dot(n_classes, scaled, curved) / along.clamp_min(1e-300)
        ratio = torch.where(is_open, ratio, 0.0)
        ratio = spread(ratio, n_classes, rest[0])
        for part in range(2):
            conjugate[part].mul_(ratio).add_(scaled[part])
        size = new_size
        if is_open.double().mean() <= 1 - LEAVE_SHARE:
            if change is not whole:
                everyone.some(here).put(whole, change)
            keep = is_open.nonzero().flatten()
            some = batch.some(keep)
            batch, weights, axes = batch.take(some), weights.take(some), axes.take(some)
            here, size, goal, is_open = here[keep], size[keep], goal[keep], is_open[keep]
            change, rest, conjugate = (some.take(pair) for pair in (change, rest, conjugate))
    if change is not whole:
        everyone.some(here).put(whole, change)
    return whole, product


def _curve(batch: Batch, weights: ByPart, change: Pair, products: Products) -> Pair:
    """Second derivatives of the objective times a change, in one pass over the rows."""
    forward, adjoint = Forward(change, products), Adjoint(batch, products)
    for block in batch.blocks(products.dtype):
        moved = batch.loss.curve(forward.rows(block), weights[block], batch.n_classes)
        adjoint.collect(block, moved)
    curved, intercepts = adjoint.finish()
    return balance(curved, batch.n_classes) + batch.penalise(change[0]), intercepts

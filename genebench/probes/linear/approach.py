"""Polak-Ribière conjugate-gradient warm-up before Newton-CG.

Far from the end, second derivatives change faster than equations with them are solved: where many
classes compete and unscaled features saturate their losses, a step of Newton's ends far beyond the
lowest point. Here every product is of the point where the systems stand, one there and one back for
each step (Nocedal and Wright 2006, section 5.2, Polak-Ribière with restarts; a step is as long as
one of Newton's method along its line). Rounded products lead nearly as far as exact ones: to where
the gradient is no more than what they round away.
"""

import torch
from torch import Tensor

from genebench.cancellation import raise_if_cancelled
from genebench.probes.linear.axes import find_axes
from genebench.probes.linear.batches import Batch, Point, spread, sum_systems
from genebench.probes.linear.conjugate import dot
from genebench.probes.linear.designs import Products
from genebench.probes.linear.parts import Block, ByPart, Pair
from genebench.probes.linear.passes import Forward, move_to
from genebench.probes.linear.slopes import Slope, find_slope, gradient_norm

MAX_STEPS = 60
# The preconditioner is found again once an objective has fallen by this share.
REFRESH = 0.2
# A step that ends higher is shortened, at most to this share; after so many looks it is taken back.
LEAST_SHARE, MAX_LOOKS = 0.1, 5
# A system is near when a step lowers its objective by less than this share, or when its gradient is
# what products round away. All go on until this share of them is.
LITTLE, MOST = 1e-4, 0.5


def approach(batch: Batch, start: Pair, products: Products) -> Tensor:
    """Bring systems near where their objectives are lowest, in place.

    Args:
        batch: The systems.
        start: Where they start.
        products: Of a matrix that is near the design's.

    Returns:
        (systems,) float64 norms of the gradients where they started.
    """
    n_classes, point = batch.n_classes, move_to(batch, start)
    weights, ahead = batch.empty(), batch.empty()
    slope = find_slope(batch, point.coefficients, point.values.__getitem__, weights, products)
    first = gradient_norm(batch, slope)
    near = products.noise * (n_classes / batch.n_train).sqrt()
    is_open = torch.ones_like(first, dtype=torch.bool)
    known = slope.total
    before, size = slope.pair, torch.ones_like(first)
    direction = torch.zeros_like(before[0]), torch.zeros_like(before[1])
    for step in range(MAX_STEPS):
        raise_if_cancelled()
        if step == 0 or bool((slope.total < (1 - REFRESH) * known).any()):
            known, axes = slope.total, find_axes(batch, weights, products)
        gradient = slope.pair
        scaled = axes.divide(gradient)
        new_size = dot(n_classes, gradient, scaled)
        ratio = ((new_size - dot(n_classes, before, scaled)) / size).clamp_min(0.0)
        for half, down in zip(direction, scaled, strict=True):
            half.mul_(spread(ratio, n_classes, half)).sub_(down)
        before, size = gradient, new_size
        falls = dot(n_classes, gradient, direction)
        length = -falls / _look_ahead(batch, weights, direction, products, ahead)
        is_open &= length.isfinite() & (length > 0)
        if not bool(is_open.all()):
            # What is not a number times nothing is not nothing.
            stands = ~spread(is_open, n_classes, direction[1]).bool()
            for half in direction:
                half.masked_fill_(stands, 0.0)
        last = slope.total
        length = torch.where(is_open, length, 0.0)
        slope = _step(batch, point, Point(*direction, ahead), slope, falls, length, products)
        is_open &= (last - slope.total > LITTLE * last) & (gradient_norm(batch, slope) > near)
        if is_open.double().mean() <= MOST:
            break
    return first


def _look_ahead(
    batch: Batch, weights: ByPart, direction: Pair, products: Products, ahead: ByPart
) -> Tensor:
    """How much the objective bends along a direction, in one pass over the rows.

    Args:
        batch: The systems.
        weights: Second derivatives of the losses.
        direction: Of coefficients and intercepts.
        products: See `approach`.
        ahead: What the change of the values is written to.

    Returns:
        (systems,) float64.
    """
    forward = Forward(direction, products)
    bends = torch.linalg.vecdot(batch.penalise(direction[0]), direction[0], dim=0).double()
    for block in batch.blocks():
        ahead[block] = forward.rows(block)
        curved = batch.loss.curve(ahead[block].clone(), weights[block], batch.n_classes)
        curved = curved.mul_(ahead[block]).sum(dim=0)
        bends.index_add_(0, block.part.columns, curved.double())
    return sum_systems(bends, batch.n_classes)


def _step(
    batch: Batch,
    point: Point,
    change: Point,
    slope: Slope,
    falls: Tensor,
    length: Tensor,
    products: Products,
) -> Slope:
    """Step along a change, in place; less far, or not at all, rather than end higher.

    Args:
        batch: The systems.
        point: Where they stand.
        change: What a step of length 1 changes.
        slope: Where they stand; its weights are overwritten.
        falls: (systems,) float64 slopes along the change.
        length: (systems,) float64; 0 for those that stand still.
        products: See `approach`.

    Returns:
        The slope where they end.
    """
    last, weights, added = slope.total, slope.weights, length
    for look in range(1, MAX_LOOKS + 1):
        along = spread(added, batch.n_classes, point.intercepts)

        def values(block: Block, along: Tensor = along) -> Tensor:
            return point.values[block].addcmul_(change.values[block], block.part.take(along))

        point.coefficients.addcmul_(change.coefficients, along)
        point.intercepts.addcmul_(change.intercepts, along)
        slope = find_slope(batch, point.coefficients, values, weights, products)
        has_risen = (length > 0) & ~(slope.total <= last)
        if not bool(has_risen.any()):
            break
        # Where the parabola through all that is known of the line is lowest.
        share = falls * length / (falls * length + last - slope.total) / 2
        share = share.nan_to_num(LEAST_SHARE).clamp(LEAST_SHARE, 0.5) * (look < MAX_LOOKS - 1)
        added = torch.where(has_risen, (share - 1) * length, 0.0)
        length = length + added
    return slope

"""Preconditioned conjugate gradients, for many systems at once.

Nocedal and Wright 2006, algorithm 5.3, each system with step lengths and a goal of its own; those
that reached it leave.
"""

import torch
from torch import Tensor

from genebench.probes.linear.axes import Axes, Pair
from genebench.probes.linear.batches import Batch, balance, columns_of, spread, sum_systems
from genebench.probes.linear.designs import Products, row_blocks
from genebench.stopping import heed_stop

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
    weights: Tensor,
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
        weights: (n, columns) second derivatives of the losses.
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
    whole, here = change, torch.arange(batch.n_systems, device=forcing.device)
    parts = _part_weights(batch, weights, columns_of(here, n_classes))
    rest = (-gradient[0], -gradient[1])
    conjugate = axes.divide(rest)
    eps = torch.finfo(rest[0].dtype).eps
    size = dot(n_classes, rest, conjugate)
    goal = forcing.square() * size
    for product in range(1, MAX_CONJUGATE + 1):
        heed_stop()
        curved = _curve(batch, parts, conjugate, products)
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
            keep = is_open.nonzero().flatten()
            columns = columns_of(keep, n_classes)
            if change is not whole:
                _put_change(whole, change, columns_of(here, n_classes))
            batch = batch.take(keep)
            here, size, goal, is_open = here[keep], size[keep], goal[keep], is_open[keep]
            parts = _part_weights(batch, weights, columns_of(here, n_classes))
            axes = axes.take(keep, columns)
            change, rest, conjugate = (
                (pair[0].index_select(1, columns), pair[1][columns])
                for pair in (change, rest, conjugate)
            )
    if change is not whole:
        _put_change(whole, change, columns_of(here, n_classes))
    return whole, product


def _part_weights(batch: Batch, weights: Tensor, columns: Tensor) -> list[Tensor]:
    """The weights that each span of a batch needs; the batch has these columns of them."""
    if len(batch.spans) == 1 and len(columns) == weights.shape[1]:
        return [weights]
    return [weights[span.rows].index_select(1, span.take(columns)) for span in batch.spans]


def _put_change(whole: Pair, part: Pair, columns: Tensor) -> None:
    whole[0].index_copy_(1, columns, part[0])
    whole[1][columns] = part[1]


def _curve(batch: Batch, weights: list[Tensor], change: Pair, products: Products) -> Pair:
    """Second derivatives of the objective times a change, in one pass over the rows."""
    projected, sums = products.project(change[0]), products.zeros(batch.n_columns)
    intercepts = torch.zeros_like(change[1])
    for span, weight in zip(batch.spans, weights, strict=True):
        shift, some = span.take(change[1]), projected
        if span.columns is not None:
            some = products.some(projected, span.columns)
        n_columns = weight.shape[1]
        part, shifts = products.zeros(n_columns), torch.zeros_like(shift)
        for block in row_blocks(len(weight), n_columns, weight.itemsize):
            rows = slice(span.rows.start + block.start, span.rows.start + block.stop)
            moved = products.rows(some, rows).add_(shift)
            moved = batch.loss.curve(moved, weight[block], batch.n_classes)
            shifts += moved.sum(dim=0)
            products.collect(part, rows, moved)
        if span.columns is None:
            sums, intercepts = part, shifts
        else:
            intercepts.index_add_(0, span.columns, shifts)
            for whole, added in zip(sums, part, strict=True):
                whole.index_add_(products.column_axis, span.columns, added)
    curved = balance(products.finish(sums), batch.n_classes)
    return curved + batch.penalise(change[0]), intercepts

"""Subproblems that share a design, solved together as a batch.

A subproblem is one fit of one target on one set of training rows: a column of coefficients, or one
column for each class if multinomial. It minimises

    f(w, b) = sum over its training rows of loss(x w + b, y) + (penalty_strength / 2) |w|²

which is scikit-learn's objective divided by C = 1 / penalty_strength. Subproblems are independent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from genebench.probes.linear.losses import Loss
from genebench.probes.linear.operators import DesignMatrix, row_blocks
from genebench.probes.linear.segments import (
    Block,
    Parameters,
    RaggedArray,
    RowSegments,
    Segment,
    Subset,
    columns_of,
)


@dataclass(frozen=True)
class Batch:
    """Subproblems that share a design.

    Attributes:
        design: n rows.
        loss: Loss of all subproblems.
        n_classes: Columns of one subproblem.
        all_targets: (n, target columns) of any dtype; class numbers if multinomial.
        target_columns: (subproblems,) int64, the target column of each.
        masks: (n, masks) bool, sets of rows.
        folds: (subproblems,) int64, the mask of each one's training rows.
        penalty_strength: (subproblems,) float64, 1 / C.
        penalty_weights: (features, subproblems) factors of the penalty of each squared coefficient:
            the variance over the training rows where features are standardised; None for 1.
        tolerance: A subproblem has converged when |gradient| / n_train is below it, with features
            at unit root mean square length, and the Newton decrement is small (`newton_cg`).
        row_segments: Rows by the subproblems that train on them.
        sample_weight: (n, 1) weights of the rows; None for 1.
        class_weight: (subproblems, classes) weights of the targets 0, 1, …; None for 1.
        fit_intercept: Whether intercepts are fitted; else they stay 0.
    """

    design: DesignMatrix
    loss: Loss
    n_classes: int
    all_targets: Tensor
    target_columns: Tensor
    masks: Tensor
    folds: Tensor
    penalty_strength: Tensor
    penalty_weights: Tensor | None
    tolerance: float
    row_segments: RowSegments
    sample_weight: Tensor | None = None
    class_weight: Tensor | None = None
    fit_intercept: bool = True

    @property
    def n_subproblems(self) -> int:
        """Number of subproblems."""
        return len(self.target_columns)

    @property
    def n_columns(self) -> int:
        """Number of columns of all subproblems."""
        return self.n_subproblems * self.n_classes

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of coefficients and linear predictors."""
        return self.design.dtype

    @cached_property
    def n_train(self) -> Tensor:
        """(subproblems,) float64 number of training rows."""
        return self.masks.sum(dim=0).double()[self.folds]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the rows; a subset of a batch has the same number of them."""
        segments = []
        for number, rows in enumerate(self.row_segments.rows):
            own = self.row_segments.some[number, self.folds].nonzero().flatten()
            is_trained = bool(self.row_segments.all[number, self.folds[own]].all())
            is_whole = len(own) == self.n_subproblems
            columns = columns_of(own, self.n_classes)
            segments.append(Segment(number, rows, own, columns, is_whole, is_trained))
        return tuple(segments)

    def blocks(self, dtype: torch.dtype | None = None) -> Iterator[Block]:
        """All rows, in blocks whose (rows, columns) temporaries of a dtype stay in cache."""
        itemsize = (dtype or self.dtype).itemsize
        for segment in self.segments:
            first, n_rows = segment.rows.start, segment.rows.stop - segment.rows.start
            if not len(segment.columns):
                continue
            for here in row_blocks(n_rows, len(segment.columns), itemsize, self.masks.device):
                yield Block(segment, slice(first + here.start, first + here.stop), here)

    def targets(self, block: Block) -> Tensor:
        """(block, subproblems of the segment) targets."""
        columns = self.target_columns[block.segment.subproblems]
        return self.all_targets[block.rows].index_select(1, columns).to(self.dtype)

    def mask(self, block: Block) -> Tensor | None:
        """(block, subproblems of the segment) weights, 0 on held-out rows; None if all are 1."""
        own, mask = block.segment.subproblems, None
        if not block.segment.is_trained:
            mask = self.masks[block.rows].index_select(1, self.folds[own]).to(self.dtype)
        if self.sample_weight is not None:
            weight = self.sample_weight[block.rows].to(self.dtype).expand(-1, len(own))
            mask = weight if mask is None else mask * weight
        if self.class_weight is not None:
            codes = self.targets(block).long()
            places = torch.arange(len(own), device=own.device)
            weight = self.class_weight[own].to(self.dtype)[places, codes]
            mask = weight if mask is None else mask * weight
        return mask

    def subset(self, subproblems: Tensor) -> Subset:
        """Some of the subproblems, in this order."""
        in_segments = []
        for segment in self.segments:
            place = torch.full_like(self.folds, -1)
            place[segment.subproblems] = torch.arange(len(segment.subproblems), device=place.device)
            found = place[subproblems]
            in_segments.append(columns_of(found[found >= 0], self.n_classes))
        return Subset(subproblems, columns_of(subproblems, self.n_classes), tuple(in_segments))

    def empty(self) -> RaggedArray:
        """An uninitialised array of rows and columns."""
        like = self.design.spectrum
        sizes = [(s.rows.stop - s.rows.start, len(s.columns)) for s in self.segments]
        return RaggedArray(tuple(like.new_empty(*size) for size in sizes))

    def take(self, subset: Subset) -> "Batch":
        """The batch of a subset."""
        own, weights = subset.subproblems, self.penalty_weights
        return replace(
            self,
            target_columns=self.target_columns[own],
            folds=self.folds[own],
            penalty_strength=self.penalty_strength[own],
            penalty_weights=None if weights is None else weights.index_select(1, own),
            class_weight=None if self.class_weight is None else self.class_weight[own],
        )

    def penalise(self, coefficients: Tensor) -> Tensor:
        """(width, columns) gradient of the penalty."""
        strength = spread(self.penalty_strength, self.n_classes, coefficients)
        if self.penalty_weights is None:
            return coefficients * strength
        weights = self.penalty_weights.repeat_interleave(self.n_classes, dim=1) * strength
        return self.design.to_coordinates(self.design.to_features(coefficients) * weights)

    def penalty_diagonal(self) -> Tensor:
        """(width, columns) or (columns,) diagonal of the Hessian of the penalty."""
        strength = self.penalty_strength.to(self.dtype)
        if self.penalty_weights is not None:
            strength = self.design.diagonal(self.penalty_weights) * strength
        return strength.repeat_interleave(self.n_classes, dim=-1)


@dataclass(frozen=True)
class Point:
    """Parameters of a batch and their linear predictor.

    Attributes:
        coefficients: (width, columns).
        intercepts: (columns,).
        values: x w + b.
    """

    coefficients: Tensor
    intercepts: Tensor
    values: RaggedArray

    @property
    def parameters(self) -> Parameters:
        """Coefficients and intercepts."""
        return self.coefficients, self.intercepts

    def take(self, subset: Subset) -> "Point":
        """The point of a subset."""
        return Point(*subset.take(self.parameters), self.values.take(subset))


def sum_classes(columns: Tensor, n_classes: int) -> Tensor:
    """(subproblems,) float64 sums of (columns,) over the classes of each subproblem."""
    return columns.double().view(-1, n_classes).sum(dim=1)


def spread(subproblems: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """(columns,) of the dtype of `like`, from (subproblems,)."""
    return subproblems.to(like.dtype).repeat_interleave(n_classes)


def initial_parameters(batch: Batch) -> Parameters:
    """Zero coefficients, and the intercepts that are optimal with them."""
    sums = batch.penalty_strength.new_zeros(batch.n_subproblems, batch.n_classes)
    totals = torch.zeros_like(batch.penalty_strength)
    for block in batch.blocks():
        targets, mask = batch.targets(block), batch.mask(block)
        own = block.segment.subproblems
        counted = torch.ones_like(targets) if mask is None else mask
        if batch.loss.name == "multinomial":
            added = targets.new_zeros(len(own), batch.n_classes)
            added.scatter_add_(1, targets.T.long(), counted.T)
        else:
            added = (targets * counted).sum(dim=0)[:, None]
        sums.index_add_(0, own, added.double())
        totals.index_add_(0, own, counted.sum(dim=0).double())
    share = (sums / totals[:, None]).flatten().to(batch.dtype)
    match batch.loss.name:
        case "logistic":
            intercepts = torch.logit(share, eps=1e-6)
        case "multinomial":
            intercepts = torch.log(share.clamp_min(1e-6))
        case "squared":
            intercepts = share
    intercepts = intercepts * batch.fit_intercept
    return intercepts.new_zeros(batch.design.width, batch.n_columns), intercepts


def class_weights(batch: Batch, weight: Sequence[float] | Literal["balanced"]) -> Tensor:
    """(subproblems, classes) weights; balanced: sum of weights / (classes · sum of the class)."""
    if not isinstance(weight, str):
        given = torch.tensor(weight, dtype=torch.float64, device=batch.folds.device)
        return given.expand(batch.n_subproblems, -1).contiguous()
    n_classes = max(batch.n_classes, 2)
    sums = batch.penalty_strength.new_zeros(batch.n_subproblems, n_classes)
    for block in batch.blocks():
        mask, targets = batch.mask(block), batch.targets(block)
        counted = torch.ones_like(targets) if mask is None else mask
        added = sums.new_zeros(targets.shape[1], n_classes)
        added.scatter_add_(1, targets.T.long(), counted.T.double())
        sums.index_add_(0, block.segment.subproblems, added)
    return sums.sum(dim=1, keepdim=True) / (n_classes * sums)

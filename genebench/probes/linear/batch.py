"""Subproblems that share a design, solved together as a batch.

A subproblem is one fit of one target on one set of training rows: a column of coefficients, or one
column for each class if multinomial. Rows are sorted by the fold that holds them out, and
subproblems by their training rows, so that a pass over the rows is a sequence of slices that leave
out what is held out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from genebench.probes.linear.operators import DesignMatrix, row_blocks

# (width, columns) coefficients and (columns,) intercepts.
Parameters = tuple[Tensor, Tensor]


LossName = Literal["logistic", "multinomial", "squared"]


@dataclass(frozen=True)
class Loss:
    """One loss, on blocks of rows.

    `values` are the linear predictor, (rows, subproblems x classes). `targets` are (rows,
    subproblems), class numbers if multinomial; `mask` are the weights of training rows, 0
    elsewhere, None if 1.

    Attributes:
        name: Its name.
        loss_gradient: (values, targets, mask, weights) to the (subproblems,) float64 sums of the
            losses over training rows, and the residuals (first derivatives), shaped like `values`.
            Overwrites the weights, the second derivatives that `hessian_product` needs, and may
            overwrite the targets. Residuals and weights are 0 where the mask is 0.
        hessian_product: (change, weights, number of classes) to the second derivatives times a
            change of the values; may overwrite `change`.
    """

    name: LossName
    loss_gradient: Callable[[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]
    hessian_product: Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class RowSegments:
    """Slices of rows that together are all rows, and which masks hold them.

    Attributes:
        rows: Slice of each segment.
        some: (segments, masks) bool, whether a mask holds any row of the segment.
        all: (segments, masks) bool, whether a mask holds every row of the segment.
    """

    rows: tuple[slice, ...]
    some: Tensor
    all: Tensor

    @classmethod
    def of(cls, rows: tuple[slice, ...], masks: Tensor) -> "RowSegments":
        """Segments of (n, masks) bool masks."""
        parts = [masks[part] for part in rows]
        some, every = [part.any(dim=0) for part in parts], [part.all(dim=0) for part in parts]
        return cls(rows, torch.stack(some), torch.stack(every))


@dataclass(frozen=True)
class Block:
    """Rows, and neighbouring subproblems that train on some of them.

    Attributes:
        rows: Slice of the rows.
        columns: Slice of the columns.
        subproblems: Slice of the subproblems.
        is_trained: Whether each subproblem trains on every row.
    """

    rows: slice
    columns: slice
    subproblems: slice
    is_trained: bool


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
        row_segments: Rows by the masks that hold them.
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

    @cached_property
    def n_train(self) -> Tensor:
        """(subproblems,) float64 number of training rows."""
        return self.masks.sum(dim=0).double()[self.folds]

    @cached_property
    def runs(self) -> tuple[Block, ...]:
        """The rows of each segment with each run of subproblems that train there."""
        runs, segments = [], self.row_segments
        flags = zip(segments.some[:, self.folds], segments.all[:, self.folds], strict=True)
        for rows, (some, every) in zip(segments.rows, flags, strict=True):
            end = 0
            for trains, members in groupby(some.tolist()):
                own = slice(end, end := end + len(list(members)))
                columns = slice(own.start * self.n_classes, own.stop * self.n_classes)
                if trains:
                    runs.append(Block(rows, columns, own, bool(every[own].all())))
        return tuple(runs)

    def blocks(self, dtype: torch.dtype | None = None) -> Iterator[Block]:
        """The runs, in blocks whose (rows, columns) temporaries of a dtype stay in cache."""
        itemsize = (dtype or self.design.dtype).itemsize
        for run in self.runs:
            n_columns, start = run.columns.stop - run.columns.start, run.rows.start
            n_rows = run.rows.stop - start
            for here in row_blocks(n_rows, n_columns, itemsize, self.masks.device):
                yield replace(run, rows=slice(start + here.start, start + here.stop))

    def targets(self, block: Block) -> Tensor:
        """(block, subproblems) targets."""
        columns = self.target_columns[block.subproblems]
        return self.all_targets[block.rows].index_select(1, columns).to(self.design.dtype)

    def mask(self, block: Block) -> Tensor | None:
        """(block, subproblems) weights, 0 on held-out rows; None if all are 1."""
        own, mask, dtype = block.subproblems, None, self.design.dtype
        if not block.is_trained:
            mask = self.masks[block.rows].index_select(1, self.folds[own]).to(dtype)
        if self.sample_weight is not None:
            weight = self.sample_weight[block.rows].to(dtype)
            mask = weight.expand(-1, len(self.folds[own])) if mask is None else mask * weight
        if self.class_weight is not None:
            codes, weights = self.targets(block).long(), self.class_weight[own].to(dtype)
            weight = weights.gather(1, codes.T).T
            mask = weight if mask is None else mask * weight
        return mask

    def columns_of(self, subproblems: Tensor) -> Tensor:
        """Column numbers of subproblems."""
        offsets = torch.arange(self.n_classes, device=subproblems.device)
        return (subproblems[:, None] * self.n_classes + offsets).flatten()

    def empty(self) -> Tensor:
        """An uninitialised number for each row and column; those held out are never used."""
        return self.design.spectrum.new_empty(self.design.n_rows, self.n_columns)

    def take(self, own: Tensor) -> "Batch":
        """The batch of some subproblems, by ascending number."""
        weights = self.penalty_weights
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
        strength = self.penalty_strength.to(self.design.dtype)
        if self.penalty_weights is not None:
            strength = self.design.diagonal(self.penalty_weights) * strength
        return strength.repeat_interleave(self.n_classes, dim=-1)


def take_columns(parameters: Parameters, columns: Tensor) -> Parameters:
    """Some columns of coefficients and intercepts."""
    return parameters[0].index_select(1, columns), parameters[1][columns]


def put_columns(parameters: Parameters, part: Parameters, columns: Tensor) -> None:
    """Write some columns of coefficients and intercepts, in place."""
    parameters[0].index_copy_(1, columns, part[0])
    parameters[1][columns] = part[1]


def sum_classes(columns: Tensor, n_classes: int) -> Tensor:
    """(subproblems,) float64 sums of (columns,) over the classes of each subproblem."""
    return columns.double().view(-1, n_classes).sum(dim=1)


def spread(subproblems: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """(columns,) of the dtype of `like`, from (subproblems,)."""
    return subproblems.to(like.dtype).repeat_interleave(n_classes)


def _sum_targets(batch: Batch) -> Tensor:
    """(subproblems, classes) float64 sums of the weights of each class, or of the targets 1.

    With a squared loss, the sums of the targets after the weights less these sums.
    """
    n_classes = max(batch.n_classes, 2)
    sums = batch.penalty_strength.new_zeros(batch.n_subproblems, n_classes)
    for block in batch.blocks():
        targets, mask = batch.targets(block), batch.mask(block)
        counted = torch.ones_like(targets) if mask is None else mask
        if batch.loss.name == "multinomial":
            added = targets.new_zeros(targets.shape[1], n_classes)
            added.scatter_add_(1, targets.T.long(), counted.T)
        else:
            ones = (targets * counted).sum(dim=0)
            added = torch.stack([counted.sum(dim=0) - ones, ones], dim=1)
        sums[block.subproblems] += added
    return sums


def initial_parameters(batch: Batch) -> Parameters:
    """Zero coefficients, and the intercepts that are optimal with them."""
    sums = _sum_targets(batch)
    share = sums / sums.sum(dim=1, keepdim=True)
    share = (share if batch.n_classes > 1 else share[:, 1]).flatten().to(batch.design.dtype)
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
    sums = _sum_targets(batch)
    return sums.sum(dim=1, keepdim=True) / (sums.shape[1] * sums)

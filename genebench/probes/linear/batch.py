"""Subproblems that share a design, solved together as a batch.

A subproblem is one fit of one target on one set of training rows: a column of coefficients, or one
column for each class if multinomial. Rows are sorted by the fold that holds them out, and
subproblems by their training rows, so that a pass over the rows is a sequence of slices that leave
out what is held out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import groupby
from operator import mul
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genebench.probes.linear.operators import DesignMatrix, row_blocks

LossName = Literal["logistic", "multinomial", "squared"]


class RowSegments(NamedTuple):
    """Slices of rows that together are all rows."""

    rows: tuple[slice, ...]
    counts: Tensor  # (segments, masks) int64, how many rows of a segment each mask holds

    @classmethod
    def of(cls, rows: tuple[slice, ...], masks: Tensor) -> "RowSegments":
        """Segments of (n, masks) bool masks."""
        return cls(rows, torch.stack([masks[part].sum(dim=0) for part in rows]))


class Block(NamedTuple):
    """Rows, and neighbouring subproblems, with their columns, that train on some of them."""

    rows: slice
    columns: slice
    subproblems: slice
    is_trained: bool  # whether each subproblem trains on every row


@dataclass(frozen=True)
class Batch:
    """Subproblems that share a design.

    A subproblem has converged when |gradient| / n_train is below the tolerance, with features at
    unit root mean square length, and the Newton decrement is small (`lbfgs`).
    """

    design: DesignMatrix
    loss: LossName
    n_classes: int  # columns of one subproblem
    all_targets: Tensor  # (n, target columns) of any dtype; class numbers if multinomial
    target_columns: Tensor  # (subproblems,) int64, the target column of each
    masks: Tensor  # (n, masks) bool, sets of rows
    folds: Tensor  # (subproblems,) int64, the mask of each one's training rows
    penalty_strength: Tensor  # (subproblems,) float64, 1 / C
    # (features, subproblems) factors of the penalty of each squared coefficient: the variance over
    # the training rows where features are standardised; None for 1.
    penalty_weights: Tensor | None
    tolerance: float
    row_segments: RowSegments
    sample_weight: Tensor | None = None  # (n, 1); None for 1
    class_weight: Tensor | None = None  # (subproblems, classes) of the targets 0, 1, …; None for 1
    fit_intercept: bool = True  # else intercepts stay 0

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
        return self.row_segments.counts.sum(dim=0).double()[self.folds]

    @cached_property
    def class_sums(self) -> Tensor:
        """(subproblems, classes) float64 sums of the weights of each class; 0 and 1 if logistic."""
        sums = self.penalty_strength.new_zeros(self.n_subproblems, max(self.n_classes, 2))
        for block in self.blocks():
            targets = self.targets(block)
            mask = self.mask(block, targets)
            counted = torch.ones_like(targets) if mask is None else mask
            sums[block.subproblems].scatter_add_(1, targets.T.long(), counted.T.double())
        return sums

    @cached_property
    def runs(self) -> tuple[Block, ...]:
        """The rows of each segment with each run of subproblems that train there."""
        runs = []
        counts = self.row_segments.counts[:, self.folds]
        for rows, held in zip(self.row_segments.rows, counts, strict=True):
            end, is_whole = 0, held == rows.stop - rows.start
            for trains, members in groupby((held > 0).tolist()):
                own = slice(end, end := end + len(list(members)))
                columns = slice(own.start * self.n_classes, own.stop * self.n_classes)
                if trains:
                    runs.append(Block(rows, columns, own, bool(is_whole[own].all())))
        return tuple(runs)

    def blocks(self) -> Iterator[Block]:
        """The runs, in blocks whose (rows, columns) temporaries stay in cache."""
        itemsize = self.design.dtype.itemsize
        for run in self.runs:
            n_columns, start = run.columns.stop - run.columns.start, run.rows.start
            for here in row_blocks(run.rows.stop - start, n_columns, itemsize, self.masks.device):
                yield run._replace(rows=slice(start + here.start, start + here.stop))

    def targets(self, block: Block) -> Tensor:
        """(block, subproblems) targets."""
        columns = self.target_columns[block.subproblems]
        return self.all_targets[block.rows].index_select(1, columns).to(self.design.dtype)

    def mask(self, block: Block, targets: Tensor) -> Tensor | None:
        """(block, subproblems) weights, 0 on held-out rows; None if all are 1."""
        own, dtype = block.subproblems, self.design.dtype
        parts = []
        if not block.is_trained:
            parts.append(self.masks[block.rows].index_select(1, self.folds[own]).to(dtype))
        if self.sample_weight is not None:
            parts.append(self.sample_weight[block.rows].to(dtype).expand_as(targets))
        if self.class_weight is not None:
            parts.append(self.class_weight[own].to(dtype).gather(1, targets.T.long()).T)
        return reduce(mul, parts) if parts else None

    def columns_of(self, subproblems: Tensor) -> Tensor:
        """Column numbers of subproblems."""
        offsets = torch.arange(self.n_classes, device=subproblems.device)
        return (subproblems[:, None] * self.n_classes + offsets).flatten()

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

    def double(self) -> "Batch":
        """The same subproblems with products in float64."""
        weights = self.penalty_weights
        weights = None if weights is None else weights.double()
        return replace(self, design=self.design.double(), penalty_weights=weights)

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


def sum_classes(columns: Tensor, n_classes: int) -> Tensor:
    """(subproblems,) float64 sums of (columns,) over the classes of each subproblem."""
    return columns.double().view(-1, n_classes).sum(dim=1)


def spread(subproblems: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """(columns,) of (subproblems,), in the dtype of another tensor."""
    return subproblems.repeat_interleave(n_classes).to(like.dtype)


def initial_parameters(batch: Batch) -> Tensor:
    """Zero coefficients, and the intercepts that are optimal with them, 0 if squared."""
    parameters = batch.design.spectrum.new_zeros(batch.design.width + 1, batch.n_columns)
    if batch.loss != "squared" and batch.fit_intercept:
        sums = batch.class_sums
        logs = torch.log((sums / sums.sum(dim=1, keepdim=True)).clamp_min(1e-6))
        parameters[-1] = (logs if batch.n_classes > 1 else logs[:, 1] - logs[:, 0]).flatten()
    return parameters


def class_weights(batch: Batch, weight: Sequence[float] | Literal["balanced"]) -> Tensor:
    """(subproblems, classes) weights; balanced: sum of weights / (classes · sum of the class)."""
    if not isinstance(weight, str):
        given = torch.tensor(weight, dtype=torch.float64, device=batch.folds.device)
        return given.expand(batch.n_subproblems, -1).contiguous()
    sums = batch.class_sums
    return sums.sum(dim=1, keepdim=True) / (sums.shape[1] * sums)

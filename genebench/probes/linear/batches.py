"""A batch of subproblems that share a design, and the state of their solution.

A system is one fit: a column of coefficients, or one for each class if multinomial. It minimises

    f(w, b) = sum over its training rows of loss(x w + b, y) + (strength / 2) |w|²

which is scikit-learn's objective divided by C = 1 / strength.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from genebench.probes.linear.designs import Design, row_blocks
from genebench.probes.linear.losses import Loss
from genebench.probes.linear.parts import Block, ByPart, Pair, Part, Runs, Some, columns_of


@dataclass(frozen=True)
class Batch:
    """Systems that share a design.

    What many systems share is kept once, and looked up for a block of rows at a time.

    Attributes:
        design: n rows.
        loss: Of all systems.
        n_classes: Columns of one system.
        outcomes: (n, units) of any type; what systems predict, of classes their numbers.
        units: (systems,) int64, the unit that each predicts.
        masks: (n, masks) bool, sets of rows.
        folds: (systems,) int64, the mask of each one's training rows.
        strength: (systems,) float64, 1 / C.
        scales: (features, systems) by which the penalty of each squared coefficient of a feature
            is multiplied: the variance of the training rows where features are standardised; None
            for 1.
        tolerance: A system has converged when |gradient| / n_train is below it, features taken at
            unit root mean square length, and the objective has little left to fall.
        runs: Rows that are trained on by the same systems, put together.
    """

    design: Design
    loss: Loss
    n_classes: int
    outcomes: Tensor
    units: Tensor
    masks: Tensor
    folds: Tensor
    strength: Tensor
    scales: Tensor | None
    tolerance: float
    runs: Runs

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return len(self.units)

    @property
    def n_columns(self) -> int:
        """Columns of all systems."""
        return self.n_systems * self.n_classes

    @property
    def dtype(self) -> torch.dtype:
        """Of all numbers that are computed."""
        return self.design.dtype

    @cached_property
    def n_train(self) -> Tensor:
        """(systems,) float64 number of training rows."""
        return self.masks.sum(dim=0).double()[self.folds]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The rows, by who trains on them; as many for some of the systems as for all."""
        parts = []
        for number, rows in enumerate(self.runs.rows):
            systems = self.runs.some[number, self.folds].nonzero().flatten()
            columns, is_whole = columns_of(systems, self.n_classes), len(systems) == self.n_systems
            is_trained = bool(self.runs.all[number, self.folds[systems]].all())
            parts.append(Part(number, rows, systems, columns, is_whole, is_trained))
        return tuple(parts)

    def blocks(self, dtype: torch.dtype | None = None) -> Iterator[Block]:
        """All rows, in blocks whose (rows, columns) temporaries stay in cache.

        Args:
            dtype: Of the temporaries; the batch's own if not given.
        """
        itemsize = (dtype or self.dtype).itemsize
        for part in self.parts:
            first, n_rows = part.rows.start, part.rows.stop - part.rows.start
            if not len(part.columns):
                continue
            for here in row_blocks(n_rows, len(part.columns), itemsize):
                yield Block(part, slice(first + here.start, first + here.stop), here)

    def targets(self, block: Block) -> Tensor:
        """(block, systems of its part) of what is predicted."""
        units = self.units[block.part.systems]
        return self.outcomes[block.rows].index_select(1, units).to(self.dtype)

    def mask(self, block: Block) -> Tensor | None:
        """(block, systems of its part), 1 on training rows and 0 elsewhere; None for all 1."""
        if block.part.is_trained:
            return None
        folds = self.folds[block.part.systems]
        return self.masks[block.rows].index_select(1, folds).to(self.dtype)

    def some(self, systems: Tensor) -> Some:
        """Some of the systems, in this order."""
        in_parts = []
        for part in self.parts:
            place = torch.full_like(self.folds, -1)
            place[part.systems] = torch.arange(len(part.systems), device=place.device)
            found = place[systems]
            in_parts.append(columns_of(found[found >= 0], self.n_classes))
        return Some(systems, columns_of(systems, self.n_classes), tuple(in_parts))

    def empty(self) -> ByPart:
        """Room for numbers of rows and columns."""
        like = self.design.spectrum
        sizes = [(part.rows.stop - part.rows.start, len(part.columns)) for part in self.parts]
        return ByPart(tuple(like.new_empty(*size) for size in sizes))

    def take(self, some: Some) -> "Batch":
        """The batch of some of the systems."""
        systems = some.systems
        return replace(
            self,
            units=self.units[systems],
            folds=self.folds[systems],
            strength=self.strength[systems],
            scales=None if self.scales is None else self.scales.index_select(1, systems),
        )

    def penalise(self, coefficients: Tensor) -> Tensor:
        """Gradient of the penalty: (width, columns)."""
        strength = spread(self.strength, self.n_classes, coefficients)
        if self.scales is None:
            return coefficients * strength
        scales = self.scales.repeat_interleave(self.n_classes, dim=1) * strength
        return self.design.to_coordinates(self.design.to_features(coefficients) * scales)

    def penalty_diagonal(self) -> Tensor:
        """(width, columns) or (columns,) diagonal of the penalty's second derivatives."""
        strength = self.strength.to(self.dtype)
        if self.scales is not None:
            strength = self.design.diagonal(self.scales) * strength
        return strength.repeat_interleave(self.n_classes, dim=-1)


@dataclass(frozen=True)
class Point:
    """Where each column of a batch stands.

    Attributes:
        coefficients: (width, columns).
        intercepts: (columns,).
        values: x w + b.
    """

    coefficients: Tensor
    intercepts: Tensor
    values: ByPart

    @property
    def pair(self) -> Pair:
        """Coefficients and intercepts."""
        return self.coefficients, self.intercepts

    def take(self, some: Some) -> "Point":
        """The point of some of the systems."""
        return Point(*some.take(self.pair), self.values.take(some))


def sum_systems(columns: Tensor, n_classes: int) -> Tensor:
    """(systems,) float64 sums of (columns,) over the classes of each system."""
    return columns.double().view(-1, n_classes).sum(dim=1)


def spread(systems: Tensor, n_classes: int, like: Tensor) -> Tensor:
    """(columns,) from (systems,), of the type of `like`."""
    return systems.to(like.dtype).repeat_interleave(n_classes)


def balance(derivatives: Tensor, n_classes: int) -> Tensor:
    """Take the mean over the classes of each system out of (width, columns), in place.

    Derivatives of multinomial losses sum to 0 over the classes. What rounding leaves of the sum
    must go: all classes moved alike change no loss, so nothing but the penalty holds them back.
    """
    if n_classes > 1:
        by_system = derivatives.view(len(derivatives), -1, n_classes)
        by_system -= by_system.mean(dim=2, keepdim=True)
    return derivatives


def find_start(batch: Batch) -> Pair:
    """No coefficients, and the intercepts that fit the training rows best without any."""
    sums = batch.strength.new_zeros(batch.n_systems, batch.n_classes)
    for block in batch.blocks():
        targets, mask, systems = batch.targets(block), batch.mask(block), block.part.systems
        counted = torch.ones_like(targets) if mask is None else mask
        if batch.loss.name == "multinomial":
            added = targets.new_zeros(len(systems), batch.n_classes)
            added.scatter_add_(1, targets.T.long(), counted.T)
        else:
            added = (targets * counted).sum(dim=0)[:, None]
        sums.index_add_(0, systems, added.double())
    share = (sums / batch.n_train[:, None]).flatten().to(batch.dtype)
    match batch.loss.name:
        case "logistic":
            intercepts = torch.logit(share, eps=1e-6)
        case "multinomial":
            intercepts = torch.log(share.clamp_min(1e-6))
        case "squared":
            intercepts = share
    return intercepts.new_zeros(batch.design.width, batch.n_columns), intercepts

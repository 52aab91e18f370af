"""Systems that are solved together, and where they stand.

A system is one fit: a column of coefficients, or one for each class if multinomial. It minimises

    f(w, b) = sum over its training rows of loss(x w + b, y) + (strength / 2) |w|²

which is scikit-learn's objective divided by C = 1 / strength.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from genebench.probes.linear.designs import Design, row_blocks
from genebench.probes.linear.losses import Loss

# Products of fewer numbers are done sooner than their spans are told apart.
WORTH_SPANS = 1 << 30


@dataclass(frozen=True)
class Runs:
    """Neighbouring rows that are trained on together.

    Attributes:
        rows: Of each run; together all rows.
        trained: (runs, masks) bool, whether a mask holds any row of the run.
    """

    rows: tuple[slice, ...]
    trained: Tensor


@dataclass(frozen=True)
class Span:
    """Rows, and the systems that train on any of them.

    Attributes:
        rows: Neighbours.
        systems: Their numbers in rising order; None for all.
        columns: Theirs; None for all.
    """

    rows: slice
    systems: Tensor | None = None
    columns: Tensor | None = None

    def take(self, tensor: Tensor) -> Tensor:
        """What a (..., columns) tensor has for the columns of the span."""
        return tensor if self.columns is None else tensor.index_select(-1, self.columns)


@dataclass(frozen=True)
class Batch:
    """Systems that share a design.

    What many systems share is kept once, and looked up for a block of rows at a time.

    Attributes:
        design: n rows.
        loss: Of all systems.
        n_classes: Columns of one system.
        outcomes: (n, units x classes) of any type; what systems predict.
        units: (systems,) int64, the unit that each predicts.
        masks: (n, masks) bool, sets of rows.
        folds: (systems,) int64, the mask of each one's training rows.
        strength: (systems,) float64, 1 / C.
        scales: (features, systems) by which the penalty of each squared coefficient of a feature
            is multiplied: the variance of the training rows where features are standardised; None
            for 1.
        tolerance: A system has converged when |gradient| / n_train is below it, features taken at
            unit root mean square length, and the objective has little left to fall.
        runs: Rows in whose products not all systems need take part; None if there are none.
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
    runs: Runs | None = None

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
        return self.design.spectrum.dtype

    @cached_property
    def n_train(self) -> Tensor:
        """(systems,) float64 number of training rows."""
        return self.masks.sum(dim=0).double()[self.folds]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """What second derivatives need of the rows; rows that are not trained on weigh nothing."""
        n_rows, width = self.design.n_rows, self.design.width
        whole = (Span(slice(0, n_rows)),)
        is_small = n_rows * width * self.n_columns < WORTH_SPANS
        if self.runs is None or not self.design.is_dense or is_small:
            return whole
        trained = self.runs.trained[:, self.folds]
        if bool(trained.all()):
            return whole
        systems = [part.nonzero().flatten() for part in trained]
        pairs = zip(self.runs.rows, systems, strict=True)
        return tuple(
            Span(rows, some, columns_of(some, self.n_classes)) for rows, some in pairs if len(some)
        )

    def targets(self, block: slice) -> Tensor:
        """(block, columns) of what is predicted."""
        rows = self.outcomes[block]
        by_unit = rows.view(len(rows), -1, self.n_classes)
        return by_unit.index_select(1, self.units).flatten(1).to(self.dtype)

    def mask(self, block: slice) -> Tensor:
        """(block, systems), 1 on training rows and 0 elsewhere."""
        return self.masks[block].to(self.dtype).index_select(1, self.folds)

    def take(self, systems: Tensor) -> "Batch":
        """The batch of some of the systems."""
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
        values: (n, columns), x w + b on all rows, held out or not.
    """

    coefficients: Tensor
    intercepts: Tensor
    values: Tensor

    def take(self, columns: Tensor) -> "Point":
        """The point of some of the columns."""
        return Point(
            self.coefficients.index_select(1, columns),
            self.intercepts[columns],
            self.values.index_select(1, columns),
        )


def columns_of(systems: Tensor, n_classes: int) -> Tensor:
    """Column numbers of these systems."""
    if n_classes == 1:
        return systems
    offsets = torch.arange(n_classes, device=systems.device)
    return (systems[:, None] * n_classes + offsets).flatten()


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


def start_point(batch: Batch) -> Point:
    """No coefficients, and the intercepts that fit the training rows best without any."""
    n_rows, sums = batch.design.n_rows, batch.strength.new_zeros(batch.n_columns)
    for block in row_blocks(n_rows, batch.n_columns):
        mask = batch.mask(block).repeat_interleave(batch.n_classes, dim=1)
        sums += (batch.targets(block) * mask).sum(dim=0)
    share = (sums / batch.n_train.repeat_interleave(batch.n_classes)).to(batch.dtype)
    match batch.loss.name:
        case "logistic":
            intercepts = torch.logit(share, eps=1e-6)
        case "multinomial":
            intercepts = torch.log(share.clamp_min(1e-6))
        case "squared":
            intercepts = share
    coefficients = intercepts.new_zeros(batch.design.width, batch.n_columns)
    return Point(coefficients, intercepts, intercepts.expand(n_rows, -1).clone())


def move_to(batch: Batch, coefficients: Tensor, intercepts: Tensor) -> Point:
    """The point of given coefficients."""
    values = batch.design.multiply(coefficients, intercepts)
    return Point(coefficients, intercepts, values)

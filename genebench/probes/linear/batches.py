"""Systems that are solved together, and where they stand.

A system is one fit: a column of coefficients, or one for each class if multinomial. It minimises

    f(w, b) = sum over its training rows of loss(x w + b, y) + (strength / 2) |w|²

which is scikit-learn's objective divided by C = 1 / strength.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genebench.probes.linear.designs import Design
from genebench.probes.linear.losses import Loss


@dataclass(frozen=True)
class Batch:
    """Systems that share a design.

    Attributes:
        design: n rows.
        loss: Of all systems.
        targets: (n, systems x classes) of the design's type.
        mask: (n, systems), 1 on training rows and 0 elsewhere.
        strength: (systems,) float64, 1 / C.
        scales: (features, systems) by which the penalty of each squared coefficient of a feature
            is multiplied: the variance of the training rows where features are standardised; None
            for 1.
        tolerance: A system has converged when |gradient| / n_train is below it, features taken at
            unit root mean square length, and the next step is small (`is_settled`).
    """

    design: Design
    loss: Loss
    targets: Tensor
    mask: Tensor
    strength: Tensor
    scales: Tensor | None
    tolerance: float

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return self.mask.shape[1]

    @property
    def n_classes(self) -> int:
        """Columns of one system."""
        return self.targets.shape[1] // self.mask.shape[1]

    def take(self, systems: Tensor) -> "Batch":
        """The batch of some of the systems."""
        columns = columns_of(systems, self.n_classes)
        return replace(
            self,
            targets=self.targets[:, columns],
            mask=self.mask[:, systems],
            strength=self.strength[systems],
            scales=None if self.scales is None else self.scales[:, systems],
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
        strength = self.strength.to(self.targets.dtype)
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
            self.coefficients[:, columns], self.intercepts[columns], self.values[:, columns]
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


def start_point(batch: Batch) -> Point:
    """No coefficients, and the intercepts that fit the training rows best without any."""
    n_train = batch.mask.sum(dim=0).repeat_interleave(batch.n_classes)
    masked = batch.targets * batch.mask.repeat_interleave(batch.n_classes, dim=1)
    share = masked.sum(dim=0) / n_train
    match batch.loss.name:
        case "logistic":
            intercepts = torch.logit(share, eps=1e-6)
        case "multinomial":
            intercepts = torch.log(share.clamp_min(1e-6))
        case "squared":
            intercepts = share
    coefficients = batch.targets.new_zeros(batch.design.width, batch.targets.shape[1])
    return Point(coefficients, intercepts, intercepts.expand(len(batch.targets), -1).clone())


def move_to(batch: Batch, coefficients: Tensor, intercepts: Tensor) -> Point:
    """The point of given coefficients."""
    values = batch.design.multiply(coefficients, intercepts)
    return Point(coefficients, intercepts, values)

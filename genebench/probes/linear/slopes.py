"""Objective, gradient and Hessian-vector products, in one pass over the rows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, balance, sum_systems
from genebench.probes.linear.designs import Products
from genebench.probes.linear.parts import Block, ByPart, Pair, Some
from genebench.probes.linear.passes import Adjoint


@dataclass(frozen=True)
class Slope:
    """The objective and its derivatives at a point.

    Attributes:
        total: (systems,) float64 objectives.
        gradient: (width, columns) by the coefficients.
        intercept_gradient: (columns,).
        weights: Second derivatives of each row's loss (see `Loss`).
    """

    total: Tensor
    gradient: Tensor
    intercept_gradient: Tensor
    weights: ByPart

    @property
    def pair(self) -> Pair:
        """Gradients by the coefficients and the intercepts."""
        return self.gradient, self.intercept_gradient

    def take(self, some: Some) -> "Slope":
        """That of some of the systems."""
        return Slope(self.total[some.systems], *some.take(self.pair), self.weights.take(some))

    def put(self, part: "Slope", some: Some) -> None:
        """Write what some of the systems have come to."""
        self.total[some.systems] = part.total
        some.put(self.pair, part.pair)
        self.weights.put(part.weights, some)


def find_slope(
    batch: Batch,
    coefficients: Tensor,
    values: Callable[[Block], Tensor],
    weights: ByPart,
    products: Products,
) -> Slope:
    """Objective, gradient and what the second derivatives need, in one pass over the rows.

    Args:
        batch: The systems.
        coefficients: (width, columns), where they stand.
        values: Gives the values there of a block of rows.
        weights: What the slope's weights are written to.
        products: Of the design's matrix, or of one that is rounded.
    """
    adjoint, total = Adjoint(batch, products), torch.zeros_like(batch.strength)
    for block in batch.blocks():
        losses, residuals = batch.loss.slopes(
            values(block), batch.targets(block), batch.mask(block), weights[block]
        )
        total.index_add_(0, block.part.systems, losses)
        adjoint.collect(block, residuals)
    gradient, intercept_gradient = adjoint.finish()
    penalty = batch.penalise(coefficients)
    total += sum_systems(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    gradient = balance(gradient, batch.n_classes).add_(penalty)
    return Slope(total, gradient, intercept_gradient, weights)


def gradient_norm(batch: Batch, slope: Slope) -> Tensor:
    """(systems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    square = slope.gradient.double().square().sum(dim=0) / length
    square += slope.intercept_gradient.double().square()
    return sum_systems(square, batch.n_classes).sqrt() / batch.n_train

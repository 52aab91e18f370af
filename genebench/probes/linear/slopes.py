"""The objective and its derivatives at a point, in one pass over the rows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, balance, sum_systems
from genebench.probes.linear.designs import Products, row_blocks


@dataclass(frozen=True)
class Slope:
    """The objective and its derivatives at a point.

    Attributes:
        total: (systems,) float64 objectives.
        gradient: (width, columns) by the coefficients.
        intercept_gradient: (columns,).
        weights: (n, columns) second derivatives of each row's loss (see `Loss`).
    """

    total: Tensor
    gradient: Tensor
    intercept_gradient: Tensor
    weights: Tensor

    def take(self, systems: Tensor, columns: Tensor) -> "Slope":
        """That of some of the systems, which have these columns."""
        return Slope(
            self.total[systems],
            self.gradient.index_select(1, columns),
            self.intercept_gradient[columns],
            self.weights.index_select(1, columns),
        )

    def put(self, part: "Slope", systems: Tensor, columns: Tensor) -> None:
        """Write what some of the systems, which have these columns, have come to."""
        self.total[systems] = part.total
        self.gradient.index_copy_(1, columns, part.gradient)
        self.intercept_gradient[columns] = part.intercept_gradient
        self.weights.index_copy_(1, columns, part.weights)


def find_slope(
    batch: Batch,
    coefficients: Tensor,
    values: Callable[[slice], Tensor],
    weights: Tensor,
    products: Products,
) -> Slope:
    """Objective, gradient and what the second derivatives need, in one pass over the rows.

    Args:
        batch: The systems.
        coefficients: (width, columns), where they stand.
        values: Gives the values there of a block of rows.
        weights: (n, columns) that the slope's weights are written to.
        products: Of the design's matrix, or of one that is rounded.
    """
    loss, n_columns = batch.loss, weights.shape[1]
    sums = products.zeros(n_columns)
    total = torch.zeros(batch.n_systems, dtype=torch.float64, device=weights.device)
    intercept_gradient = total.new_zeros(n_columns)
    for block in row_blocks(len(weights), n_columns, weights.itemsize):
        losses, residuals, weights[block] = loss.slopes(
            values(block), batch.targets(block), batch.mask(block)
        )
        total += losses
        intercept_gradient += residuals.sum(dim=0)
        products.collect(sums, block, residuals)
    penalty = batch.penalise(coefficients)
    total += sum_systems(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    dtype = weights.dtype
    gradient = balance(products.finish(sums), batch.n_classes).add_(penalty)
    return Slope(total, gradient, intercept_gradient.to(dtype), weights)


def gradient_norm(batch: Batch, slope: Slope) -> Tensor:
    """(systems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    square = slope.gradient.double().square().sum(dim=0) / length
    square += slope.intercept_gradient.double().square()
    return sum_systems(square, batch.n_classes).sqrt() / batch.n_train

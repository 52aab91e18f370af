"""Losses, objective, gradient and Hessian-vector products, each in one pass over the rows.

    f(w, b)  = sum loss(x w + b, y) + (penalty_strength / 2) |w|²
    gradient = X' r + penalty_strength w,  1' r              r: first derivatives of the losses
    H v      = X' D (X v + v_b) + penalty_strength v         D: second derivatives of the losses

What depends on a forward product X v is computed block by block, while it is in the processor's
cache. Losses: McCullagh and Nelder 1989, chapters 4 and 5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batch import (
    Batch,
    Block,
    Loss,
    LossName,
    Parameters,
    put_columns,
    sum_classes,
    take_columns,
)
from genebench.probes.linear.operators import LinearOperator


def _keep(numbers: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers of training rows, 0 elsewhere, in place."""
    return numbers if mask is None else numbers.mul_(mask)


def _logistic_loss_gradient(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    # log(1 + exp(-margin)) keeps the digits that log(1 + exp(value)) - y value rounds away.
    sides = targets.mul_(-2.0).add_(1.0)
    wrong = values * sides
    losses = _keep(torch.nn.functional.softplus(wrong, threshold=30.0), mask)
    probabilities = wrong.sigmoid_()
    torch.addcmul(probabilities, probabilities, probabilities, value=-1.0, out=weights)
    _keep(probabilities, mask)
    _keep(weights, mask)
    return losses.sum(dim=0, dtype=torch.float64), sides.mul_(probabilities)


def _weighted(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:  # noqa: ARG001
    return change.mul_(weights)


def _squared_loss_gradient(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    residuals = values - targets
    losses = _keep(residuals.square(), mask)
    weights.copy_(weights.new_ones(()) if mask is None else mask)
    return losses.sum(dim=0, dtype=torch.float64) / 2, _keep(residuals, mask)


def _multinomial_loss_gradient(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    by_subproblem, truth = (*targets.shape, -1), targets.long()[:, :, None]
    # log_softmax subtracts the greatest value: a loss is exact to its last digit, or to eps.
    logs = torch.log_softmax(values.view(by_subproblem), dim=2)
    losses = _keep(logs.gather(2, truth)[:, :, 0].neg_(), mask)
    probabilities = torch.exp(logs, out=weights.view(by_subproblem))
    less = torch.full_like(targets, -1.0)
    if mask is not None:
        probabilities.mul_(mask[:, :, None])
        less.mul_(mask)
    residuals = logs.copy_(probabilities).scatter_add_(2, truth, less[:, :, None])
    return losses.sum(dim=0, dtype=torch.float64), residuals.flatten(1)


def _multinomial_hessian_product(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    moved, probabilities = (part.view(len(part), -1, n_classes) for part in (change, weights))
    # p (v - p' v) in one pass.
    curved: Tensor = torch._softmax_backward_data(moved, probabilities, 2, change.dtype)
    return curved.flatten(1)


def _weighted_multinomial_hessian_product(
    change: Tensor, weights: Tensor, n_classes: int
) -> Tensor:
    # The weights are m p, of sum m over the classes: m (p v - p p' v) = m p v - m p (m p' v) / m.
    moved, weighted = (part.view(len(part), -1, n_classes) for part in (change, weights))
    products = moved * weighted
    total = weighted.sum(dim=2, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    return (products - weighted * (products.sum(dim=2, keepdim=True) / total)).flatten(1)


LOSSES: dict[LossName, Loss] = {
    "logistic": Loss("logistic", _logistic_loss_gradient, _weighted),
    "multinomial": Loss("multinomial", _multinomial_loss_gradient, _multinomial_hessian_product),
    "squared": Loss("squared", _squared_loss_gradient, _weighted),
}
# For masks with other weights than 0 and 1.
WEIGHTED_LOSSES: dict[LossName, Loss] = LOSSES | {
    "multinomial": Loss(
        "multinomial", _multinomial_loss_gradient, _weighted_multinomial_hessian_product
    )
}


@dataclass(frozen=True)
class Point:
    """Parameters of a batch and their linear predictor.

    Attributes:
        parameters: (width, columns) and (columns,).
        values: (n, columns) x w + b, on the rows of the batch's runs.
    """

    parameters: Parameters
    values: Tensor

    def take(self, columns: Tensor) -> "Point":
        """The point of some columns."""
        return Point(take_columns(self.parameters, columns), self.values.index_select(1, columns))


@dataclass(frozen=True)
class ValueAndGradient:
    """The objective and its derivatives at a point.

    Attributes:
        objective: (subproblems,) float64.
        gradient: (width, columns) by the coefficients, and (columns,) by the intercepts.
        weights: (n, columns) second derivatives of each row's loss (see `Loss`).
    """

    objective: Tensor
    gradient: Parameters
    weights: Tensor

    def take(self, own: Tensor, columns: Tensor) -> "ValueAndGradient":
        """Those of some subproblems and their columns."""
        gradient = take_columns(self.gradient, columns)
        return ValueAndGradient(
            self.objective[own], gradient, self.weights.index_select(1, columns)
        )

    def put(self, part: "ValueAndGradient", own: Tensor, columns: Tensor) -> None:
        """Write those of some subproblems and their columns, in place."""
        self.objective[own] = part.objective
        put_columns(self.gradient, part.gradient, columns)
        self.weights.index_copy_(1, columns, part.weights)


def point_at(batch: Batch, parameters: Parameters, operator: LinearOperator | None = None) -> Point:
    """The point of these parameters, with its linear predictor."""
    values, operator = batch.empty(), operator or batch.design
    if not bool(parameters[0].any()):
        # Zero coefficients, with which every solve begins, need no product.
        return Point(parameters, values.copy_(parameters[1].expand_as(values)))
    projected = operator.project(*parameters)
    for block in batch.blocks():
        values[block.rows, block.columns] = operator.rows(projected, block.rows, block.columns)
    return Point(parameters, values)


def value_and_gradient(
    batch: Batch,
    coefficients: Tensor,
    values: Callable[[Block], Tensor],
    weights: Tensor,
    operator: LinearOperator,
) -> ValueAndGradient:
    """Objective, gradient and second derivatives of the losses.

    Args:
        batch: The subproblems.
        coefficients: (width, columns).
        values: Gives the linear predictor of a block of rows.
        weights: Overwritten with the second derivatives of the losses.
        operator: The design matrix, exact or in low precision.
    """
    sums, objective = operator.zeros(batch.n_columns), torch.zeros_like(batch.penalty_strength)
    for block in batch.blocks():
        losses, residuals = batch.loss.loss_gradient(
            values(block),
            batch.targets(block),
            batch.mask(block),
            weights[block.rows, block.columns],
        )
        objective[block.subproblems] += losses
        operator.collect(sums, block.rows, residuals, block.columns)
    gradient, intercepts = operator.finish(sums)
    penalty = batch.penalise(coefficients)
    objective += sum_classes(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    gradient = center_classes(gradient, batch.n_classes).add_(penalty)
    return ValueAndGradient(objective, (gradient, intercepts * batch.fit_intercept), weights)


def evaluate(batch: Batch, point: Point, operator: LinearOperator) -> ValueAndGradient:
    """Objective, gradient and second derivatives at a point."""
    values, weights = point.values, batch.empty()
    return value_and_gradient(
        batch,
        point.parameters[0],
        lambda block: values[block.rows, block.columns],
        weights,
        operator,
    )


def hessian_product(
    batch: Batch, weights: Tensor, change: Parameters, operator: LinearOperator
) -> Parameters:
    """The Hessian of the objective times a change of the parameters."""
    projected, sums = operator.project(*change), operator.zeros(batch.n_columns)
    for block in batch.blocks(operator.dtype):
        moved = operator.rows(projected, block.rows, block.columns)
        own = weights[block.rows, block.columns]
        curved = batch.loss.hessian_product(moved, own, batch.n_classes)
        operator.collect(sums, block.rows, curved, block.columns)
    products, intercepts = operator.finish(sums)
    products = center_classes(products, batch.n_classes) + batch.penalise(change[0])
    return products, intercepts * batch.fit_intercept


def gradient_norm(batch: Batch, at: ValueAndGradient) -> Tensor:
    """(subproblems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    by_coefficients, by_intercept = at.gradient
    square = by_coefficients.double().square().sum(dim=0) / length + by_intercept.double().square()
    return sum_classes(square, batch.n_classes).sqrt() / batch.n_train


def dot(n_classes: int, left: Parameters, right: Parameters) -> Tensor:
    """(subproblems,) float64 inner products."""
    products = torch.linalg.vecdot(left[0], right[0], dim=0) + left[1] * right[1]
    return sum_classes(products, n_classes)


def center_classes(derivatives: Tensor, n_classes: int) -> Tensor:
    """Subtract the mean over the classes of each subproblem from (width, columns), in place.

    Derivatives of multinomial losses sum to 0 over the classes. What rounding leaves of the sum is
    removed, for a common shift of all classes changes no loss, and only the penalty opposes it.
    """
    if n_classes > 1:
        by_subproblem = derivatives.view(len(derivatives), -1, n_classes)
        by_subproblem -= by_subproblem.mean(dim=2, keepdim=True)
    return derivatives

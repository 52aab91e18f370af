"""Losses and the objective, with its gradient, in one pass over the rows.

    f(w, b)  = sum loss(x w + b, y) + (penalty_strength / 2) |w|²
    gradient = X' r + penalty_strength w,  1' r              r: first derivatives of the losses

What depends on a forward product X w is computed block by block, while it is in the processor's
cache. Losses: McCullagh and Nelder 1989, chapters 4 and 5. A loss is a function of the linear
predictor (rows, subproblems x classes), the targets (rows, subproblems; class numbers if
multinomial), and the mask, weights of the training rows that are 0 elsewhere (None if all are 1).
It gives the losses and the residuals, which may take the place of values and targets.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genebench.probes.linear.batch import Batch, LossName, sum_classes
from genebench.probes.linear.operators import Sums

Loss = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def _keep(numbers: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers of training rows, 0 elsewhere, in place."""
    return numbers if mask is None else numbers.mul_(mask)


def _logistic(values: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    # log(1 + exp(-margin)) keeps the digits that log(1 + exp(value)) - y value rounds away.
    sides = targets.mul_(-2.0).add_(1.0)
    wrong = values.mul_(sides)
    losses = _keep(torch.nn.functional.softplus(wrong, threshold=30.0), mask)
    return losses, _keep(wrong.sigmoid_().mul_(sides), mask)


def _squared(values: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    residuals = values.sub_(targets)
    return _keep(residuals.square() / 2, mask), _keep(residuals, mask)


def _multinomial(values: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    truth = targets.long()[:, :, None]
    # log_softmax subtracts the greatest value: a loss is exact to its last digit, or to eps.
    logs = torch.log_softmax(values.view(*targets.shape, -1), dim=2)
    losses = _keep(logs.gather(2, truth)[:, :, 0].neg_(), mask)
    residuals = logs.exp_().scatter_add_(2, truth, logs.new_full(truth.shape, -1.0))
    residuals = _keep(residuals, None if mask is None else mask[:, :, None])
    return losses, residuals.flatten(1)


LOSSES: dict[LossName, Loss] = {
    "logistic": _logistic,
    "multinomial": _multinomial,
    "squared": _squared,
}


class ValueAndGradient(NamedTuple):
    """The objective and its gradient."""

    objective: Tensor  # (subproblems,) float64
    gradient: Tensor  # (width + 1, columns)


def predict(batch: Batch, parameters: Tensor) -> Tensor:
    """(n, columns) scores without intercepts on the rows of the batch; arbitrary elsewhere."""
    intercepts = torch.zeros_like(parameters[-1:])
    projected = batch.design.project(torch.cat([parameters[:-1], intercepts]))
    values = parameters.new_empty(batch.design.n_rows, batch.n_columns)
    for block in batch.blocks():
        here = batch.design.rows(projected, block.rows, block.columns)
        values[block.rows, block.columns] = here
    return values


def sum_losses(batch: Batch, parameters: Tensor, sums: Sums | None = None) -> Tensor:
    """(subproblems,) float64 losses; residuals are added to an adjoint product if `sums` is one."""
    losses = torch.zeros_like(batch.penalty_strength)
    projected = batch.design.project(parameters)
    for block in batch.blocks():
        values = batch.design.rows(projected, block.rows, block.columns)
        targets = batch.targets(block)
        found, residuals = LOSSES[batch.loss](values, targets, batch.mask(block, targets))
        losses[block.subproblems] += found.sum(dim=0, dtype=torch.float64)
        if sums is not None:
            batch.design.collect(sums, block.rows, residuals, block.columns)
    return losses


def evaluate(batch: Batch, parameters: Tensor) -> ValueAndGradient:
    """Objective and gradient."""
    sums, coefficients = batch.design.zeros(batch.n_columns), parameters[:-1]
    objective = sum_losses(batch, parameters, sums)
    gradient = batch.design.finish(sums)
    penalty = batch.penalise(coefficients)
    objective += sum_classes(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    center_classes(gradient[:-1], batch.n_classes).add_(penalty)
    gradient[-1] *= batch.fit_intercept
    return ValueAndGradient(objective, gradient)


def gradient_norm(batch: Batch, gradient: Tensor) -> Tensor:
    """(subproblems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    squares = gradient.double().square()
    square = squares[:-1].sum(dim=0) / length + squares[-1]
    return sum_classes(square, batch.n_classes).sqrt() / batch.n_train


def dot(n_classes: int, left: Tensor, right: Tensor) -> Tensor:
    """(subproblems,) float64 inner products."""
    return sum_classes(torch.linalg.vecdot(left, right, dim=0), n_classes)


def center_classes(derivatives: Tensor, n_classes: int) -> Tensor:
    """Subtract the mean over the classes of each subproblem from (width, columns), in place.

    Derivatives of multinomial losses sum to 0 over the classes. What rounding leaves of the sum is
    removed, for a common shift of all classes changes no loss, and only the penalty opposes it.
    """
    if n_classes > 1:
        by_subproblem = derivatives.view(len(derivatives), -1, n_classes)
        by_subproblem -= by_subproblem.mean(dim=2, keepdim=True)
    return derivatives

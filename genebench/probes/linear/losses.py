"""Logistic, multinomial and squared loss: value, gradient and Hessian product on blocks of rows.

`values` are the linear predictor, (rows, subproblems x classes). `targets` are (rows, subproblems),
class numbers if multinomial. `mask` is the same: the weight of a training row, 0
elsewhere; None where all are 1. McCullagh and Nelder 1989, chapters 4 and 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["logistic", "multinomial", "squared"]


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        name: Its name.
        loss_gradient: (values, targets, mask, weights) to the (subproblems,) float64 sums of the
            losses over training rows, and the residuals (first derivatives), shaped like `values`.
            Overwrites the weights, the second derivatives that `hessian_product` needs. Residuals
            and weights are 0 where the mask is 0.
        hessian_product: (change, weights, number of classes) to the second derivatives times a
            change of the values; may overwrite `change`.
    """

    name: LossName
    loss_gradient: Callable[[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]
    hessian_product: Callable[[Tensor, Tensor, int], Tensor]


def _keep(numbers: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers of training rows, 0 elsewhere, in place."""
    return numbers if mask is None else numbers.mul_(mask)


def _logistic_loss_gradient(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    # log(1 + exp(-margin)) keeps the digits that log(1 + exp(value)) - y value rounds away.
    sides = 1.0 - 2.0 * targets
    wrong = values * sides
    losses = _keep(torch.nn.functional.softplus(wrong, threshold=30.0), mask)
    probabilities = wrong.sigmoid_()
    torch.mul(probabilities, 1.0 - probabilities, out=weights)
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
    # log_softmax subtracts the greatest value, so that a loss keeps its digits.
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

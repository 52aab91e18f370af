"""Logistic, multinomial and squared loss: values, residuals and second derivatives.

Each works on a block of rows. `values` are (rows, systems x classes); `targets` are
(rows, systems), of classes their numbers; `mask` is the same, 1 on the training rows of a system
and 0 elsewhere, or None where all are. `slopes` gives the losses summed over the training rows of
the block and the residuals (first derivatives), and writes the weights that `curve` needs to
multiply by the second derivatives; on rows that are not trained on, these are 0. McCullagh and
Nelder 1989, chapters 4 and 5.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["logistic", "multinomial", "squared"]


@dataclass(frozen=True)
class Loss:
    """One loss: its value, slope and curvature on blocks of rows.

    Attributes:
        name: What it is.
        slopes: (values, targets, mask, weights) to the (systems,) float64 sums of the losses and
            the residuals, shaped like `values`; so are the weights, which are overwritten.
        curve: (change, weights, number of classes) to the second derivatives times a change of the
            values; may overwrite `change`.
    """

    name: LossName
    slopes: Callable[[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]
    curve: Callable[[Tensor, Tensor, int], Tensor]


def _keep(numbers: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers of training rows, 0 elsewhere, in place."""
    return numbers if mask is None else numbers.mul_(mask)


def _logistic_slopes(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    # Towards the wrong side: the log odds of a sample that is well inside its own side can be
    # rounded by more than its loss, and no difference of two large numbers would show it.
    sides = 1.0 - 2.0 * targets
    wrong = values * sides
    losses = _keep(torch.nn.functional.softplus(wrong, threshold=30.0), mask)
    chances = _keep(wrong.sigmoid_(), mask)
    torch.mul(chances, 1.0 - chances, out=weights)
    return losses.sum(dim=0, dtype=torch.float64), sides.mul_(chances)


def _weighted(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:  # noqa: ARG001
    return change.mul_(weights)


def _squared_slopes(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    residuals = _keep(values - targets, mask)
    weights.copy_(weights.new_ones(()) if mask is None else mask)
    return residuals.square().sum(dim=0, dtype=torch.float64) / 2, residuals


def _multinomial_slopes(
    values: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor]:
    by_system, truth = (*targets.shape, -1), targets.long()[:, :, None]
    # Taken from the greatest score, so that a loss is not the difference of two large numbers.
    logs = torch.log_softmax(values.view(by_system), dim=2)
    losses = _keep(logs.gather(2, truth)[:, :, 0].neg_(), mask)
    chances = torch.exp(logs, out=weights.view(by_system))
    less = torch.full_like(targets, -1.0)
    if mask is not None:
        chances.mul_(mask[:, :, None])
        less.mul_(mask)
    residuals = logs.copy_(chances).scatter_add_(2, truth, less[:, :, None])
    return losses.sum(dim=0, dtype=torch.float64), residuals.flatten(1)


def _multinomial_curve(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    moved, probabilities = (part.view(len(part), -1, n_classes) for part in (change, weights))
    # p (v - p' v): what automatic differentiation makes of a softmax, in one pass.
    curved: Tensor = torch._softmax_backward_data(moved, probabilities, 2, change.dtype)
    return curved.flatten(1)


LOSSES: dict[LossName, Loss] = {
    "logistic": Loss("logistic", _logistic_slopes, _weighted),
    "multinomial": Loss("multinomial", _multinomial_slopes, _multinomial_curve),
    "squared": Loss("squared", _squared_slopes, _weighted),
}

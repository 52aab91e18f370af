"""The three losses: logistic, multinomial and squared.

Each works on a block of rows. `values` and `targets` are (rows, systems x classes), `mask` is
(rows, systems) with 1 on the training rows of a system. `slopes` gives the masked losses summed
over the block, the residuals (first derivatives) and the weights that `curve` needs to multiply by
the second derivatives, 0 on rows that are not trained on. McCullagh and Nelder 1989, chapters 4
and 5.
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
        slopes: (values, targets, mask) to the (systems,) float64 sums of the losses, the residuals
            and the weights, the last two shaped like `values`.
        curve: (change, weights, number of classes) to the second derivatives times a change of the
            values; may overwrite `change`.
    """

    name: LossName
    slopes: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    curve: Callable[[Tensor, Tensor, int], Tensor]


def _logistic_slopes(
    values: Tensor, targets: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    # Towards the wrong side: the log odds of a sample that is well inside its own side can be
    # rounded by more than its loss, and no difference of two large numbers would show it.
    sides = 1.0 - 2.0 * targets
    wrong = values * sides
    losses = torch.nn.functional.softplus(wrong, threshold=30.0).mul_(mask)
    chances = torch.sigmoid(wrong).mul_(mask)
    residuals = sides.mul_(chances)
    weights = chances.mul_(1.0 - chances)
    return losses.sum(dim=0, dtype=torch.float64), residuals, weights


def _weighted(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:  # noqa: ARG001
    return change.mul_(weights)


def _squared_slopes(values: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    residuals = (values - targets).mul_(mask)
    return residuals.square().sum(dim=0, dtype=torch.float64) / 2, residuals, mask.clone()


def _by_system(columns: Tensor, n_classes: int) -> Tensor:
    return columns.view(len(columns), -1, n_classes)


def _multinomial_slopes(
    values: Tensor, targets: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n_classes = values.shape[1] // mask.shape[1]
    scores, truth = _by_system(values, n_classes), _by_system(targets, n_classes)
    # Taken from the greatest score, so that a loss is not the difference of two large numbers.
    logs = torch.log_softmax(scores, dim=2)
    losses = (logs * truth).sum(dim=2).neg_().mul_(mask)
    weights = logs.exp_().mul_(mask[:, :, None])
    residuals = torch.addcmul(weights, truth, mask[:, :, None], value=-1.0)
    return losses.sum(dim=0, dtype=torch.float64), residuals.flatten(1), weights.flatten(1)


def _multinomial_curve(change: Tensor, weights: Tensor, n_classes: int) -> Tensor:
    moved, probabilities = _by_system(change, n_classes), _by_system(weights, n_classes)
    # p (v - p' v): what automatic differentiation makes of a softmax, in one pass.
    curved: Tensor = torch._softmax_backward_data(moved, probabilities, 2, change.dtype)
    return curved.flatten(1)


LOSSES: dict[LossName, Loss] = {
    "logistic": Loss("logistic", _logistic_slopes, _weighted),
    "multinomial": Loss("multinomial", _multinomial_slopes, _multinomial_curve),
    "squared": Loss("squared", _squared_slopes, _weighted),
}

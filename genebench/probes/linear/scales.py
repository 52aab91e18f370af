"""Variances and standard deviations of features over sets of rows."""

from collections.abc import Callable

import torch
from torch import Tensor

from genebench.probes.linear.designs import row_blocks

# A feature is constant if its variance is below this share of its squared mean: float32 vectors
# cannot say less, nor can variances that were computed in float32 from sums of squares. (A word in
# none of the training rows must count as constant: without a penalty its coefficient would be
# anything.)
ROUNDING = 1e-13
ROUNDING_OF_SUMS = 1e-4


def masked_variances(form: Callable[[slice], Tensor], masks: Tensor) -> Tensor:
    """(features, masks) variances over the rows of each (n, masks) bool mask."""
    total, first, second = masks.sum(dim=0, dtype=torch.float64), None, None
    for block in row_blocks(len(masks), 1024):
        features = form(block)
        mask = masks[block].to(features.dtype)
        one, two = features.T @ mask, features.square().T @ mask
        first = one.double() if first is None else first + one
        second = two.double() if second is None else second + two
    assert first is not None
    assert second is not None
    return _spread(first / total, second / total).to(features.dtype)


def weighted_variances(table: Tensor, counts: Tensor) -> Tensor:
    """The same where the rows of a mask are the rows of a table, each a number of times."""
    total = counts.sum(dim=0, dtype=torch.float64)
    first = (table.T @ counts).double() / total
    second = (table.square().T @ counts).double() / total
    return _spread(first, second).to(counts.dtype)


def _spread(means: Tensor, squares: Tensor) -> Tensor:
    """Variances from means and mean squares; 1 where a feature is constant."""
    return deviations(squares - means.square(), means, ROUNDING_OF_SUMS).square()


def deviations(variances: Tensor, means: Tensor, floor: float = ROUNDING) -> Tensor:
    """Standard deviations; 1 where a feature is constant, whose coefficient is 0 in any case."""
    varies = variances > floor * means.square()
    return torch.where(varies, variances, torch.ones_like(variances)).sqrt()

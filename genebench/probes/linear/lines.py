"""Where to stop along a change: line searches, for many systems at once.

Values are linear in the length of a step, so the objective and its slope at another length cost no
product of matrices. Nocedal and Wright 2006, sections 3.1 (strong Wolfe conditions) and 3.5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.axes import Pair
from genebench.probes.linear.batches import Batch, Point, spread, sum_systems
from genebench.probes.linear.designs import row_blocks

SUFFICIENT_DECREASE = 1e-4
# Of the slope that a step begins with, the share that it may end with.
FLAT = 0.5
# The next length is at least this share of the interval away from its ends.
INSIDE = 0.1
MAX_LOOKS = 40


@dataclass(frozen=True)
class Line:
    """The objective of each system along a change.

    Attributes:
        batch: The systems.
        point: Where they stand.
        change: Of their coefficients and intercepts.
        moved: (n, columns), the change of the values.
        total: (systems,) float64, the objective where they stand.
        slope: (systems,) float64, its slope along the change there; below 0, or 0 where the change
            is nothing.
    """

    batch: Batch
    point: Point
    change: Pair
    moved: Tensor
    total: Tensor
    slope: Tensor

    def values(self, length: Tensor) -> Callable[[slice], Tensor]:
        """What gives the values of a block of rows after steps of these (systems,) lengths."""
        along = spread(length, self.batch.n_classes, self.moved)
        return lambda block: torch.addcmul(self.point.values[block], self.moved[block], along)

    def coefficients(self, length: Tensor) -> Tensor:
        """(width, columns) after steps of these lengths."""
        along = spread(length, self.batch.n_classes, self.moved)
        return torch.addcmul(self.point.coefficients, self.change[0], along)

    def move(self, length: Tensor) -> Point:
        """Take steps of these lengths, in place."""
        along = spread(length, self.batch.n_classes, self.moved)
        self.point.coefficients.addcmul_(self.change[0], along)
        self.point.intercepts.addcmul_(self.change[1], along)
        self.point.values.addcmul_(self.moved, along)
        return self.point

    def is_good(self, length: Tensor, total: Tensor, slope: Tensor) -> Tensor:
        """(systems,) whether the objective has fallen, and hardly falls or rises any more.

        A whole step may end where it still falls. What is beyond the numbers is not good.
        """
        noise = 8 * torch.finfo(self.moved.dtype).eps * self.total.abs()
        has_fallen = total <= self.total + SUFFICIENT_DECREASE * length * self.slope + noise
        flat = torch.maximum(-FLAT * self.slope, noise)
        return has_fallen & (slope <= flat) & ((slope >= -flat) | (length == 1))

    def search(self, is_open: Tensor, slope: Tensor) -> Tensor:
        """Shorten whole steps that are not good.

        Args:
            is_open: (systems,) bool, those to shorten.
            slope: (systems,) float64, that of the objective after a whole step.

        Returns:
            (systems,) float64 lengths; 0 where none is good.
        """
        length = torch.ones_like(self.slope)
        ends, slopes = [torch.zeros_like(length), length.clone()], [self.slope, slope]
        for _ in range(MAX_LOOKS):
            # Where the line through both slopes is 0; nearer the start if the end is unknown.
            share = slopes[0] / (slopes[0] - slopes[1])
            share = torch.where(share.isfinite(), share.clamp(INSIDE, 1 - INSIDE), INSIDE)
            length = torch.where(is_open, ends[0] + (ends[1] - ends[0]) * share, length)
            total, slope = self._look(length)
            is_open = is_open & ~self.is_good(length, total, slope)
            if not bool(is_open.any()):
                return length
            end = (~(slope < 0)).long()
            for side in range(2):
                is_here = end == side
                ends[side] = torch.where(is_here, length, ends[side])
                slopes[side] = torch.where(is_here, slope, slopes[side])
        return torch.where(is_open, 0.0, length)

    def _look(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """The objective and its slope, (systems,) float64 each, after steps of these lengths."""
        batch, values = self.batch, self.values(length)
        total, slope = torch.zeros_like(length), torch.zeros_like(length)
        for block in row_blocks(len(self.moved), self.moved.shape[1], self.moved.itemsize):
            losses, residuals, _ = batch.loss.slopes(
                values(block), batch.targets(block), batch.mask(block)
            )
            total += losses
            slope += self._sum(residuals, self.moved[block])
        at = self.coefficients(length)
        penalty = batch.penalise(at)
        return total + self._sum(penalty, at) / 2, slope + self._sum(penalty, self.change[0])

    def _sum(self, left: Tensor, right: Tensor) -> Tensor:
        return sum_systems(torch.linalg.vecdot(left, right, dim=0), self.batch.n_classes)

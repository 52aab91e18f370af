"""Line search along a direction, for many subproblems at once.

Values are linear in the length of a step, so the objective and its slope at another length cost no
product of matrices. Nocedal and Wright 2006, sections 3.1 (strong Wolfe conditions) and 3.5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, Point, spread, sum_systems
from genebench.probes.linear.conjugate import dot
from genebench.probes.linear.parts import Block, ByPart, Some
from genebench.probes.linear.slopes import Slope, find_slope

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
        change: What a whole step changes.
        total: (systems,) float64, the objective where they stand.
        slope: (systems,) float64, its slope along the change there; below 0, or 0 where the change
            is nothing.
    """

    batch: Batch
    point: Point
    change: Point
    total: Tensor
    slope: Tensor

    def take(self, some: Some) -> "Line":
        """That of some of the systems."""
        if len(some.systems) == self.batch.n_systems:
            return self
        return Line(
            self.batch.take(some),
            self.point.take(some),
            self.change.take(some),
            self.total[some.systems],
            self.slope[some.systems],
        )

    def look(self, length: Tensor, weights: ByPart) -> Slope:
        """What `find_slope` gives after steps of these (systems,) lengths."""
        batch, coefficients = self.batch, self._coefficients(length)
        return find_slope(batch, coefficients, self._values(length), weights, batch.design)

    def slope_at(self, slope: Slope) -> Tensor:
        """(systems,) float64 slope along the change, where a look has found this."""
        return dot(self.batch.n_classes, slope.pair, self.change.pair)

    def move(self, length: Tensor) -> None:
        """Take steps of these lengths, in place."""
        along = spread(length, self.batch.n_classes, self.change.intercepts)
        for part, change in zip(self.point.pair, self.change.pair, strict=True):
            part.addcmul_(change, along)
        for block in self.batch.blocks():
            here = block.part.take(along)
            self.point.values[block].addcmul_(self.change.values[block], here)

    def is_good(self, length: Tensor, total: Tensor, slope: Tensor) -> Tensor:
        """(systems,) whether the objective has fallen, and hardly falls or rises any more.

        A whole step may end where it still falls. What is beyond the numbers is not good.
        """
        noise = 8 * torch.finfo(self.batch.dtype).eps * self.total.abs()
        has_fallen = total <= self.total + SUFFICIENT_DECREASE * length * self.slope + noise
        flat = torch.maximum(-FLAT * self.slope, noise)
        return has_fallen & (slope <= flat) & ((slope >= -flat) | (length == 1))

    def search(self, slope: Tensor) -> Tensor:
        """Shorten whole steps that are not good.

        Args:
            slope: (systems,) float64, that of the objective after a whole step.

        Returns:
            (systems,) float64 lengths; 0 where none is good.
        """
        length, is_open = torch.ones_like(self.slope), torch.ones_like(self.slope, dtype=torch.bool)
        ends, slopes = [torch.zeros_like(length), length.clone()], [self.slope, slope]
        for _ in range(MAX_LOOKS):
            # Where the line through both slopes is 0; nearer the start if the end is unknown.
            share = slopes[0] / (slopes[0] - slopes[1])
            share = torch.where(share.isfinite(), share.clamp(INSIDE, 1 - INSIDE), INSIDE)
            length = torch.where(is_open, ends[0] + (ends[1] - ends[0]) * share, length)
            total, slope = self._glance(length)
            is_open = is_open & ~self.is_good(length, total, slope)
            if not bool(is_open.any()):
                return length
            end = (~(slope < 0)).long()
            for side in range(2):
                is_here = end == side
                ends[side] = torch.where(is_here, length, ends[side])
                slopes[side] = torch.where(is_here, slope, slopes[side])
        return torch.where(is_open, 0.0, length)

    def _glance(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """The objective and its slope, (systems,) float64 each, after steps of these lengths."""
        batch, values = self.batch, self._values(length)
        total, slope = torch.zeros_like(length), torch.zeros_like(length)
        for block in batch.blocks():
            here = values(block)
            losses, residuals = batch.loss.slopes(
                here, batch.targets(block), batch.mask(block), torch.empty_like(here)
            )
            total.index_add_(0, block.part.systems, losses)
            falls = self._sum(residuals, self.change.values[block])
            slope.index_add_(0, block.part.systems, falls)
        at = self._coefficients(length)
        penalty = batch.penalise(at)
        total += self._sum(penalty, at) / 2
        return total, slope + self._sum(penalty, self.change.coefficients)

    def _values(self, length: Tensor) -> Callable[[Block], Tensor]:
        point, moved = self.point.values, self.change.values
        along = spread(length, self.batch.n_classes, self.point.intercepts)
        return lambda block: torch.addcmul(point[block], moved[block], block.part.take(along))

    def _coefficients(self, length: Tensor) -> Tensor:
        change = self.change.coefficients
        along = spread(length, self.batch.n_classes, change)
        return torch.addcmul(self.point.coefficients, change, along)

    def _sum(self, left: Tensor, right: Tensor) -> Tensor:
        return sum_systems(torch.linalg.vecdot(left, right, dim=0), self.batch.n_classes)

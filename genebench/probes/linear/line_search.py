"""Line search along a direction, for many subproblems at once.

The linear predictor is linear in the step length, so phi(length), the objective along the line, and
its derivative cost no matrix product. Nocedal and Wright 2006, sections 3.1 (strong Wolfe
conditions) and 3.5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.conjugate_gradient import dot
from genebench.probes.linear.objective import ValueAndGradient, value_and_gradient
from genebench.probes.linear.segments import Block, RaggedArray, Subset
from genebench.probes.linear.subproblems import Batch, Point, spread, sum_classes

SUFFICIENT_DECREASE = 1e-4
# Largest |phi'(length)| of an accepted step, relative to |phi'(0)|.
CURVATURE = 0.5
# The next trial is at least this share of the bracket away from its ends.
INSIDE = 0.1
MAX_EVALUATIONS = 40


@dataclass(frozen=True)
class LineSearch:
    """The objective of each subproblem along a change.

    Attributes:
        batch: The subproblems.
        point: Where the line starts.
        change: Change of the point by a step of length 1.
        objective: (subproblems,) float64, phi(0).
        slope: (subproblems,) float64, phi'(0); negative, or 0 where the change is 0.
    """

    batch: Batch
    point: Point
    change: Point
    objective: Tensor
    slope: Tensor

    def take(self, subset: Subset) -> "LineSearch":
        """The lines of a subset."""
        if len(subset.subproblems) == self.batch.n_subproblems:
            return self
        return LineSearch(
            self.batch.take(subset),
            self.point.take(subset),
            self.change.take(subset),
            self.objective[subset.subproblems],
            self.slope[subset.subproblems],
        )

    def evaluate(self, length: Tensor, weights: RaggedArray) -> ValueAndGradient:
        """Objective and gradient after steps of (subproblems,) lengths."""
        batch, coefficients = self.batch, self._coefficients(length)
        return value_and_gradient(batch, coefficients, self._values(length), weights, batch.design)

    def derivative(self, at: ValueAndGradient) -> Tensor:
        """(subproblems,) float64 phi' where the gradient is this."""
        return dot(self.batch.n_classes, at.parameters, self.change.parameters)

    def move(self, length: Tensor) -> None:
        """Take steps of these lengths, in place."""
        along = spread(length, self.batch.n_classes, self.change.intercepts)
        for part, change in zip(self.point.parameters, self.change.parameters, strict=True):
            part.addcmul_(change, along)
        for block in self.batch.blocks():
            here = block.segment.take(along)
            self.point.values[block].addcmul_(self.change.values[block], here)

    def satisfies_wolfe(self, length: Tensor, objective: Tensor, slope: Tensor) -> Tensor:
        """(subproblems,) bool; a whole step may end where the objective still falls."""
        noise = 8 * torch.finfo(self.batch.dtype).eps * self.objective.abs()
        expected = SUFFICIENT_DECREASE * length * self.slope
        flat = torch.maximum(-CURVATURE * self.slope, noise)
        is_lower = objective <= self.objective + expected + noise
        return is_lower & (slope <= flat) & ((slope >= -flat) | (length == 1))

    def search(self, slope: Tensor) -> Tensor:
        """Shorten whole steps that do not satisfy the Wolfe conditions.

        Args:
            slope: (subproblems,) float64, phi'(1).

        Returns:
            (subproblems,) float64 lengths; 0 where none was found.
        """
        length, is_open = torch.ones_like(self.slope), torch.ones_like(self.slope, dtype=torch.bool)
        ends, slopes = [torch.zeros_like(length), length.clone()], [self.slope, slope]
        for _ in range(MAX_EVALUATIONS):
            # Secant step of phi'; near the start if phi' at the other end is not finite.
            share = slopes[0] / (slopes[0] - slopes[1])
            share = torch.where(share.isfinite(), share.clamp(INSIDE, 1 - INSIDE), INSIDE)
            length = torch.where(is_open, ends[0] + (ends[1] - ends[0]) * share, length)
            objective, slope = self._phi(length)
            is_open = is_open & ~self.satisfies_wolfe(length, objective, slope)
            if not bool(is_open.any()):
                return length
            end = (~(slope < 0)).long()
            for side in range(2):
                is_here = end == side
                ends[side] = torch.where(is_here, length, ends[side])
                slopes[side] = torch.where(is_here, slope, slopes[side])
        return torch.where(is_open, 0.0, length)

    def _phi(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """(subproblems,) float64 phi and phi' at these lengths."""
        batch, values = self.batch, self._values(length)
        objective, slope = torch.zeros_like(length), torch.zeros_like(length)
        for block in batch.blocks():
            here = values(block)
            losses, residuals = batch.loss.loss_gradient(
                here, batch.targets(block), batch.mask(block), torch.empty_like(here)
            )
            objective.index_add_(0, block.segment.subproblems, losses)
            added = self._dot(residuals, self.change.values[block])
            slope.index_add_(0, block.segment.subproblems, added)
        coefficients = self._coefficients(length)
        penalty = batch.penalise(coefficients)
        objective += self._dot(penalty, coefficients) / 2
        return objective, slope + self._dot(penalty, self.change.coefficients)

    def _values(self, length: Tensor) -> Callable[[Block], Tensor]:
        point, change = self.point.values, self.change.values
        along = spread(length, self.batch.n_classes, self.point.intercepts)
        return lambda block: torch.addcmul(point[block], change[block], block.segment.take(along))

    def _coefficients(self, length: Tensor) -> Tensor:
        change = self.change.coefficients
        along = spread(length, self.batch.n_classes, change)
        return torch.addcmul(self.point.coefficients, change, along)

    def _dot(self, left: Tensor, right: Tensor) -> Tensor:
        return sum_classes(torch.linalg.vecdot(left, right, dim=0), self.batch.n_classes)

"""How far to step: each class by lengths of its own, along the new change and along the last one.

Values are linear in the lengths, so the objective anywhere among those points costs no product with
the design, and Newton's method finds where it is lowest. Going on along the last change is what
makes a descent remember (Narkiss and Zibulevsky 2005, sequential subspace optimization).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch, Point, sum_systems
from genebench.probes.linear.designs import row_blocks

SUFFICIENT_DECREASE = 1e-4
# Of the slope that a step begins with, the share that a whole step may end with.
FLAT = 0.1
# The first look is at least this share of a whole step away from its start.
INSIDE = 0.1
# A search ends where what it could still gain is this share of what it has gained.
ENOUGH = 0.03
# Added to second derivatives, their diagonal at 1: what is beneath it is rounding.
LEAST = 1e-5
MAX_LOOKS = 40


@dataclass(frozen=True)
class Plane:
    """The objective of each system at a point and what is reached from it along some changes.

    Lengths are (changes, columns) float64: how far each column goes along each change.

    Attributes:
        batch: The systems.
        point: Where they stand.
        changes: At least one.
        total: (systems,) float64, the objective where they stand.
        slopes: (changes, columns) float64, its slopes along the changes there.
    """

    batch: Batch
    point: Point
    changes: tuple[Point, ...]
    total: Tensor
    slopes: Tensor

    def take(self, systems: Tensor, columns: Tensor) -> "Plane":
        """That of some of the systems, which have these columns."""
        if len(systems) == self.batch.n_systems:
            return self
        return Plane(
            self.batch.take(systems),
            self.point.take(columns),
            tuple(change.take(columns) for change in self.changes),
            self.total[systems],
            self.slopes[:, columns],
        )

    @property
    def whole(self) -> Tensor:
        """The lengths of a whole step along the first change."""
        lengths = torch.zeros_like(self.slopes)
        lengths[0] = 1.0
        return lengths

    def values(self, lengths: Tensor) -> Callable[[slice], Tensor]:
        """What gives the values of a block of rows after steps of these lengths."""
        changes = self._used(lengths)

        def of(block: slice) -> Tensor:
            values = self.point.values[block]
            for change, along in changes:
                values = torch.addcmul(values, change.values[block], along)
            return values

        return of

    def coefficients(self, lengths: Tensor) -> Tensor:
        """(width, columns) after steps of these lengths."""
        coefficients = self.point.coefficients
        for change, along in self._used(lengths):
            coefficients = torch.addcmul(coefficients, change.coefficients, along)
        return coefficients

    def move(self, lengths: Tensor) -> Point:
        """Take steps of these lengths, in place; returns how the point moved."""
        moved, *others = self.changes
        first, *along = lengths.to(moved.values.dtype)
        is_whole = bool((lengths == self.whole).all())
        for name in ("coefficients", "intercepts", "values"):
            part: Tensor = getattr(moved, name)
            if not is_whole:
                part.mul_(first)
                for change, length in zip(others, along, strict=True):
                    part.addcmul_(getattr(change, name), length)
            getattr(self.point, name).add_(part)
        return moved

    def is_good(self, total: Tensor, slopes: Tensor) -> Tensor:
        """(systems,) whether a whole step ends lower, and does not rise much.

        What is beyond the numbers is not good.

        Args:
            total: (systems,) float64, the objective after it.
            slopes: (changes, columns) float64, its slopes there.
        """
        begun, ended = self._by_system(self.slopes[0]), self._by_system(slopes[0])
        has_fallen = total <= self.total + SUFFICIENT_DECREASE * begun + self._noise
        return has_fallen & (ended <= torch.maximum(-FLAT * begun, self._noise))

    def search(self, slopes: Tensor) -> Tensor:
        """Find better lengths than those of whole steps.

        Args:
            slopes: (changes, columns) float64, those of the objective after whole steps.

        Returns:
            Lengths; 0 where none is good.
        """
        is_open = torch.ones_like(self.total, dtype=torch.bool)
        best, lowest = torch.zeros_like(self.slopes), self.total
        step, gain = torch.zeros_like(best), torch.full_like(self.total, torch.inf)
        # Where the line through both slopes is 0.
        share = self.slopes[0] / (self.slopes[0] - slopes[0])
        ahead = best.clone()
        ahead[0] = torch.where(share.isfinite(), share.clamp(INSIDE, 1.0), INSIDE)
        for _ in range(MAX_LOOKS):
            total, slopes, second = self.look(ahead)
            falls = is_open & (total < lowest)
            falling = falls.repeat_interleave(self.batch.n_classes)
            best, lowest = torch.where(falling, ahead, best), torch.where(falls, total, lowest)
            newton = self._solve(slopes, second)
            step = torch.where(falling, newton, (ahead - best) / 2)
            gain = torch.where(falls, -self._by_system((slopes * newton).sum(dim=0)) / 2, gain)
            is_open = is_open & (gain > torch.maximum(ENOUGH * (self.total - lowest), self._noise))
            if not bool(is_open.any()):
                break
            ahead = best + step
        return best

    @cached_property
    def _noise(self) -> Tensor:
        return 8 * torch.finfo(self.point.values.dtype).eps * self.total.abs()

    @cached_property
    def _penalties(self) -> Tensor:
        """(1 + changes, 1 + changes, columns) float64 products of the point and the changes."""
        parts = [self.point.coefficients, *(change.coefficients for change in self.changes)]
        pulls = [self.batch.penalise(part) for part in parts]
        products = [
            torch.linalg.vecdot(left, right, dim=0) for left, right in product(parts, pulls)
        ]
        return torch.stack(products).double().view(len(parts), len(parts), -1)

    def _used(self, lengths: Tensor) -> list[tuple[Point, Tensor]]:
        """The changes along which anything goes, and how far."""
        dtype = self.point.values.dtype
        pairs = zip(self.changes, lengths.to(dtype), strict=True)
        return [(change, along) for change, along in pairs if bool(along.any())]

    def _by_system(self, columns: Tensor) -> Tensor:
        return sum_systems(columns, self.batch.n_classes)

    def look(self, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The objective after steps of these lengths, and its derivatives by them.

        Returns:
            (systems,), (changes, columns) and (systems, changes x classes, changes x classes), all
            float64.
        """
        batch, values = self.batch, self.values(lengths)
        n_systems, n_classes, n_ways = batch.n_systems, batch.n_classes, len(self.changes)
        total, slopes = torch.zeros_like(self.total), torch.zeros_like(self.slopes)
        own = slopes.new_zeros(n_ways, n_ways, batch.n_columns)
        size = n_ways * n_classes
        second = slopes.new_zeros(n_systems, size, size)
        n_rows, n_columns = self.point.values.shape
        for block in row_blocks(n_rows, n_columns, self.point.values.itemsize):
            losses, residuals, weights = batch.loss.slopes(
                values(block), batch.targets(block), batch.mask(block)
            )
            total += losses
            moved = [change.values[block] for change in self.changes]
            weighted = [part * weights for part in moved]
            for way, part in enumerate(moved):
                slopes[way] += (residuals * part).sum(dim=0)
                for other in range(way + 1):
                    own[way, other] += (weighted[other] * part).sum(dim=0)
            if n_classes > 1:
                # Second derivatives of multinomial losses are diag(p) - p p'.
                # Products of neighbouring numbers are twice as quick.
                parts = [part.view(-1, n_systems, n_classes) for part in weighted]
                rows = torch.cat(parts, dim=2).transpose(0, 1).contiguous()
                second -= rows.mT @ rows
        ahead = torch.cat([torch.ones_like(lengths[:1]), lengths])
        pulled = (self._penalties * ahead).sum(dim=1)
        total += self._by_system((pulled * ahead).sum(dim=0)) / 2
        lower = own.permute(2, 0, 1)
        own = lower + lower.tril(-1).mT + self._penalties[1:, 1:].permute(2, 0, 1)
        by_class = second.view(n_systems, n_ways, n_classes, n_ways, n_classes)
        by_class.diagonal(dim1=2, dim2=4).add_(
            own.view(n_systems, n_classes, n_ways, n_ways).permute(0, 2, 3, 1)
        )
        return total, slopes + pulled[1:], second

    def _solve(self, slopes: Tensor, second: Tensor) -> Tensor:
        """The (changes, columns) step of Newton's method.

        Derivatives that rounding has left indefinite, or without numbers, give a step that leads
        nowhere; whoever takes it must see whether the objective falls.
        """
        n_ways, n_systems = len(self.changes), self.batch.n_systems
        rest = slopes.view(n_ways, n_systems, -1).transpose(0, 1).flatten(1)
        diagonal = second.diagonal(dim1=1, dim2=2)
        # What is not above 0 belongs to no change, or is beyond the numbers.
        scale = torch.where(diagonal > 0, diagonal, torch.inf).sqrt()
        unit = (second / scale[:, :, None] / scale[:, None, :]).nan_to_num(0.0, 0.0, 0.0)
        unit.diagonal(dim1=1, dim2=2).add_(LEAST)
        factor, _ = torch.linalg.cholesky_ex(unit)
        step = -torch.cholesky_solve((rest / scale)[:, :, None], factor)[:, :, 0] / scale
        return step.view(n_systems, n_ways, -1).transpose(0, 1).flatten(1)

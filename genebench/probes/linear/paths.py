"""Chooses C from a path by the loss on inner folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch
from genebench.probes.linear.newton import polish
from genebench.probes.linear.parts import Pair, columns_of
from genebench.probes.linear.passes import Forward
from genebench.probes.linear.threads import solve_together
from genebench.probes.linear.units import System

# Choosing a penalty needs less than scoring with it.
PATH_TOLERANCE = 1e-4
# A rise of the loss ends a path only if it is this share of the least loss and this many nats over
# all rows: a useless feature costs about half a nat (Akaike 1974), and where the features that
# vary most say nothing, the loss rises by a few of those before it falls.
RISE, RISE_NATS = 0.01, 5.0


@dataclass(frozen=True)
class Walk:
    """Inner systems on their way up the path.

    Attributes:
        batch: The systems.
        pair: Where they stand.
        systems: What they are for.
    """

    batch: Batch
    pair: Pair
    systems: list[System]

    def keep(self, wanted: list[int]) -> "Walk":
        """Some of the systems."""
        if len(wanted) == len(self.systems):
            return self
        some = self.batch.some(torch.tensor(wanted, device=self.batch.strength.device))
        return Walk(self.batch.take(some), some.take(self.pair), [self.systems[i] for i in wanted])


class Choice:
    """C of each outer system, and where to start it.

    Args:
        n_outer: Outer systems.
        path: Rising values of C.
        masks: (n, masks) bool.
        warm: (width, outer columns) and (outer columns,) to keep coefficients and intercepts in,
            if designs are shared.
        memory_bytes: The budget of fits that are finished in float64.
    """

    def __init__(
        self,
        n_outer: int,
        path: Sequence[float],
        masks: Tensor,
        warm: tuple[Tensor, Tensor] | None,
        memory_bytes: int,
    ) -> None:
        self.path, self.masks, self.warm, self.memory_bytes = path, masks, warm, memory_bytes
        self.best = torch.full((n_outer,), torch.inf, dtype=torch.float64, device=masks.device)
        self.c = torch.full_like(self.best, path[0])

    def take(self, kept: Tensor, n_classes: int) -> tuple[npt.NDArray[np.float64], Pair | None]:
        """C of some of the outer systems, and where to start them."""
        c, warm = self.c[kept].cpu().numpy(), self.warm
        if warm is not None:
            columns = columns_of(kept, n_classes)
            warm = warm[0][:, columns], warm[1][columns]
        return c, warm

    def walk(self, walks: list[Walk]) -> None:
        """Walk up the path until the loss on the inner folds has clearly risen.

        Each inner system starts where it ended at the last C. The path is walked from the strong
        penalties, where a step costs least, and the C of the least loss is taken. An outer system
        that has come to its end is done with, though its inner systems may go on for another. A C
        at which an inner fit does not converge is not chosen; the best loss of an outer system
        stays infinite where none of its inner folds can be fitted.
        """
        is_open = torch.ones_like(self.best, dtype=torch.bool)
        for value in self.path:
            sums, counts = torch.zeros_like(self.best), torch.zeros_like(self.best)
            for walk in walks:
                strength = torch.full_like(walk.batch.strength, 1 / value)
                # This moves the walk's own pair.
                batch = replace(walk.batch, strength=strength)
                solution = solve_together(batch, walk.pair)
                polish(batch, solution, self.memory_bytes)
                for system, is_done in zip(walk.systems, solution.converged.tolist(), strict=True):
                    for outer, _ in () if is_done else system.held:
                        sums[outer] = torch.inf
                for turn in range(max(len(system.held) for system in walk.systems)):
                    self._add_losses(walk, turn, sums, counts)
            loss = torch.where(counts > 0, sums, torch.inf)
            better = is_open & (loss < self.best)
            self.best = torch.where(better, loss, self.best)
            self.c = torch.where(better, value, self.c)
            is_open &= loss <= self.best + (RISE * self.best).clamp_min(RISE_NATS)
            improved, goes_on = better.tolist(), is_open.tolist()
            for walk in walks:
                self._keep_coefficients(walk, improved)
            wanted = [
                [
                    i
                    for i, s in enumerate(walk.systems)
                    if any(goes_on[outer] for outer, _ in s.held)
                ]
                for walk in walks
            ]
            walks = [walk.keep(some) for walk, some in zip(walks, wanted, strict=True) if some]
            if not walks:
                return

    def _add_losses(self, walk: Walk, turn: int, sums: Tensor, counts: Tensor) -> None:
        """Add each system's losses on the rows it holds out for one of its outer systems."""
        batch, device = walk.batch, sums.device
        using = [i for i, system in enumerate(walk.systems) if len(system.held) > turn]
        some = batch.some(torch.tensor(using, device=device))
        held = [walk.systems[i].held[turn] for i in using]
        outer = torch.tensor([outer for outer, _ in held], device=device)
        rows = torch.tensor([mask for _, mask in held], device=device)
        losses = torch.zeros(len(using), dtype=torch.float64, device=device)
        held_out = replace(batch.take(some), folds=rows)
        forward = Forward(some.take(walk.pair), batch.design)
        for block in held_out.blocks():
            values = forward.rows(block)
            added, _ = batch.loss.slopes(
                values, held_out.targets(block), held_out.mask(block), torch.empty_like(values)
            )
            losses.index_add_(0, block.part.systems, added)
        sums.index_add_(0, outer, losses)
        counts.index_add_(0, outer, self.masks[:, rows].sum(dim=0).double())

    def _keep_coefficients(self, walk: Walk, improved: list[bool]) -> None:
        """Keep the coefficients of an inner system for each outer one that got better here."""
        if self.warm is None:
            return
        pairs = [
            (i, outer)
            for i, system in enumerate(walk.systems)
            for outer, _ in system.held
            if improved[outer]
        ]
        if pairs:
            coefficients, intercepts = self.warm
            n_classes = walk.batch.n_classes
            inner, outer = (
                columns_of(systems, n_classes)
                for systems in torch.tensor(pairs, device=intercepts.device).T
            )
            coefficients[:, outer] = walk.pair[0][:, inner]
            intercepts[outer] = walk.pair[1][inner]

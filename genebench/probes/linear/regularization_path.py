"""Regularisation path: chooses C by the loss on inner folds, from strong to weak penalties."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.newton_cg import polish
from genebench.probes.linear.objective import Forward
from genebench.probes.linear.segments import Parameters, columns_of
from genebench.probes.linear.subproblems import Batch
from genebench.probes.linear.targets import Subproblem
from genebench.probes.linear.threads import solve_in_threads

# Choosing a penalty needs less accuracy than scoring with it.
PATH_TOLERANCE = 1e-4
# A rise of the loss ends a path if it is this share of the least loss and this many nats over all
# rows. A useless feature costs about half a nat (Akaike 1974); where the features that vary most
# carry no signal, the loss rises by a few of those before it falls.
RISE, RISE_NATS = 0.01, 5.0


@dataclass(frozen=True)
class PathState:
    """Inner subproblems and where they are on the path.

    Attributes:
        batch: The subproblems.
        parameters: Their current parameters.
        subproblems: The outer subproblems and held-out rows of each.
    """

    batch: Batch
    parameters: Parameters
    subproblems: list[Subproblem]

    def keep(self, wanted: list[int]) -> "PathState":
        """Some of the subproblems."""
        if len(wanted) == len(self.subproblems):
            return self
        subset = self.batch.subset(torch.tensor(wanted, device=self.batch.penalty_strength.device))
        return PathState(
            self.batch.take(subset),
            subset.take(self.parameters),
            [self.subproblems[i] for i in wanted],
        )


class RegularizationPath:
    """C of each outer subproblem, and where to start it.

    Args:
        n_outer: Number of outer subproblems.
        path: Ascending values of C.
        masks: (n, masks) bool.
        warm: (width, outer columns) and (outer columns,) zeros, to be filled with the parameters of
            an inner fit at the chosen C; None if designs are not shared.
        memory_bytes: Memory limit of fits that are finished in float64.
    """

    def __init__(
        self,
        n_outer: int,
        path: Sequence[float],
        masks: Tensor,
        warm: Parameters | None,
        memory_bytes: int,
    ) -> None:
        self.path, self.masks, self.warm, self.memory_bytes = path, masks, warm, memory_bytes
        self.best = torch.full((n_outer,), torch.inf, dtype=torch.float64, device=masks.device)
        self.c = torch.full_like(self.best, path[0])

    def take(
        self, kept: Tensor, n_classes: int
    ) -> tuple[npt.NDArray[np.float64], Parameters | None]:
        """C of some of the outer subproblems, and where to start them."""
        c, warm = self.c[kept].cpu().numpy(), self.warm
        if warm is not None:
            columns = columns_of(kept, n_classes)
            warm = warm[0][:, columns], warm[1][columns]
        return c, warm

    def fit(self, states: list[PathState]) -> None:
        """Follow the path until the inner loss has clearly risen.

        Each inner subproblem starts at its solution for the last C. The C of the least loss is
        chosen. A C at which an inner fit does not converge is not chosen; the best loss of an outer
        subproblem stays infinite if none of its inner folds can be fitted.
        """
        is_open = torch.ones_like(self.best, dtype=torch.bool)
        for value in self.path:
            sums, counts = torch.zeros_like(self.best), torch.zeros_like(self.best)
            for state in states:
                strength = torch.full_like(state.batch.penalty_strength, 1 / value)
                batch = replace(state.batch, penalty_strength=strength)
                solution = solve_in_threads(batch, state.parameters)
                polish(batch, solution, self.memory_bytes)
                for inner, is_done in zip(
                    state.subproblems, solution.converged.tolist(), strict=True
                ):
                    for outer, _ in () if is_done else inner.held:
                        sums[outer] = torch.inf
                for turn in range(max(len(inner.held) for inner in state.subproblems)):
                    self._add_losses(state, turn, sums, counts)
            loss = torch.where(counts > 0, sums, torch.inf)
            is_better = is_open & (loss < self.best)
            self.best = torch.where(is_better, loss, self.best)
            self.c = torch.where(is_better, value, self.c)
            is_open &= loss <= self.best + (RISE * self.best).clamp_min(RISE_NATS)
            improved, continues = is_better.tolist(), is_open.tolist()
            for state in states:
                self._keep_parameters(state, improved)
            wanted = [
                [
                    i
                    for i, inner in enumerate(state.subproblems)
                    if any(continues[outer] for outer, _ in inner.held)
                ]
                for state in states
            ]
            states = [state.keep(own) for state, own in zip(states, wanted, strict=True) if own]
            if not states:
                return

    def _add_losses(self, state: PathState, turn: int, sums: Tensor, counts: Tensor) -> None:
        """Add each inner subproblem's loss on the rows held out for its outer one of this turn."""
        batch, device = state.batch, sums.device
        using = [i for i, inner in enumerate(state.subproblems) if len(inner.held) > turn]
        subset = batch.subset(torch.tensor(using, device=device))
        held = [state.subproblems[i].held[turn] for i in using]
        outer = torch.tensor([outer for outer, _ in held], device=device)
        rows = torch.tensor([mask for _, mask in held], device=device)
        losses = torch.zeros(len(using), dtype=torch.float64, device=device)
        held_out = replace(batch.take(subset), folds=rows)
        forward = Forward(subset.take(state.parameters), batch.design)
        for block in held_out.blocks():
            values = forward.rows(block)
            added, _ = batch.loss.loss_gradient(
                values, held_out.targets(block), held_out.mask(block), torch.empty_like(values)
            )
            losses.index_add_(0, block.segment.subproblems, added)
        sums.index_add_(0, outer, losses)
        counts.index_add_(0, outer, self.masks[:, rows].sum(dim=0).double())

    def _keep_parameters(self, state: PathState, improved: list[bool]) -> None:
        """Keep the parameters of an inner fit for each outer one whose loss improved."""
        pairs = [
            (i, outer)
            for i, inner in enumerate(state.subproblems)
            for outer, _ in inner.held
            if improved[outer]
        ]
        if self.warm is None or not pairs:
            return
        coefficients, intercepts = self.warm
        inner, outer = (
            columns_of(numbers, state.batch.n_classes)
            for numbers in torch.tensor(pairs, device=intercepts.device).T
        )
        coefficients[:, outer] = state.parameters[0][:, inner]
        intercepts[outer] = state.parameters[1][inner]

"""Regularisation path: chooses C by the loss on inner folds, from strong to weak penalties."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.batch import Batch
from genebench.probes.linear.lbfgs import Part
from genebench.probes.linear.objective import sum_losses
from genebench.probes.problem import TEST, TRAIN

# A rise of the loss ends a path if it is this share of the least loss and this many nats over all
# rows. A useless feature costs about half a nat (Akaike 1974); where the features that vary most
# carry no signal, the loss rises by a few of those before it falls.
RISE, RISE_NATS = 0.01, 5.0


class InnerFold(NamedTuple):
    """An inner fold of one or two outer folds."""

    train: npt.NDArray[np.bool_]  # (samples,)
    # For each outer fold, the (samples,) rows of its training part that are held out here.
    held: dict[int, npt.NDArray[np.bool_]]


def inner_folds(split: npt.NDArray[np.int8], n_inner: int, seed: int) -> list[InnerFold]:
    """Inner folds of every outer fold, shared between outer folds where possible.

    Inner cross-validation reuses models trained without two outer folds: training on neither fold k
    nor fold j serves fold k, which tests it on fold j, and fold j, which tests it on fold k. What a
    fold holds out together (entities of a pair, groups) is held out together inside too. The
    training rows of a fold without such partners, as in a split by time, are divided by a seeded
    shuffle. A fold that holds nothing out is tested on what each other fold holds out.

    An outer fold has `n_inner` inner ones; fewer where it has fewer partners.
    """
    test, train = split == TEST, split == TRAIN
    n_folds = split.shape[1]
    shared: dict[tuple[int, int], InnerFold] = {}
    unshared: list[InnerFold] = []
    # Where training rows were thinned, a partner's tested rows are not all among them.
    whole, some = (_partners(test, train, whole=whole) for whole in (True, False))
    for k in range(n_folds):
        if n_folds > 1 and not test[:, k].any():
            for j in range(n_folds):
                if (held := test[:, j] & train[:, k]).any():
                    unshared.append(InnerFold(train[:, k] & train[:, j], {k: held}))
            continue
        # Neighbours round the circle, so that a pair chosen by one fold is chosen by the other; of
        # an odd number one is not.
        partners = sorted(whole[k] or some[k], key=lambda j: (j - k) % n_folds)
        if len(partners) >= min(n_inner, 2):
            before = min(n_inner // 2, len(partners))
            if len(partners) > n_inner:
                partners = partners[: n_inner - before] + partners[len(partners) - before :]
            for j in partners:
                pair = min(k, j), max(k, j)
                fold = shared.setdefault(pair, InnerFold(train[:, k] & train[:, j], {}))
                fold.held[k] = test[:, j] & train[:, k]
            continue
        rows = np.random.default_rng([seed, k]).permutation(np.flatnonzero(train[:, k]))
        for part in np.array_split(rows, max(n_inner, 2)):
            held = np.isin(np.arange(len(split)), part)
            unshared.append(InnerFold(train[:, k] & ~held, {k: held}))
    return [*shared.values(), *unshared]


def _partners(
    test: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_], *, whole: bool
) -> list[list[int]]:
    """For each fold, those whose tested rows it trains on, all or some, and the other way round."""
    folds = range(test.shape[1])

    def serves(j: int, k: int) -> bool:
        held = test[:, j] & train[:, k]
        is_whole = (held == test[:, j]).all() if whole else not (test[:, j] & test[:, k]).any()
        return bool(held.any() and is_whole)

    return [[j for j in folds if j != k and serves(j, k) and serves(k, j)] for k in folds]


@dataclass(frozen=True)
class InnerFits:
    """Inner subproblems that share a design."""

    batch: Batch
    parameters: Tensor  # where they are on the path
    # (k, 3) int64: numbers of an inner subproblem, of an outer one that it serves, and of the mask
    # of the outer one's training rows that are held out here.
    held: Tensor

    def losses(self) -> Tensor:
        """(k,) float64 losses on the rows held out."""
        inner, _, rows = self.held.T
        batch = replace(self.batch.take(inner), folds=rows)
        return sum_losses(batch, self.parameters[:, self.batch.columns_of(inner)])

    def keep(self, is_open: Tensor) -> "InnerFits":
        """Those that serve an open outer subproblem."""
        held = self.held[is_open[self.held[:, 1]]]
        inner, place = torch.unique(held[:, 0], return_inverse=True)
        if len(inner) == self.batch.n_subproblems:
            return replace(self, held=held)
        parameters = self.parameters[:, self.batch.columns_of(inner)]
        held = torch.column_stack([place, held[:, 1:]])
        return InnerFits(self.batch.take(inner), parameters, held)


def choose_c(
    fits: Sequence[InnerFits],
    path: Sequence[float],
    n_outer: int,
    warm: Tensor | None,
    solve: Callable[[Batch, Tensor], list[Part]],
) -> Tensor:
    """Follow the path of each outer subproblem until its inner loss has clearly risen.

    Each inner subproblem starts at its solution for the last C, in ascending order. The C of the
    least loss is chosen, never one at which an inner fit does not converge; NaN where no inner fold
    can be fitted. `warm` is filled with an inner solution of each outer subproblem at its C.
    """
    device = fits[0].held.device if fits else None
    best = torch.full((n_outer,), torch.inf, dtype=torch.float64, device=device)
    chosen, is_open = torch.full_like(best, torch.nan), torch.ones_like(best, dtype=torch.bool)
    for c in path if fits else ():
        # An outer subproblem without inner fits has no loss.
        loss = torch.full_like(best, torch.inf)
        loss[torch.cat([part.held[:, 1] for part in fits])] = 0.0
        for part in fits:
            strength = torch.full_like(part.batch.penalty_strength, 1 / c)
            batch = replace(part.batch, penalty_strength=strength)
            converged = torch.zeros_like(batch.folds, dtype=torch.bool)
            for own, _, solution in solve(batch, part.parameters):
                converged[own] = solution.converged
            losses = torch.where(converged[part.held[:, 0]], part.losses(), torch.inf)
            loss.index_add_(0, part.held[:, 1], losses)
        is_better = is_open & (loss < best)
        best = torch.where(is_better, loss, best)
        chosen = torch.where(is_better, c, chosen)
        is_open &= loss <= best + (RISE * best).clamp_min(RISE_NATS)
        for part in fits if warm is not None else ():
            inner, outer, _ = part.held[is_better[part.held[:, 1]]].T
            own = part.parameters[:, part.batch.columns_of(inner)]
            warm[:, part.batch.columns_of(outer)] = own  # type: ignore[index]
        fits = [kept for part in fits if len((kept := part.keep(is_open)).held)]
        if not fits:
            break
    return chosen

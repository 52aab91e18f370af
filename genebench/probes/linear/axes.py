"""The preconditioner: second derivatives as if the weight of a row said nothing of its features.

Then they are a product of two things, the spectrum of the design and the second derivatives of the
losses summed over the rows: a number for a single column, and for the classes of a multinomial
system the matrix sum of diag(p) - p p' (McCullagh and Nelder 1989, section 5.4.2). The eigenvectors
of that matrix are contrasts of classes. In principal axes and contrasts all is diagonal.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.batches import Batch
from genebench.probes.linear.designs import row_blocks

# The least weight of a row: rows that are all decided have nearly nothing to say of an intercept.
LEAST_WEIGHT = 1e-8

# (width, columns) for the coefficients and (columns,) for the intercepts.
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Axes:
    """Diagonal second derivatives; for classes, those of contrasts.

    Attributes:
        second: (width, columns) of the coefficients.
        mass: (columns,) of the intercepts, 0 for what changes no probability.
        contrasts: (systems, classes, classes) orthonormal, each a column; None for single columns.
    """

    second: Tensor
    mass: Tensor
    contrasts: Tensor | None = None

    def divide(self, pair: Pair) -> Pair:
        """What the second derivatives would be multiplied by to give this."""
        turned, turned_b = self._turn(pair)
        inverse = torch.where(self.mass > 0, 1 / self.mass, 0.0)
        return self._turn((turned / self.second, turned_b * inverse), back=True)

    def lengths(self, coefficients: Tensor) -> Tensor:
        """(columns,) squared lengths w' H w, which add up over the classes of a system."""
        turned, _ = self._turn((coefficients, self.mass))
        return (turned.square() * self.second).sum(dim=0)

    def take(self, systems: Tensor, columns: Tensor) -> "Axes":
        """Those of some of the systems, which have these columns."""
        contrasts = None if self.contrasts is None else self.contrasts[systems]
        return Axes(self.second.index_select(1, columns), self.mass[columns], contrasts)

    def _turn(self, pair: Pair, *, back: bool = False) -> Pair:
        """From classes to contrasts, or back."""
        if self.contrasts is None:
            return pair
        turn = self.contrasts.mT if back else self.contrasts
        systems, classes, _ = turn.shape
        both = torch.cat([pair[0], pair[1][None]]).view(-1, systems, classes).transpose(0, 1)
        turned = torch.bmm(both, turn).transpose(0, 1).flatten(1)
        return turned[:-1], turned[-1]


def find_axes(batch: Batch, weights: Tensor) -> Axes:
    """The axes of a batch where its losses have these (n, columns) weights (see `Loss`)."""
    design, contrasts = batch.design, None
    if batch.n_classes > 1:
        mass, contrasts = _find_contrasts(batch, weights)
        second = design.spectrum[:, None] * (mass / design.n_rows)
    else:
        mass = weights.sum(dim=0)
        second = design.second(weights, mass)
        mass = mass.clamp_min(LEAST_WEIGHT * design.n_rows)
    return Axes(second + batch.penalty_diagonal(), mass, contrasts)


def _find_contrasts(batch: Batch, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The (columns,) masses of contrasts and the (systems, classes, classes) contrasts."""
    n_systems, n_classes = batch.n_systems, batch.n_classes
    second = weights.new_zeros(n_systems, n_classes, n_classes, dtype=torch.float64)
    for block in row_blocks(len(weights), weights.shape[1], weights.itemsize):
        chances = weights[block].view(-1, n_systems, n_classes).transpose(0, 1)
        second -= chances.mT @ chances
        second.diagonal(dim1=1, dim2=2).add_(chances.sum(dim=1))
    # A system that has left the numbers is not solved any more; it shall not stop the others.
    mass, contrasts = torch.linalg.eigh(second.nan_to_num())
    mass.clamp_min_(LEAST_WEIGHT * batch.design.n_rows)
    # The first moves all classes alike, which changes no probability.
    mass[:, 0] = 0.0
    return mass.flatten().to(weights.dtype), contrasts.to(weights.dtype)

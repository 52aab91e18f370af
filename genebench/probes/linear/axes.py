"""Preconditioner: approximates the Hessian by mean weights and the diagonal of XᵀX.

Those by the coefficients are then the spectrum of the design times the second derivatives of the
losses summed over the rows. What the weights are allowed to say is around which point a column is
undecided, for that is not where the design has its centre: its intercept leans on its coefficients
by as much, and only the penalty tells the two apart. They are solved together, by block elimination
(Golub and Van Loan 2013, section 3.2).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.batches import Batch
from genebench.probes.linear.designs import Products
from genebench.probes.linear.parts import ByPart, Pair, Some
from genebench.probes.linear.passes import Adjoint

# The least weight of a row: rows that are all decided have nearly nothing to say of an intercept.
LEAST_WEIGHT = 1e-8
# Where two classes are taken for each other alone, only what their shares add up to is known; with
# this much more, as a part of the whole, they are halves.
EVEN = 1e-4
TINY = 1e-30


class Axes(ABC):
    """Second derivatives at a point that are easily divided by."""

    @abstractmethod
    def divide(self, pair: Pair) -> Pair:
        """What the second derivatives would be multiplied by to give this."""

    @abstractmethod
    def lengths(self, coefficients: Tensor) -> Tensor:
        """(columns,) squared lengths w' H w, which add up over the classes of a system."""

    @abstractmethod
    def take(self, some: Some) -> "Axes":
        """Those of some of the systems."""


@dataclass(frozen=True)
class ColumnAxes(Axes):
    """Those of single columns.

    Attributes:
        second: (width, columns) of the coefficients, features taken from the column's centre.
        mass: (columns,) of the intercepts.
        centre: (width, columns) mean of the features, each row counted as much as it weighs.
    """

    second: Tensor
    mass: Tensor
    centre: Tensor

    @override
    def divide(self, pair: Pair) -> Pair:
        step = torch.addcmul(pair[0], self.centre, pair[1], value=-1.0).div_(self.second)
        return step, pair[1] / self.mass - torch.linalg.vecdot(self.centre, step, dim=0)

    @override
    def lengths(self, coefficients: Tensor) -> Tensor:
        return (coefficients.square() * self.second).sum(dim=0)

    @override
    def take(self, some: Some) -> "ColumnAxes":
        second, mass = some.take((self.second, self.mass))
        return ColumnAxes(second, mass, self.centre.index_select(1, some.columns))


@dataclass(frozen=True)
class ClassAxes(Axes):
    """Those of the classes of multinomial systems.

    The second derivatives of a row, diag(p) - p p' (McCullagh and Nelder 1989, section 5.4.2), are
    the Laplacian of a graph of classes, whose edges weigh as much as their ends are taken for each
    other. Summed over the rows they are one, too, and so they are if each row is multiplied by a
    feature: then an edge is multiplied by the feature's mean over its rows. Each class is given a
    share of these means, such that the shares of two classes add up to that of their edge.

    Attributes:
        second: (systems, width, classes) of the coefficients along contrasts.
        mass: (systems, 1, classes) of the intercepts along contrasts; infinite for the one that
            changes no probability, all classes moved alike.
        contrasts: (systems, classes, classes) orthonormal, each a column: eigenvectors of the
            Laplacian.
        laplacian: (systems, classes, classes) the sum over the rows.
        shares: (systems, width, classes) of the means.
    """

    second: Tensor
    mass: Tensor
    contrasts: Tensor
    laplacian: Tensor
    shares: Tensor

    @override
    def divide(self, pair: Pair) -> Pair:
        size = self.contrasts.shape[:2]
        rest, rest_b = _by_system(pair[0], *size), _by_system(pair[1], *size)
        alone = self._divide_b(rest_b)
        rest = torch.baddbmm(rest, self.shares, self._lean(alone), alpha=-1.0)
        step = ((rest @ self.contrasts) / self.second) @ self.contrasts.mT
        step_b = alone - self._divide_b(self._lean_back(self.shares.mT @ step))
        return step.transpose(0, 1).flatten(1), step_b.flatten()

    @override
    def lengths(self, coefficients: Tensor) -> Tensor:
        turned = _by_system(coefficients, *self.contrasts.shape[:2]) @ self.contrasts
        return (turned.square() * self.second).sum(dim=1).flatten()

    @override
    def take(self, some: Some) -> "ClassAxes":
        return ClassAxes(*(getattr(self, field.name)[some.systems] for field in fields(self)))

    def _divide_b(self, intercepts: Tensor) -> Tensor:
        """What the Laplacian would be multiplied by to give (systems, 1, classes)."""
        return ((intercepts @ self.contrasts) / self.mass) @ self.contrasts.mT

    def _lean(self, change: Tensor) -> Tensor:
        """What the shares are multiplied by to give each feature's Laplacian times a change.

        With edges a that is the sum over l of a[k, l] (share[k] + share[l]) (change[k] - change[l])
        for class k.

        Args:
            change: (systems, 1, classes) of the intercepts.

        Returns:
            (systems, classes, classes).
        """
        lean = self.laplacian * (change.mT - change)
        lean.diagonal(dim1=1, dim2=2).add_((change @ self.laplacian)[:, 0])
        return lean

    def _lean_back(self, products: Tensor) -> Tensor:
        """The adjoint: (systems, 1, classes) from the shares' products with a change's features.

        Args:
            products: (systems, classes, classes), summed over the features.
        """
        weighed = self.laplacian * products
        own = products.diagonal(dim1=1, dim2=2)[:, None, :] @ self.laplacian
        return own + weighed.sum(dim=2)[:, None, :] - weighed.sum(dim=1, keepdim=True)


def find_axes(batch: Batch, weights: ByPart, products: Products) -> Axes:
    """The axes of a batch where its losses have these weights (see `Loss`).

    Args:
        batch: The systems.
        weights: What the losses gave for the rows.
        products: Of the design's matrix, or of one that is rounded.
    """
    if batch.n_classes > 1:
        return _find_class_axes(batch, weights, products)
    adjoint = Adjoint(batch, products)
    for block in batch.blocks():
        adjoint.collect(block, weights[block].clone())
    sums, mass = adjoint.finish()
    second = batch.design.second(weights.tensors, mass)
    mass = mass.clamp_min(LEAST_WEIGHT * batch.design.n_rows)
    centre = sums / mass
    second = _take_from(second, centre.square() * mass)
    return ColumnAxes(second + batch.penalty_diagonal(), mass, centre)


def _find_class_axes(batch: Batch, weights: ByPart, products: Products) -> ClassAxes:
    dtype, least = batch.dtype, LEAST_WEIGHT * batch.design.n_rows
    laplacian, sums = _sum_rows(batch, weights, products)
    own = laplacian.diagonal(dim1=1, dim2=2).clamp_min(least)
    # The means of a class's edges, each as it weighs, are the mean of the class's rows.
    both = torch.diag_embed((2.0 + EVEN) * own) - laplacian
    shares = sums @ torch.cholesky_inverse(torch.linalg.cholesky(both)).to(dtype)
    mass, contrasts = (part.to(dtype) for part in torch.linalg.eigh(laplacian))
    mass = mass.clamp_min(least)[:, None, :]
    laplacian, own = laplacian.to(dtype), own.to(dtype)[:, None, :]
    squares = (sums.square() / own).sum(dim=2, keepdim=True) / own.sum(dim=2, keepdim=True)
    spectrum = _take_from((batch.design.spectrum / batch.design.n_rows)[:, None], squares)
    mass[:, :, 0] = 0.0
    penalty = _by_system(batch.penalty_diagonal(), batch.n_systems, batch.n_classes)
    second = spectrum * mass + penalty
    mass[:, :, 0] = torch.inf
    return ClassAxes(second, mass, contrasts, laplacian, shares)


def _sum_rows(batch: Batch, weights: ByPart, products: Products) -> tuple[Tensor, Tensor]:
    """What `ClassAxes` are made of.

    Returns:
        The (systems, classes, classes) float64 Laplacians, and the (systems, width, classes) sums
        of the features, each row counted as much as it weighs for a class.
    """
    n_systems, n_classes = batch.n_systems, batch.n_classes
    laplacian = batch.strength.new_zeros(n_systems, n_classes, n_classes)
    adjoint = Adjoint(batch, products)
    for block in batch.blocks():
        systems, shares = block.part.systems, weights[block]
        chances = _by_system(shares, len(systems), n_classes).contiguous()
        laplacian.index_add_(0, systems, (chances.mT @ chances).double(), alpha=-1.0)
        adjoint.collect(block, shares * (1.0 - shares))
    # A system that has left the numbers is not solved any more; it shall not stop the others.
    laplacian = laplacian.nan_to_num(0.0, 0.0, 0.0)
    # The sums of its rows are 0. Sums of p - p p would be differences, of rounding alone where
    # all is decided.
    diagonal = laplacian.diagonal(dim1=1, dim2=2)
    diagonal -= laplacian.sum(dim=2)
    sums = adjoint.finish()[0].nan_to_num(0.0, 0.0, 0.0)
    return laplacian, _by_system(sums, n_systems, n_classes)


def _by_system(columns: Tensor, n_systems: int, n_classes: int) -> Tensor:
    """(rows, columns), or the one row (columns,), as (systems, rows, classes)."""
    return columns.view(-1, n_systems, n_classes).transpose(0, 1)


def _take_from(second: Tensor, squares: Tensor) -> Tensor:
    """Second moments around one point from those around another that is this far off.

    What the squares are subtracted from is an estimate, so the difference is kept above 0.
    """
    return second.square() / (second + squares).clamp_min(TINY)

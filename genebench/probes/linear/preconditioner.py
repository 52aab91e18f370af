"""Approximation of the Hessian that preconditions L-BFGS; `docs/solver.md` has the derivation.

With D the second derivatives of the losses, X' D X is approximated by mean(D) · diag(X' X). With
m = sum of D, c = weighted mean of the features, S = spectrum · m / n - m c² + penalty, the
approximation of the Hessian

    [ S + m c c'   m c ]
    [ m c'         m   ]

is inverted by block elimination (Golub and Van Loan 2013, section 3.2).

Multinomial: the second derivatives of a row are the Laplacian of a graph of classes. Eigenvectors
of their sum L (contrasts of classes) make the blocks of the coefficients diagonal. Each class is
given a share of the weighted means, such that the shares of two classes add up to that of their
edge.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from genebench.probes.linear.batch import Batch

# Least mean weight of a row: rows that are all decided determine no intercept.
MIN_WEIGHT = 1e-8
# Two classes that compete with no third determine only the sum of their shares; this much more, as
# a share of the diagonal, splits it evenly.
EVEN = 1e-4
TINY = 1e-30


class ColumnPreconditioner(NamedTuple):
    """An approximation of the Hessian for subproblems of one column."""

    second: Tensor  # (width, columns) S
    weight_sum: Tensor  # (columns,) m
    weighted_mean: Tensor  # (width, columns) c

    def solve(self, gradient: Tensor) -> Tensor:
        """Multiply by the inverse."""
        step = torch.addcmul(gradient[:-1], self.weighted_mean, gradient[-1], value=-1.0)
        step = step.div_(self.second)
        shift = torch.linalg.vecdot(self.weighted_mean, step, dim=0)
        return torch.cat([step, (gradient[-1] / self.weight_sum - shift)[None]])

    def quadratic_form(self, coefficients: Tensor) -> Tensor:
        """(columns,) w' S w."""
        return (coefficients.square() * self.second).sum(dim=0)

    def take(self, own: Tensor) -> "ColumnPreconditioner":
        """The preconditioner of some subproblems."""
        return ColumnPreconditioner(*(part[..., own] for part in self))


class ClassPreconditioner(NamedTuple):
    """An approximation of the Hessian for multinomial subproblems."""

    second: Tensor  # (subproblems, width, classes) S along contrasts
    # (subproblems, 1, classes) eigenvalues of L; infinite for the common shift of all classes,
    # which changes no probability.
    weight_sum: Tensor
    contrasts: Tensor  # (subproblems, classes, classes) eigenvectors of L, in columns
    laplacian: Tensor  # (subproblems, classes, classes) L
    class_means: Tensor  # (subproblems, width, classes) shares of the classes in the edges' means

    def solve(self, gradient: Tensor) -> Tensor:
        """Multiply by the inverse."""
        rest = _by_subproblem(gradient, *self.contrasts.shape[:2])
        rest, alone = rest[:, :-1], self._solve_intercepts(rest[:, -1:])
        rest = torch.baddbmm(rest, self.class_means, self._couple(alone), alpha=-1.0)
        step = ((rest @ self.contrasts) / self.second) @ self.contrasts.mT
        coupled = self._couple_adjoint(self.class_means.mT @ step)
        step = torch.cat([step, alone - self._solve_intercepts(coupled)], dim=1)
        return step.transpose(0, 1).flatten(1)

    def quadratic_form(self, coefficients: Tensor) -> Tensor:
        """(columns,) w' S w; the sum over the classes of a subproblem."""
        turned = _by_subproblem(coefficients, *self.contrasts.shape[:2]) @ self.contrasts
        return (turned.square() * self.second).sum(dim=1).flatten()

    def take(self, own: Tensor) -> "ClassPreconditioner":
        """The preconditioner of some subproblems."""
        return ClassPreconditioner(*(part[own] for part in self))

    def _solve_intercepts(self, intercepts: Tensor) -> Tensor:
        """Multiply (subproblems, 1, classes) by the pseudo-inverse of L."""
        return ((intercepts @ self.contrasts) / self.weight_sum) @ self.contrasts.mT

    def _couple(self, change: Tensor) -> Tensor:
        """Multiplied by the class means: each feature's Laplacian times a change of intercepts.

        With edge weights a, class k gets sum over l of a[k, l] (share[k] + share[l]) (change[k] -
        change[l]): (subproblems, 1, classes) to (subproblems, classes, classes).
        """
        coupled = self.laplacian * (change.mT - change)
        coupled.diagonal(dim1=1, dim2=2).add_((change @ self.laplacian)[:, 0])
        return coupled

    def _couple_adjoint(self, products: Tensor) -> Tensor:
        """The adjoint: (subproblems, 1, classes) from (subproblems, classes, classes)."""
        weighed = self.laplacian * products
        own = products.diagonal(dim1=1, dim2=2)[:, None, :] @ self.laplacian
        return own + weighed.sum(dim=2)[:, None, :] - weighed.sum(dim=1, keepdim=True)


Preconditioner = ColumnPreconditioner | ClassPreconditioner


def build_preconditioner(batch: Batch, parameters: Tensor) -> Preconditioner:
    """The preconditioner of a batch at these parameters."""
    design, n_classes, fits = batch.design, batch.n_classes, batch.fit_intercept
    totals, projected = design.zeros(batch.n_columns), design.project(parameters)
    laplacian = batch.penalty_strength.new_zeros(batch.n_subproblems, n_classes, n_classes)
    for block in batch.blocks():
        weights = design.rows(projected, block.rows, block.columns)
        mask = batch.mask(block, batch.targets(block))
        if batch.loss == "squared":
            weights = torch.ones_like(weights)
        elif batch.loss == "logistic":
            # Of p and 1 - p the one that keeps its digits.
            rare = torch.sigmoid(-weights.abs())
            weights = rare * (1 - rare)
        else:
            shares = torch.softmax(weights.view(len(weights), -1, n_classes), dim=2)
            weights = (shares - shares.square()).flatten(1)
            counted = shares if mask is None else shares * mask[:, :, None]
            edges = counted.permute(1, 2, 0) @ shares.permute(1, 0, 2)
            laplacian[block.subproblems] -= edges
            mask = mask if mask is None else mask.repeat_interleave(n_classes, dim=1)
        weights = weights if mask is None else weights * mask
        design.collect(totals, block.rows, weights, block.columns)
    sums = design.finish(totals)
    if n_classes > 1:
        by_class = _by_subproblem(sums[:-1], batch.n_subproblems, n_classes)
        return _build_for_classes(batch, laplacian, by_class)
    sums, weight_sum = sums[:-1], sums[-1]
    second = design.spectrum[:, None] * (weight_sum / design.n_rows)
    weight_sum = weight_sum.clamp_min(MIN_WEIGHT * design.n_rows)
    mean = sums / weight_sum * fits
    second = _center(second, mean.square() * weight_sum) + batch.penalty_diagonal()
    return ColumnPreconditioner(second, weight_sum if fits else weight_sum + torch.inf, mean)


def _build_for_classes(batch: Batch, laplacian: Tensor, sums: Tensor) -> ClassPreconditioner:
    """The preconditioner from minus the edges of the Laplacians, and weighted sums of features."""
    dtype, least = batch.design.dtype, MIN_WEIGHT * batch.design.n_rows
    # Rows of a Laplacian sum to 0. Sums of p - p p would lose all digits where rows are decided.
    diagonal = laplacian.diagonal(dim1=1, dim2=2)
    diagonal -= laplacian.sum(dim=2)
    own = diagonal.clamp_min(least)
    # The means of a class's edges, weighted, are the weighted mean of the class.
    both = torch.diag_embed((2.0 + EVEN) * own) - laplacian
    class_means = sums @ torch.cholesky_inverse(torch.linalg.cholesky(both)).to(dtype)
    weight_sum, contrasts = (part.to(dtype) for part in torch.linalg.eigh(laplacian))
    weight_sum = weight_sum.clamp_min(least)[:, None, :]
    laplacian, own = laplacian.to(dtype), own.to(dtype)[:, None, :]
    squares = (sums.square() / own).sum(dim=2, keepdim=True) / own.sum(dim=2, keepdim=True)
    squares = squares * batch.fit_intercept
    spectrum = _center((batch.design.spectrum / batch.design.n_rows)[:, None], squares)
    weight_sum[:, :, 0] = 0.0
    penalty = _by_subproblem(batch.penalty_diagonal(), batch.n_subproblems, batch.n_classes)
    second = spectrum * weight_sum + penalty
    weight_sum[:, :, 0] = torch.inf
    if not batch.fit_intercept:
        class_means, weight_sum = torch.zeros_like(class_means), weight_sum + torch.inf
    return ClassPreconditioner(second, weight_sum, contrasts, laplacian, class_means)


def _by_subproblem(columns: Tensor, n_subproblems: int, n_classes: int) -> Tensor:
    """(rows, columns), or one row (columns,), as (subproblems, rows, classes)."""
    return columns.view(-1, n_subproblems, n_classes).transpose(0, 1)


def _center(second: Tensor, squares: Tensor) -> Tensor:
    """Second moments around the mean: `second` less the squared mean, kept positive."""
    return second.square() / (second + squares).clamp_min(TINY)

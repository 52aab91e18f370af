"""Preconditioner of the Newton equations; `docs/solver.md` has the derivation.

X' D X is approximated by mean(D) · diag(X' X). With m = sum of weights, c = weighted mean of the
features, S = spectrum · m / n - m c² + penalty, the approximation of the Hessian

    [ S + m c c'   m c ]
    [ m c'         m   ]

is inverted by block elimination (Golub and Van Loan 2013, section 3.2).

Multinomial: the second derivatives of a row are the Laplacian of a graph of classes. Eigenvectors
of their sum L (contrasts of classes) make the blocks of the coefficients diagonal. Each class is
given a share of the weighted means, such that the shares of two classes add up to that of their
edge.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from genebench.probes.linear.batch import Batch, Parameters, take_columns
from genebench.probes.linear.operators import LinearOperator

# Least mean weight of a row: rows that are all decided determine no intercept.
MIN_WEIGHT = 1e-8
# Two classes that compete with no third determine only the sum of their shares; this much more, as
# a share of the diagonal, splits it evenly.
EVEN = 1e-4
TINY = 1e-30


@dataclass(frozen=True)
class ColumnPreconditioner:
    """An approximation of the Hessian for subproblems of one column.

    Attributes:
        second: (width, columns) S.
        weight_sum: (columns,) m.
        weighted_mean: (width, columns) c.
    """

    second: Tensor
    weight_sum: Tensor
    weighted_mean: Tensor

    def solve(self, gradient: Parameters) -> Parameters:
        """Multiply by the inverse."""
        by_coefficients, by_intercept = gradient
        step = torch.addcmul(by_coefficients, self.weighted_mean, by_intercept, value=-1.0)
        step = step.div_(self.second)
        shift = torch.linalg.vecdot(self.weighted_mean, step, dim=0)
        return step, by_intercept / self.weight_sum - shift

    def quadratic_form(self, coefficients: Tensor) -> Tensor:
        """(columns,) w' S w."""
        return (coefficients.square() * self.second).sum(dim=0)

    def take(self, own: Tensor, columns: Tensor) -> "ColumnPreconditioner":  # noqa: ARG002
        """The preconditioner of some subproblems and their columns."""
        second, weight_sum = take_columns((self.second, self.weight_sum), columns)
        return ColumnPreconditioner(second, weight_sum, self.weighted_mean[:, columns])


@dataclass(frozen=True)
class ClassPreconditioner:
    """An approximation of the Hessian for multinomial subproblems.

    Attributes:
        second: (subproblems, width, classes) S along contrasts.
        weight_sum: (subproblems, 1, classes) eigenvalues of L; infinite for the common shift of all
            classes, which changes no probability.
        contrasts: (subproblems, classes, classes) eigenvectors of L, in columns.
        laplacian: (subproblems, classes, classes) L.
        class_means: (subproblems, width, classes) shares of the classes in the edges' means.
    """

    second: Tensor
    weight_sum: Tensor
    contrasts: Tensor
    laplacian: Tensor
    class_means: Tensor

    def solve(self, gradient: Parameters) -> Parameters:
        """Multiply by the inverse."""
        size = self.contrasts.shape[:2]
        rest, rest_b = _by_subproblem(gradient[0], *size), _by_subproblem(gradient[1], *size)
        alone = self._solve_intercepts(rest_b)
        rest = torch.baddbmm(rest, self.class_means, self._couple(alone), alpha=-1.0)
        step = ((rest @ self.contrasts) / self.second) @ self.contrasts.mT
        coupled = self._couple_adjoint(self.class_means.mT @ step)
        step_b = alone - self._solve_intercepts(coupled)
        return step.transpose(0, 1).flatten(1), step_b.flatten()

    def quadratic_form(self, coefficients: Tensor) -> Tensor:
        """(columns,) w' S w; the sum over the classes of a subproblem."""
        turned = _by_subproblem(coefficients, *self.contrasts.shape[:2]) @ self.contrasts
        return (turned.square() * self.second).sum(dim=1).flatten()

    def take(self, own: Tensor, columns: Tensor) -> "ClassPreconditioner":  # noqa: ARG002
        """The preconditioner of some subproblems and their columns."""
        return ClassPreconditioner(*(getattr(self, field.name)[own] for field in fields(self)))

    def _solve_intercepts(self, intercepts: Tensor) -> Tensor:
        """Multiply (subproblems, 1, classes) by the pseudo-inverse of L."""
        return ((intercepts @ self.contrasts) / self.weight_sum) @ self.contrasts.mT

    def _couple(self, change: Tensor) -> Tensor:
        """Multiplied by the class means: each feature's Laplacian times a change of intercepts.

        With edge weights a, class k gets sum over l of a[k, l] (share[k] + share[l]) (change[k] -
        change[l]).

        Args:
            change: (subproblems, 1, classes).

        Returns:
            (subproblems, classes, classes).
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


def build_preconditioner(batch: Batch, weights: Tensor, operator: LinearOperator) -> Preconditioner:
    """The preconditioner of a batch at a point.

    Args:
        batch: The subproblems.
        weights: (n, columns) second derivatives of the losses at the point (see `Loss`).
        operator: The design matrix, exact or in low precision.
    """
    if batch.n_classes > 1:
        return _build_class_preconditioner(batch, weights, operator)
    totals = operator.zeros(batch.n_columns)
    for block in batch.blocks():
        own = weights[block.rows, block.columns].clone()
        operator.collect(totals, block.rows, own, block.columns)
    sums, weight_sum = operator.finish(totals)
    second = batch.design.spectrum[:, None] * (weight_sum / batch.design.n_rows)
    weight_sum = weight_sum.clamp_min(MIN_WEIGHT * batch.design.n_rows)
    mean = sums / weight_sum
    if not batch.fit_intercept:
        mean, weight_sum = torch.zeros_like(mean), torch.full_like(weight_sum, torch.inf)
    else:
        second = _center(second, mean.square() * weight_sum)
    return ColumnPreconditioner(second + batch.penalty_diagonal(), weight_sum, mean)


def _build_class_preconditioner(
    batch: Batch, weights: Tensor, operator: LinearOperator
) -> ClassPreconditioner:
    dtype, least = batch.design.dtype, MIN_WEIGHT * batch.design.n_rows
    laplacian, sums = _sum_rows(batch, weights, operator)
    own = laplacian.diagonal(dim1=1, dim2=2).clamp_min(least)
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


def _sum_rows(batch: Batch, weights: Tensor, operator: LinearOperator) -> tuple[Tensor, Tensor]:
    """Laplacians and weighted sums of the features.

    Returns:
        (subproblems, classes, classes) float64, and (subproblems, width, classes).
    """
    n_subproblems, n_classes = batch.n_subproblems, batch.n_classes
    laplacian = batch.penalty_strength.new_zeros(n_subproblems, n_classes, n_classes)
    totals = operator.zeros(batch.n_columns)
    is_weighted = batch.sample_weight is not None or batch.class_weight is not None
    for block in batch.blocks():
        numbers = shares = weights[block.rows, block.columns]
        squares = shares.square()
        if is_weighted:
            # The weights are m p: m p p' = (m p) (m p)' / m.
            total = shares.view(len(shares), -1, n_classes).sum(dim=2).clamp_min(TINY)
            total = total.repeat_interleave(n_classes, dim=1)
            shares, squares = shares / total.sqrt(), squares / total
        own = block.subproblems
        probabilities = _by_subproblem(shares, own.stop - own.start, n_classes).contiguous()
        laplacian[own] -= probabilities.mT @ probabilities
        operator.collect(totals, block.rows, numbers - squares, block.columns)
    # A subproblem that has overflowed must not stop the others.
    laplacian = laplacian.nan_to_num(0.0, 0.0, 0.0)
    # Rows of a Laplacian sum to 0. Sums of p - p p would lose all digits where rows are decided.
    diagonal = laplacian.diagonal(dim1=1, dim2=2)
    diagonal -= laplacian.sum(dim=2)
    sums = operator.finish(totals)[0].nan_to_num(0.0, 0.0, 0.0)
    return laplacian, _by_subproblem(sums, n_subproblems, n_classes)


def _by_subproblem(columns: Tensor, n_subproblems: int, n_classes: int) -> Tensor:
    """(rows, columns), or one row (columns,), as (subproblems, rows, classes)."""
    return columns.view(-1, n_subproblems, n_classes).transpose(0, 1)


def _center(second: Tensor, squares: Tensor) -> Tensor:
    """Second moments around the mean: `second` less the squared mean, kept positive."""
    return second.square() / (second + squares).clamp_min(TINY)

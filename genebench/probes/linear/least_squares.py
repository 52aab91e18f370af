"""Ordinary least squares in float64; of minimum norm if rank-deficient.

A well-conditioned fold is a Cholesky factorisation, of sums over rows or, with more features than
rows, over features, and one step of refinement on the rows. Any other goes to the singular value
decomposition that scikit-learn's LinearRegression uses, with the same cut-off.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dpocon
from scipy.sparse import csr_array
from torch import Tensor

from genebench.probes.linear.operators import row_blocks
from genebench.probes.linear.pairs import join_rows, make_selections, take_used
from genebench.probes.linear.sparse_operator import to_torch
from genebench.probes.problem import TEST, TRAIN, Problem

# LinearRegression drops singular values below this share of the greatest: its `tol`.
CUT = 1e-6
# Normal equations are trusted while no singular value comes near the cut.
TRUSTED = 1e-5


class Rows:
    """Joined vectors of the samples of one problem, formed in float64 blocks."""

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        join: str,
        device: torch.device,
    ) -> None:
        self.table, self.index = take_used(matrix, rows, device)
        self.join, n = join, len(rows)
        self.features = join_rows(self.table, self.index[:0], join).shape[1]
        self.center = torch.zeros(self.features, dtype=torch.float64, device=device)
        every = self.blocks(torch.arange(n))
        self.center = sum((self.form(part).sum(dim=0) for part in every), self.center) / n

    def form(self, samples: Tensor) -> Tensor:
        """(samples, features) float64, less the mean of all samples."""
        return join_rows(self.table, self.index[samples], self.join).double().sub_(self.center)

    def blocks(self, samples: Tensor) -> Iterator[Tensor]:
        """Parts of the samples whose vectors stay in cache."""
        for block in row_blocks(len(samples), self.features, 8):
            yield samples[block]

    def moments(self, samples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over samples: X' X, X' targets and X' 1."""
        if self.index.shape[1] > 1 and self.join in {"concat", "mean"}:
            return self._sum_pairs(samples, targets)
        squares = self.center.new_zeros(self.features, self.features)
        products, first = torch.zeros_like(self.center), torch.zeros_like(self.center)
        for part in self.blocks(samples):
            vectors = self.form(part)
            squares.addmm_(vectors.T, vectors)
            products += vectors.T @ targets[part]
            first += vectors.sum(dim=0)
        return squares, products, first

    def _sum_pairs(self, samples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sums from how often entities meet, without forming a pair.

        With S_p selecting the entities E of position p, (S_p E)' S_q E = E' (S_p' S_q) E.
        """
        index = self.index[samples].cpu().numpy()
        selections = make_selections(index, self.join, len(self.table))
        tables = [self.table.double() - center for center in self.center.chunk(len(selections))]
        sides = np.stack([targets[samples].cpu().numpy(), np.ones(len(index))], axis=1)
        rows, sums = [], []
        for left, selection in zip(tables, selections, strict=True):
            sums.append(left.T @ torch.from_numpy(selection.T @ sides).to(left.device))
            blocks = [
                left.T @ (to_torch(csr_array(selection.T @ other), left) @ right)
                for right, other in zip(tables, selections, strict=True)
            ]
            rows.append(torch.cat(blocks, dim=1))
        products, first = torch.cat(sums).T
        return torch.cat(rows), products, first


def fit_least_squares(
    matrix: npt.NDArray[Any], problem: Problem, join: str, device: torch.device
) -> Iterator[npt.NDArray[np.float64]]:
    """Predict the held-out samples of every fold of a regression problem.

    Args:
        matrix: (entities, features).
        problem: The problem.
        join: How the vectors of a sample are joined.
        device: Device of the computation.

    Yields:
        For each fold, (test samples,) float64.
    """
    rows = Rows(matrix, problem.rows, join, device)
    targets = torch.from_numpy(np.asarray(problem.targets, dtype=np.float64)).to(device)
    for fold in problem.split.T:
        train, test = (torch.from_numpy(np.flatnonzero(fold == part)) for part in (TRAIN, TEST))
        solution = _solve_normal(rows, train, targets) if len(train) > rows.features else None
        coefficients, intercept = solution or _solve_rows(rows, train, targets)
        predicted = [rows.form(part) @ coefficients + intercept for part in rows.blocks(test)]
        yield torch.cat(predicted)[:, 0].cpu().numpy()


def _solve_normal(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Normal equations; None where they are too badly conditioned to be trusted."""
    squares, products, first = rows.moments(train, targets)
    mean, target = first / len(train), targets[train].mean()
    squares.addr_(first, mean, alpha=-1.0)
    factor = _factor(squares)
    if factor is None:
        return None
    coefficients = torch.cholesky_solve((products - first * target)[:, None], factor)
    # One step of refinement on the rows brings back what squaring the condition number lost.
    left = torch.zeros_like(coefficients)
    for part in rows.blocks(train):
        vectors = rows.form(part).sub_(mean)
        left += vectors.T @ ((targets[part] - target)[:, None] - vectors @ coefficients)
    coefficients += torch.cholesky_solve(left, factor)
    return coefficients, target - mean @ coefficients


def _solve_rows(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The solution of minimum norm, from products of the rows or singular values.

    Centred rows add up to nothing. Adding a multiple of 11' makes their products regular without
    touching the solution, because centred targets add up to nothing too.
    """
    vectors, numbers = rows.form(train), targets[train, None]
    mean, target, factor = vectors.mean(dim=0), numbers.mean(), None
    vectors, numbers = vectors - mean, numbers - target
    if 1 < len(train) <= rows.features:
        products = vectors @ vectors.T
        factor = _factor(products + products.diagonal().mean() / len(train))
    if factor is None:
        coefficients = torch.linalg.pinv(vectors, rtol=CUT) @ numbers
    else:
        coefficients = vectors.T @ torch.cholesky_solve(numbers, factor)
        left = numbers - vectors @ coefficients
        coefficients += vectors.T @ torch.cholesky_solve(left, factor)
    return coefficients, target - mean @ coefficients


def _factor(squares: Tensor) -> Tensor | None:
    """Cholesky factor of a matrix; None if its condition number is too large."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(squares)
    norm = float(torch.linalg.matrix_norm(squares, 1))
    if int(failed) or dpocon(factor.cpu().numpy(), norm, uplo="L")[0] < TRUSTED**2:
        return None
    return factor

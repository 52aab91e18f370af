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
POWER_STEPS = 30


class Rows:
    """Joined vectors of the samples of one problem, formed in float64 blocks.

    Args:
        matrix: (entities, features).
        rows: (n, positions).
        join: How the vectors of a sample are joined.
        device: Device of the computation.
    """

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        join: str,
        device: torch.device,
    ) -> None:
        self.table, self.index = take_used(matrix, rows, device)
        self.join, self.n = join, len(rows)
        self.features = join_rows(self.table, self.index[:0], join).shape[1]
        self.center = torch.zeros(self.features, dtype=torch.float64, device=device)
        total = torch.zeros_like(self.center)
        for part in self.blocks(torch.arange(self.n)):
            total += self.form(part).sum(dim=0)
        self.center = total / self.n

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
    """Predict the held-out samples of every fold.

    Args:
        matrix: (entities, features).
        problem: A regression problem.
        join: How the vectors of a sample are joined.
        device: Device of the computation.

    Yields:
        For each fold, (test samples,) float64.
    """
    rows = Rows(matrix, problem.rows, join, device)
    targets = torch.from_numpy(np.asarray(problem.targets, dtype=np.float64)).to(device)
    for fold in problem.split.T:
        train, test = (torch.from_numpy(np.flatnonzero(fold == part)) for part in (TRAIN, TEST))
        solution = None
        if len(train) > rows.features:
            solution = _solve_normal(rows, train, targets)
        elif len(train) > 1:
            solution = _solve_dual(rows, train, targets)
        coefficients, intercept = solution or _solve_singular(rows, train, targets)
        predicted = [rows.form(part) @ coefficients + intercept for part in rows.blocks(test)]
        yield torch.cat(predicted).cpu().numpy()


def _solve_normal(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Normal equations; None where they are too badly conditioned to be trusted."""
    squares, products, first = rows.moments(train, targets)
    mean, target = first / len(train), targets[train].mean()
    squares.addr_(first, mean, alpha=-1.0)
    products -= first * target
    factor = _factor(squares)
    if factor is None:
        return None
    coefficients = torch.cholesky_solve(products[:, None], factor)[:, 0]
    # One step of refinement on the rows brings back what squaring the condition number lost.
    left = torch.zeros_like(products)
    for part in rows.blocks(train):
        vectors = rows.form(part).sub_(mean)
        left += vectors.T @ (targets[part] - target - vectors @ coefficients)
    coefficients += torch.cholesky_solve(left[:, None], factor)[:, 0]
    return coefficients, target - mean @ coefficients


def _solve_dual(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """The solution of minimum norm, in the rows; None where it is too badly conditioned.

    Centred rows add up to nothing. Adding a multiple of 11' makes their products regular without
    touching the solution, because centred targets add up to nothing too.
    """
    vectors, numbers = rows.form(train), targets[train]
    mean, target = vectors.mean(dim=0), numbers.mean()
    vectors -= mean
    products = vectors @ vectors.T
    products += products.diagonal().mean() / len(train)
    factor = _factor(products)
    if factor is None:
        return None
    numbers = (numbers - target)[:, None]
    coefficients = vectors.T @ torch.cholesky_solve(numbers, factor)
    left = numbers - vectors @ coefficients
    coefficients += vectors.T @ torch.cholesky_solve(left, factor)
    return coefficients[:, 0], target - mean @ coefficients[:, 0]


def _factor(squares: Tensor) -> Tensor | None:
    """Cholesky factor of a matrix; None if its eigenvalues spread too far.

    The greatest and the least are found by power steps with the matrix and with its inverse (Golub
    and Van Loan 2013, section 8.2), from a start without structure.
    """
    factor, failed = torch.linalg.cholesky_ex(squares)
    if int(failed):
        return None
    start = torch.linspace(1.0, 2.0, len(squares), dtype=squares.dtype, device=squares.device)
    up = down = torch.sin(97.0 * start)[:, None]
    for _ in range(POWER_STEPS):
        up = squares @ (up / torch.linalg.vector_norm(up))
        down = torch.cholesky_solve(down / torch.linalg.vector_norm(down), factor)
    spread = torch.linalg.vector_norm(up) * torch.linalg.vector_norm(down)
    return factor if float(spread) < TRUSTED**-2 else None


def _solve_singular(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum norm by singular values, cut off where scikit-learn does; of any rank."""
    vectors, numbers = rows.form(train), targets[train]
    mean, target = vectors.mean(dim=0), numbers.mean()
    left, lengths, right = torch.linalg.svd(vectors - mean, full_matrices=False)
    kept = lengths > CUT * lengths.max()
    shares = left[:, kept].T @ (numbers - target) / lengths[kept]
    coefficients = right[kept].T @ shares
    return coefficients, target - mean @ coefficients

"""Ordinary least squares of all folds from one factorisation; minimum norm if rank-deficient.

The sums of squares of a fold's training rows are those of all rows less those of its held-out rows,
so five folds cost one product. A well-conditioned fold is then a Cholesky factorisation, of sums
over rows or, with more features than rows, over features, and one step of refinement on the rows
themselves. Any other goes to the singular value decomposition that scikit-learn's LinearRegression
uses, with the same cut-off. Everything is float64.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.operators import row_blocks
from genebench.probes.linear.pairs import join_rows
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
        used, index = np.unique(rows, return_inverse=True)
        self.table = torch.from_numpy(np.ascontiguousarray(matrix[used])).to(device)
        self.index = torch.from_numpy(index.reshape(rows.shape)).to(device)
        self.join = join
        self.n = len(rows)
        self.features = self.form(torch.arange(0)).shape[1]
        objective = torch.zeros(self.features, dtype=torch.float64, device=device)
        for block in self.blocks(torch.arange(self.n)):
            objective += self.form(block).sum(dim=0)
        self.center = objective / self.n

    def form(self, samples: Tensor) -> Tensor:
        """(samples, features) float64."""
        return join_rows(self.table, self.index[samples], self.join).double()

    def centred(self, samples: Tensor) -> Tensor:
        """The same, less the mean of all samples."""
        return self.form(samples).sub_(self.center)

    def blocks(self, samples: Tensor) -> Iterator[Tensor]:
        """Parts of the samples whose vectors stay in cache."""
        for block in row_blocks(len(samples), self.features, 8):
            yield samples[block]

    def moments(self, samples: Tensor, targets: Tensor) -> "Moments":
        """Sums over samples."""
        if self.index.shape[1] > 1 and self.join in {"concat", "mean"}:
            return self._pair_moments(samples, targets)
        result = Moments.zeros(self.features, self.table.device)
        for part in self.blocks(samples):
            vectors, numbers = self.centred(part), targets[part]
            result.squares.addmm_(vectors.T, vectors)
            result.products.add_(vectors.T @ numbers)
            result.first.add_(vectors.sum(dim=0))
            result.target += float(numbers.sum())
            result.n += len(part)
        return result

    def _pair_moments(self, samples: Tensor, targets: Tensor) -> "Moments":
        """The same from how often entities meet, without forming a pair.

        With S_p selecting the entities E of position p, S_p E' S_q E = E' (S_p' S_q) E, and
        S_p' S_q counts how often two entities meet.
        """
        n, positions = len(samples), self.index.shape[1]
        d = self.table.shape[1]
        is_mean = self.join == "mean"
        width = d if is_mean else d * positions
        result = Moments.zeros(width, self.table.device)
        result.n, result.target = n, float(targets[samples].sum())
        used, places, tables = [], [], []
        for position in range(positions):
            entities, place = torch.unique(self.index[samples, position], return_inverse=True)
            used.append(len(entities))
            places.append(place)
            own = slice(None) if is_mean else slice(position * d, (position + 1) * d)
            tables.append(self.table[entities].double() - self.center[own])
        share = 1 / positions if is_mean else 1.0
        ones = torch.ones(n, dtype=torch.float64, device=self.table.device)
        for left in range(positions):
            rows = slice(None) if is_mean else slice(left * d, (left + 1) * d)
            for goal, values in ((result.products, targets[samples]), (result.first, ones)):
                sums = torch.bincount(places[left], values, used[left])
                goal[rows] += share * (tables[left].T @ sums)
            for right in range(positions):
                columns = slice(None) if is_mean else slice(right * d, (right + 1) * d)
                meet = torch.sparse_coo_tensor(
                    torch.stack([places[left], places[right]]),
                    ones,
                    (used[left], used[right]),
                    check_invariants=False,
                ).coalesce()
                result.squares[rows, columns] += share**2 * (
                    tables[left].T @ torch.sparse.mm(meet, tables[right])
                )
        return result


class Moments:
    """Sums over samples: of squares, of products with the targets, of each."""

    def __init__(self, squares: Tensor, products: Tensor, first: Tensor) -> None:
        self.squares, self.products, self.first = squares, products, first
        self.target, self.n = 0.0, 0

    @classmethod
    def zeros(cls, features: int, device: torch.device) -> "Moments":
        """Sums over nothing."""
        square = torch.zeros(features, features, dtype=torch.float64, device=device)
        return cls(square, torch.zeros_like(square[0]), torch.zeros_like(square[0]))

    def less(self, other: "Moments") -> "Moments":
        """Sums over the samples that are not among the other's."""
        result = Moments(
            self.squares - other.squares, self.products - other.products, self.first - other.first
        )
        result.target, result.n = self.target - other.target, self.n - other.n
        return result


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
    whole: Moments | None = None
    for fold in problem.split.T:
        train, test = (torch.from_numpy(np.flatnonzero(fold == part)) for part in (TRAIN, TEST))
        solution = None
        if len(train) > rows.features:
            if whole is None:
                whole = rows.moments(torch.arange(rows.n), targets)
            left = np.ones(rows.n, dtype=bool)
            left[train.numpy()] = False
            # Taking away what is not trained on costs less than adding up what is, if it is less.
            rest = torch.from_numpy(np.flatnonzero(left))
            if len(rest) <= len(train):
                moments = whole.less(rows.moments(rest, targets))
            else:
                moments = rows.moments(train, targets)
            solution = _solve_normal(rows, moments, train, targets)
        elif len(train) > 1:
            solution = _solve_dual(rows, train, targets)
        if solution is None:
            solution = _solve_singular(rows, train, targets)
        coefficients, intercept = solution
        predicted = [rows.centred(part) @ coefficients + intercept for part in rows.blocks(test)]
        yield torch.cat(predicted).cpu().numpy()


def _solve_normal(
    rows: Rows, moments: Moments, train: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Normal equations; None where they are too badly conditioned to be trusted."""
    n = moments.n
    mean, target = moments.first / n, moments.target / n
    squares = moments.squares.addr_(moments.first, mean, alpha=-1.0)
    products = moments.products - moments.first * target
    factor = _factor(squares)
    if factor is None:
        return None
    coefficients = torch.cholesky_solve(products[:, None], factor)[:, 0]
    # One step of refinement on the rows brings back what squaring the condition number lost.
    left = torch.zeros_like(products)
    for part in rows.blocks(train):
        vectors = rows.centred(part).sub_(mean)
        left += vectors.T @ (targets[part] - target - vectors @ coefficients)
    coefficients += torch.cholesky_solve(left[:, None], factor)[:, 0]
    return coefficients, target - mean @ coefficients


def _solve_dual(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """The solution of minimum norm, in the rows; None where it is too badly conditioned.

    Centred rows add up to nothing. Adding a multiple of 11' makes their products regular without
    touching the solution, because centred targets add up to nothing too.
    """
    vectors, numbers = rows.centred(train), targets[train]
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
    vectors, numbers = rows.centred(train), targets[train]
    mean, target = vectors.mean(dim=0), numbers.mean()
    left, lengths, right = torch.linalg.svd(vectors - mean, full_matrices=False)
    kept = lengths > CUT * lengths.max()
    shares = left[:, kept].T @ (numbers - target) / lengths[kept]
    coefficients = right[kept].T @ shares
    return coefficients, target - mean @ coefficients

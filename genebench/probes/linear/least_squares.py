"""Ordinary least squares in float64; of minimum norm if rank-deficient.

A well-conditioned fold is a Cholesky factorisation, of sums over rows or, with more features than
rows, over features, and one step of refinement on the rows. Any other goes to the singular value
decomposition that scikit-learn's LinearRegression uses, with the same cut-off.
"""

import time
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
from genebench.probes.problem import TEST, TRAIN, FoldOutput, HeldOut, Problem

# LinearRegression drops singular values below this share of the greatest: its `tol`.
CUT = 1e-6
# Normal equations are trusted while no singular value comes near the cut.
TRUSTED = 1e-5


def fit_least_squares(
    matrix: npt.NDArray[Any], problem: Problem, join: str, device: str
) -> HeldOut:
    """Fit a regression problem on (entities, features) and predict the held-out samples."""
    started, folds = time.perf_counter(), []
    rows = Rows(matrix, problem.rows, join, torch.device(device))
    targets = torch.from_numpy(np.asarray(problem.targets, dtype=np.float64)).to(device)
    for fold in problem.split.T:
        train, test = (torch.from_numpy(np.flatnonzero(fold == part)) for part in (TRAIN, TEST))
        solution = _solve_normal(rows, train, targets) if len(train) > rows.features else None
        coefficients, intercept = solution or _solve_rows(rows, train, targets)
        predicted = torch.cat([rows.form(part) @ coefficients for part in rows.blocks(test)])
        scores, one, steps = (predicted + intercept).cpu().numpy(), np.ones(1), np.zeros(1, int)
        folds.append(FoldOutput(test.numpy(), scores, one > 0, {}, 0 * one, np.inf * one, steps))
    seconds = time.perf_counter() - started
    return HeldOut(problem.id, tuple(folds), "", seconds, "least squares float64")


class Rows:
    """Joined vectors of the samples of a problem, formed in float64 blocks."""

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        join: str,
        device: torch.device,
    ) -> None:
        self.table, self.index = take_used(matrix, rows, device, torch.float64)
        self.is_sum = rows.shape[1] == 1 or join in {"concat", "mean"}
        if self.is_sum:
            self.table -= self.table.mean(dim=0)
        self.join, self.features = join, join_rows(self.table, self.index[:0], join).shape[1]

    def form(self, samples: Tensor) -> Tensor:
        """(samples, features) vectors; centred entities where the join is a sum."""
        return join_rows(self.table, self.index[samples], self.join)

    def blocks(self, samples: Tensor) -> Iterator[Tensor]:
        """Parts of the samples whose vectors stay in cache."""
        for block in row_blocks(len(samples), self.features, 8):
            yield samples[block]

    def moments(self, samples: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
        """X' X and X' sides of some samples, with sides (samples, k).

        Sums of pairs come from how often entities meet, without forming a pair: with S_p selecting
        the entities E of position p, (S_p E)' S_q E = E' (S_p' S_q) E.
        """
        if self.is_sum and self.index.shape[1] > 1:
            index = self.index[samples].cpu().numpy()
            selections = make_selections(index, self.join, len(self.table))
            numbers = [torch.from_numpy(part.T @ sides.cpu().numpy()) for part in selections]
            products = torch.cat([self.table.T @ part.to(sides) for part in numbers])
            meetings = [
                torch.cat([self.table.T @ (self._count(p, q) @ self.table) for q in selections], 1)
                for p in selections
            ]
            return torch.cat(meetings), products
        squares = sides.new_zeros(self.features, self.features)
        products = sides.new_zeros(self.features, sides.shape[1])
        for block in row_blocks(len(samples), self.features, 8):
            vectors = self.form(samples[block])
            squares.addmm_(vectors.T, vectors)
            products.addmm_(vectors.T, sides[block])
        return squares, products

    def _count(self, left: csr_array, right: csr_array) -> Any:
        return to_torch(csr_array(left.T @ right), self.table)


def _solve_normal(rows: Rows, train: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Normal equations; None where they are too badly conditioned to be trusted."""
    target = targets[train].mean()
    sides = torch.stack([targets[train] - target, torch.ones_like(targets[train])], dim=1)
    squares, products = rows.moments(train, sides)
    mean = products[:, 1] / len(train)
    factor = _factor(squares.addr_(products[:, 1], mean, alpha=-1.0))
    if factor is None:
        return None
    coefficients = torch.cholesky_solve(products[:, :1], factor)
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

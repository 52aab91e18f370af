"""Design matrices as linear operators: products with all rows, without a copy for each fold.

A design has n rows and `width` coordinates. A forward product is `rows(project(w, b), rows,
columns)` for blocks of rows and columns; an adjoint product is `collect(sums, rows, u, columns)`
for blocks, then `finish(sums)`. Hessian products may be in bfloat16: gradients and objectives stay
exact, so rounding cannot move the optimum (see `newton_cg`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from math import ceil
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from genebench.matmul import fastest_matmul, kernel_times

# Bytes of a block's (rows, columns) temporaries on a CPU, where they should stay in cache.
BLOCK_BYTES = 2 << 20
EVERY = slice(None)
# Rounded products need more iterations, so they must be this much faster.
MIN_SPEEDUP = 1.25
# Rows that are transposed together: more leave the cache.
TRANSPOSED_ROWS = 512

Numbers = npt.NDArray[np.int64]
# Joins that do not depend on the order of the entities.
SYMMETRIC = ("mean", "product", "difference")

Precision = Literal["auto", "float32", "bfloat16"]


def row_blocks(
    n_rows: int, n_columns: int, itemsize: int = 4, device: torch.device | None = None
) -> Iterator[slice]:
    """Slices of rows: on a CPU such that temporaries stay in cache, elsewhere of up to 2 GiB."""
    if device is None or device.type == "cpu":
        most = min(max(BLOCK_BYTES // (itemsize * max(n_columns, 1)), 512), 8192)
    else:
        most = max((1 << 31) // (itemsize * max(n_columns, 1)), 512)
    size = ceil(n_rows / ceil(n_rows / most)) if n_rows else most
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def sum_columns(matrix: Tensor, *, squares: bool = False) -> Tensor:
    """(columns,) float64 sums of each column of a matrix, or of its squares."""
    total = matrix.new_zeros(matrix.shape[1], dtype=torch.float64)
    for block in row_blocks(len(matrix), matrix.shape[1], matrix.itemsize):
        rows = matrix[block].square() if squares else matrix[block]
        total += rows.sum(dim=0, dtype=torch.float64)
    return total


def number_rows(matrix: npt.NDArray[Any]) -> Numbers:
    """(n,) for each row, the number of the first row that equals it bit by bit.

    A product may treat rows of different tiles differently, so equal rows can have decision values
    that differ in the last bits, and ranks that depend on what is solved together.
    """
    first: dict[int, int] = {}
    numbers = np.arange(len(matrix))
    for number, row in enumerate(matrix):
        found = first.setdefault(hash(row.tobytes()), number)
        if found != number and np.array_equal(row, matrix[found]):
            numbers[number] = found
    return numbers


def number_joined_rows(row_numbers: Numbers, rows: npt.NDArray[np.int64], join: str) -> Numbers:
    """(samples,) numbers that are equal where the joined vectors are.

    Args:
        row_numbers: Of the matrix, by `number_rows`.
        rows: (samples, positions) rows of the matrix.
        join: How the vectors of a sample are joined.
    """
    entities = row_numbers[rows]
    if join in SYMMETRIC:
        entities = np.sort(entities, axis=1)
    numbers = entities[:, 0]
    for position in entities.T[1:]:
        pairs = numbers * len(row_numbers) + position
        numbers = np.unique(pairs, return_inverse=True)[1]
    return numbers


def find_first(numbers: Numbers) -> Numbers:
    """(n,) for each number, the position of the first that equals it."""
    _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
    return first[place]


class LinearOperator(ABC):
    """A matrix as its products, block by block.

    Attributes:
        precision: Name of the low precision of its numbers; empty if exact.
        noise: Root mean square of the rounding of numbers between -1 and 1.
    """

    precision: str = ""
    noise: float = 0.0

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the rows of a forward product."""

    @abstractmethod
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        """Prepare a forward product with (width, columns), plus (columns,)."""

    @abstractmethod
    def rows(self, projected: tuple[Tensor, ...], rows: slice, columns: slice = EVERY) -> Tensor:
        """(rows, columns) of the forward product, asked for once; it may be overwritten."""

    @abstractmethod
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        """Empty sums of an adjoint product."""

    @abstractmethod
    def collect(
        self, sums: tuple[Tensor, ...], rows: slice, values: Tensor, columns: slice = EVERY
    ) -> None:
        """Add the (rows, columns) values, which may be overwritten, to an adjoint product."""

    @abstractmethod
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """(width, columns) of the adjoint product, and (columns,) sums over the rows."""


class DesignMatrix(LinearOperator):
    """The operator of a design, in coordinates (rotated features) or features.

    Attributes:
        n_rows: Number of rows.
        width: Number of coordinates.
        spectrum: (width,) sum of squares of each coordinate over the rows.
        basis: (features, width) orthonormal rotation; None where coordinates are features.
        low_precision: The same matrix in low precision, for Hessian products; None without.
    """

    n_rows: int
    width: int
    spectrum: Tensor
    basis: Tensor | None = None
    low_precision: LinearOperator | None = None

    @property
    @override
    def dtype(self) -> torch.dtype:
        return self.spectrum.dtype

    def to_features(self, coefficients: Tensor) -> Tensor:
        """(width, columns) of coordinates to (features, columns)."""
        return coefficients if self.basis is None else self.basis @ coefficients

    def to_coordinates(self, coefficients: Tensor) -> Tensor:
        """(features, columns) to (width, columns) of coordinates, the adjoint of the above."""
        return coefficients if self.basis is None else self.basis.T @ coefficients

    def diagonal(self, weights: Tensor) -> Tensor:
        """(width, k) diagonals of rotated diagonal matrices (features, k)."""
        return weights if self.basis is None else self.basis.square().T @ weights

    @abstractmethod
    def double(self) -> "DesignMatrix":
        """The same design with products in float64."""


class DenseMatrix(DesignMatrix):
    """Rows of a matrix in memory.

    Args:
        coordinates: (n, width) float32 or float64, centred.
        basis: (features, width) orthonormal rotation; None if the coordinates are the features.
        low_precision: See `DesignMatrix`.
        dtype: Dtype of the products; each block is converted as it is used.
    """

    def __init__(
        self,
        coordinates: Tensor,
        basis: Tensor | None,
        *,
        low_precision: LinearOperator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.coordinates, self.basis, self.low_precision = coordinates, basis, low_precision
        self.n_rows, self.width = coordinates.shape
        self.spectrum = sum_columns(coordinates, squares=True).to(dtype or coordinates.dtype)

    def form(self, rows: slice) -> Tensor:
        """(rows, features of the products)."""
        return self.coordinates[rows].to(self.dtype)

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return coefficients, intercepts

    @override
    def rows(self, projected: tuple[Tensor, ...], rows: slice, columns: slice = EVERY) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts[columns], self.form(rows), coefficients[:, columns])

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        sums = self.spectrum.new_zeros(n_columns, self.width)
        return sums, sums.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(
        self, sums: tuple[Tensor, ...], rows: slice, values: Tensor, columns: slice = EVERY
    ) -> None:
        sums[1][columns] += values.sum(dim=0)
        sums[0][columns].addmm_(values.T, self.form(rows))

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0].T.contiguous(), sums[1].to(self.dtype)

    @override
    def double(self) -> "DenseMatrix":
        basis = None if self.basis is None else self.basis.double()
        return DenseMatrix(self.coordinates, basis, dtype=torch.float64)


class Bfloat16Matrix(LinearOperator):
    """A dense matrix of 8 significant bits, kept with its transpose for adjoint products.

    Args:
        codes: (n, width) bfloat16.
    """

    precision = "bfloat16"
    noise = 0.001
    dtype = torch.bfloat16

    def __init__(self, codes: Tensor) -> None:
        self.codes, (n_rows, width) = codes, codes.shape
        # A row of ones gives the sums over the rows.
        self.transposed = codes.new_ones(width + 1, n_rows)
        targets = torch.split(self.transposed, TRANSPOSED_ROWS, dim=1)
        for columns, rows in zip(targets, torch.split(codes, TRANSPOSED_ROWS), strict=True):
            columns[:width] = rows.T

    def take(self, rows: Tensor) -> "Bfloat16Matrix":
        """The matrix of some of the rows."""
        return Bfloat16Matrix(self.codes[rows])

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return coefficients.bfloat16().T.contiguous(), intercepts.bfloat16()

    @override
    def rows(self, projected: tuple[Tensor, ...], rows: slice, columns: slice = EVERY) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts[columns], self.codes[rows], coefficients[columns].T)

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        shape = self.codes.shape[1] + 1, n_columns
        return (self.codes.new_zeros(shape, dtype=torch.float32),)

    @override
    def collect(
        self, sums: tuple[Tensor, ...], rows: slice, values: Tensor, columns: slice = EVERY
    ) -> None:
        sums[0][:, columns].add_(self.transposed[:, rows] @ values.bfloat16())

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0][:-1], sums[0][-1]


def to_low_precision(coordinates: Tensor, precision: Precision) -> Bfloat16Matrix | None:
    """Convert a (n, width) float32 matrix; None for float32, and for a single feature."""
    if coordinates.shape[1] == 1 or precision == "float32":
        return None
    if precision == "auto" and not prefers_bfloat16(coordinates.device.type):
        return None
    return Bfloat16Matrix(coordinates.bfloat16())


@cache
def prefers_bfloat16(device: str) -> bool:
    """Time a forward and an adjoint product in both precisions, once per process."""
    rows, width = slice(0, 1024), 1024
    left = torch.ones(rows.stop, width, device=device)
    right = torch.ones(width, BLOCK_BYTES // (4 * rows.stop), device=device)

    def multiply(operator: LinearOperator) -> Tensor:
        projected, sums = operator.project(right, right[0]), operator.zeros(right.shape[1])
        operator.collect(sums, rows, operator.rows(projected, rows))
        return sums[0]

    exact, rounded = DenseMatrix(left, None), Bfloat16Matrix(left.bfloat16())
    with fastest_matmul():
        exact_time, rounded_time = kernel_times(
            [lambda: multiply(exact), lambda: multiply(rounded)], on_cpu=device == "cpu"
        )
    return exact_time > MIN_SPEEDUP * rounded_time

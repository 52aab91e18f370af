"""Design matrices as linear operators: products with all rows, without a copy for each fold.

Parameters are (width + 1, columns): coefficients, and intercepts in the last row. A forward product
is `rows(project(parameters), rows, columns)` for blocks of rows and columns; an adjoint product is
`collect(sums, rows, u, columns)` for blocks, then `finish(sums)`; sums of u are the last row.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import ceil
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

# Bytes of a block's (rows, columns) temporaries on a CPU, where they should stay in cache.
BLOCK_BYTES = 2 << 20
EVERY = slice(None)
# What a product holds between its blocks: (width, columns) or (n, columns), and (columns,).
Sums = tuple[Tensor, Tensor]
# A feature is constant if its variance is below this share of its squared mean, which is what
# float32 vectors resolve; the second is for variances from float32 sums of squares. (A word in no
# training row must count as constant: without a penalty its coefficient would be arbitrary.)
ROUNDING, ROUNDING_OF_SUMS = 1e-13, 1e-4


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


def deviations(variances: Tensor, means: Tensor, floor: float = ROUNDING) -> Tensor:
    """Standard deviations; 1 where a feature is constant, whose coefficient is 0 in any case."""
    varies = variances > floor * means.square()
    return torch.where(varies, variances, torch.ones_like(variances)).sqrt()


class DesignMatrix(ABC):
    """Rows (x - center) / scale of the features x, times a basis.

    `dropped_axes` counts the principal axes left out, whose squared length is below n · eps
    (float64) of the longest; centred rows have one such axis if they are no more than the features.
    """

    n_rows: int
    width: int  # number of coordinates
    spectrum: Tensor  # (width,) sum of squares of each coordinate over the rows
    basis: Tensor | None = (
        None  # (features, width) orthonormal; None where coordinates are features
    )
    center: Tensor  # (features,) float64
    scale: Tensor  # (features,) float64
    # A slice of rows to (rows, features) before the rotation, where weights of the penalty
    # standardise the features; None elsewhere.
    features: Callable[[slice], Tensor] | None = None
    dropped_axes: int = 0

    def set_features(
        self, center: Tensor, scale: Tensor, features: Callable[[slice], Tensor] | None = None
    ) -> Self:
        """Say which features the design is made of; returns the design."""
        self.center, self.scale, self.features = center, scale, features
        return self

    @abstractmethod
    def project(self, parameters: Tensor) -> Sums:
        """Prepare a forward product."""

    @abstractmethod
    def rows(self, projected: Sums, rows: slice, columns: slice = EVERY) -> Tensor:
        """(rows, columns) of the forward product, asked for once; it may be overwritten."""

    @abstractmethod
    def zeros(self, n_columns: int) -> Sums:
        """Empty sums of an adjoint product."""

    @abstractmethod
    def collect(self, sums: Sums, rows: slice, values: Tensor, columns: slice = EVERY) -> None:
        """Add the (rows, columns) values to an adjoint product; once for each row and column."""

    @abstractmethod
    def finish(self, sums: Sums) -> Tensor:
        """(width + 1, columns) of the adjoint product."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the products."""
        return self.spectrum.dtype

    def double(self) -> Self:
        """The same design with products in float64."""
        exact = copy.copy(self)
        exact.spectrum = self.spectrum.double()
        exact.basis = None if self.basis is None else self.basis.double()
        return exact

    def to_features(self, coefficients: Tensor) -> Tensor:
        """(width, columns) of coordinates to (features, columns)."""
        return coefficients if self.basis is None else self.basis @ coefficients

    def to_coordinates(self, coefficients: Tensor) -> Tensor:
        """(features, columns) to (width, columns) of coordinates, the adjoint of the above."""
        return coefficients if self.basis is None else self.basis.T @ coefficients

    def diagonal(self, weights: Tensor) -> Tensor:
        """(width, k) diagonals of rotated diagonal matrices (features, k)."""
        return weights if self.basis is None else self.basis.square().T @ weights

    def to_original(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(features, columns) coefficients and (columns,) intercepts of the features x."""
        coefficients = self.to_features(parameters[:-1]).double() / self.scale[:, None]
        return coefficients, parameters[-1].double() - self.center @ coefficients

    def variances(self, masks: Tensor) -> Tensor:
        """(features, masks) over the rows of each (n, masks) bool mask; 1 where constant."""
        assert self.features is not None
        n_rows, shape = masks.sum(dim=0, dtype=torch.float64), (len(self.center), masks.shape[1])
        first, second = n_rows.new_zeros(shape), n_rows.new_zeros(shape)
        for block in row_blocks(len(masks), 1024):
            rows = self.features(block)
            mask = masks[block].to(rows.dtype)
            first += (mask.T @ rows).T
            second += (mask.T @ rows.square()).T
        means = first / n_rows
        variances = second / n_rows - means.square()
        return deviations(variances, means, ROUNDING_OF_SUMS).square().to(self.dtype)


class DenseMatrix(DesignMatrix):
    """Centred (n, width) coordinates in memory, float32 or float64."""

    def __init__(self, coordinates: Tensor, basis: Tensor | None) -> None:
        self.coordinates, self.basis = coordinates, basis
        self.n_rows, self.width = coordinates.shape
        self.spectrum = sum_columns(coordinates, squares=True).to(coordinates.dtype)

    def form(self, rows: slice) -> Tensor:
        """(rows, width) in the dtype of the products."""
        return self.coordinates[rows].to(self.dtype)

    @override
    def project(self, parameters: Tensor) -> Sums:
        return parameters[:-1], parameters[-1]

    @override
    def rows(self, projected: Sums, rows: slice, columns: slice = EVERY) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts[columns], self.form(rows), coefficients[:, columns])

    @override
    def zeros(self, n_columns: int) -> Sums:
        sums = self.spectrum.new_zeros(n_columns, self.width)
        return sums, sums.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(self, sums: Sums, rows: slice, values: Tensor, columns: slice = EVERY) -> None:
        sums[1][columns] += values.sum(dim=0)
        sums[0][columns].addmm_(values.T, self.form(rows))

    @override
    def finish(self, sums: Sums) -> Tensor:
        return torch.cat([sums[0].T, sums[1][None].to(self.dtype)])

"""Design matrices as linear operators: products with all rows, without a copy for each fold.

A design has n rows and `width` coordinates. A forward product is `rows(project(w, b), block)` for
blocks of rows; an adjoint product is `collect(sums, block, u)` for blocks, then `finish(sums)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor
from typing_extensions import override

# Bytes of a block's (rows, columns) temporaries on a CPU, where they should stay in cache.
BLOCK_BYTES = 2 << 20
FEW_COLUMNS, FEW_ROWS = 128, 256


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


def sum_columns(matrix: Tensor, *, squares: bool = False, weights: Tensor | None = None) -> Tensor:
    """(columns,) float64 sums of each column, or of its squares.

    Args:
        matrix: (rows, columns).
        squares: Sum the squares.
        weights: (rows,) float64 weights; 1 if not given.
    """
    total = matrix.new_zeros(matrix.shape[1], dtype=torch.float64)
    for block in row_blocks(len(matrix), matrix.shape[1], matrix.itemsize):
        rows = matrix[block]
        rows = rows.square() if squares else rows
        if weights is None:
            total += rows.sum(dim=0, dtype=torch.float64)
        else:
            total += weights[block] @ rows.double()
    return total


def add_product(sums: Tensor, values: Tensor, rows: Tensor) -> None:
    """Add values' rows, (columns, width), to `sums`, in blocks whose shape BLAS multiplies fast."""
    n_rows = FEW_ROWS if values.shape[1] <= FEW_COLUMNS else len(values)
    parts = zip(torch.split(values, n_rows), torch.split(rows, n_rows), strict=True)
    for some, of_them in parts:
        sums.addmm_(some.T, of_them)


class LinearOperator(ABC):
    """A matrix as its products, block by block.

    Attributes:
        precision: Name of the low precision of its numbers; empty if exact.
        noise: Root mean square of the rounding of numbers between -1 and 1.
        is_dense: Whether the product of a block of rows takes that block only.
        column_axis: Axis of the columns in the sums of an adjoint product.
    """

    precision: str = ""
    noise: float = 0.0
    is_dense: bool = False
    column_axis: int = 1

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Dtype of the rows of a forward product."""

    @abstractmethod
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        """Prepare a forward product with (width, columns), plus (columns,)."""

    @abstractmethod
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        """(block, columns) of the forward product, a new tensor."""

    def subset(self, projected: tuple[Tensor, ...], columns: Tensor) -> tuple[Tensor, ...]:
        """A prepared forward product with some of the columns."""
        return tuple(tensor.index_select(-1, columns) for tensor in projected)

    @abstractmethod
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        """Empty sums of an adjoint product."""

    @abstractmethod
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        """Add the (block, columns) values, which may be overwritten, to an adjoint product."""

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

    def weighted_squares(self, weights: tuple[Tensor, ...], weight_sum: Tensor) -> Tensor:  # noqa: ARG002
        """(width, columns) diagonal of X' D X; approximated by the mean weight.

        Args:
            weights: D, for each row segment; (n, columns) if the operator is not dense.
            weight_sum: (columns,) sums of D over the rows.
        """
        return self.spectrum[:, None] * (weight_sum / self.n_rows)

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

    is_dense = True
    column_axis = 0

    def __init__(
        self,
        coordinates: Tensor,
        basis: Tensor | None,
        *,
        low_precision: LinearOperator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.basis = basis
        self.low_precision = low_precision
        self.n_rows, self.width = coordinates.shape
        self.spectrum = sum_columns(coordinates, squares=True).to(dtype or coordinates.dtype)

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return coefficients, intercepts

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts, self.coordinates[block].to(self.dtype), coefficients)

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        sums = self.coordinates.new_zeros(n_columns, self.width, dtype=self.dtype)
        return sums, sums.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[1].add_(values.sum(dim=0))
        add_product(sums[0], values, self.coordinates[block].to(self.dtype))

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0].T.contiguous(), sums[1].to(self.dtype)

    @override
    def double(self) -> "DenseMatrix":
        basis = None if self.basis is None else self.basis.double()
        return DenseMatrix(self.coordinates, basis, dtype=torch.float64)


class PairMatrix(DesignMatrix):
    """Pairs of entities joined by `concat` or `mean`, without a row for each pair.

    The matrix is S E, a selection of entity vectors. Forward: multiply the entities, then gather.
    Adjoint: sum over the pairs of each entity, from a list of its pairs (9× faster than adding each
    pair to its entity), then multiply. It takes the memory of the entities, not of the pairs.

    Args:
        tables: (entities, width) of each position, centred over the rows of the design; one for
            all positions if they are averaged.
        bases: The rotation of each table, or None.
        index: (n, positions) int64, row of each position's table.
        is_mean: All positions share one table and its coefficients, and are averaged.
        spectrum: See `DesignMatrix`; of a mean it is not the sum over positions.
    """

    def __init__(
        self,
        tables: tuple[Tensor, ...],
        bases: tuple[Tensor | None, ...],
        index: Tensor,
        *,
        is_mean: bool,
        spectrum: Tensor,
    ) -> None:
        self.tables = tables
        self.bases = bases
        self.index = [column.contiguous() for column in index.T]
        self.is_mean = is_mean
        self.spectrum = spectrum
        self.n_rows, self.width = len(index), len(spectrum)
        # Positions that share a table are summed as one.
        each = [index] if is_mean else index.T[:, :, None]
        sizes = [len(table) for table in tables]
        self.pairs = [_list_pairs(part, size) for part, size in zip(each, sizes, strict=True)]

    def _split(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return torch.split(coefficients, [table.shape[1] for table in self.tables])

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        share = 1 / len(self.index)
        if self.is_mean:
            return (torch.addmm(intercepts, self.tables[0], coefficients).mul_(share),)
        parts = zip(self.tables, self._split(coefficients), strict=True)
        return tuple(torch.addmm(intercepts * share, table, part) for table, part in parts)

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        result = projected[0].index_select(0, self.index[0][block])
        for position in range(1, len(self.index)):
            source = projected[0 if self.is_mean else position]
            result += source.index_select(0, self.index[position][block])
        return result

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        rows = self.tables[0].new_zeros(self.n_rows, n_columns)
        return rows, rows.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[1].add_(values.sum(dim=0))
        sums[0][block] += values

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        parts = []
        for table, (rows, starts) in zip(self.tables, self.pairs, strict=True):
            summed = torch.nn.functional.embedding_bag(rows, sums[0], starts, mode="sum")
            # BLAS is up to 6× faster with the few columns first.
            parts.append(summed.T @ table)
        whole = torch.cat(parts, dim=1).T.contiguous()
        whole = whole / len(self.index) if self.is_mean else whole
        return whole, sums[1].to(self.dtype)

    @override
    def to_features(self, coefficients: Tensor) -> Tensor:
        parts = zip(self.bases, self._split(coefficients), strict=True)
        return torch.cat([part if basis is None else basis @ part for basis, part in parts])

    @override
    def to_coordinates(self, coefficients: Tensor) -> Tensor:
        parts = zip(self.bases, self._split(coefficients), strict=True)
        return torch.cat([part if basis is None else basis.T @ part for basis, part in parts])

    @override
    def diagonal(self, weights: Tensor) -> Tensor:
        parts = zip(self.bases, self._split(weights), strict=True)
        return torch.cat([w if basis is None else basis.square().T @ w for basis, w in parts])

    @override
    def double(self) -> "PairMatrix":
        return PairMatrix(
            tuple(table.double() for table in self.tables),
            tuple(None if basis is None else basis.double() for basis in self.bases),
            torch.stack(self.index, dim=1),
            is_mean=self.is_mean,
            spectrum=self.spectrum.double(),
        )


def _list_pairs(index: Tensor, n_entities: int) -> tuple[Tensor, Tensor]:
    """Rows of each entity, one entity after another, and where each entity's rows begin.

    Args:
        index: (n, positions) of entities.
        n_entities: Their number.
    """
    flat = index.flatten()
    counts = torch.bincount(flat, minlength=n_entities)
    return flat.argsort(stable=True) // index.shape[1], counts.cumsum(0) - counts

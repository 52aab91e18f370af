"""Sparse design matrices: word counts, and pairs as a selection of entities."""

import warnings
from typing import Any, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.operators import EVERY, DesignMatrix, Sums


class SparseMatrix(DesignMatrix):
    """A sparse matrix less an offset for each column, S - 1 offset', or its product S E.

    Word counts are S; their coordinates are the features, for a rotation would fill the zeros.
    Pairs joined by `concat` or `mean` are S E with S the selection of entities and E their centred
    vectors: a forward product multiplies the entities, then adds up those of each pair. It takes
    the memory of the entities, not of the pairs.

    Args:
        table: (n, entities or features) sparse.
        offset: (width,) subtracted from every row, zeros included.
        tables: E: (entities, width) of each position, which S holds one after the other.
        basis: See `DesignMatrix`.
        spectrum: See `DesignMatrix`; needed for S E.
    """

    def __init__(
        self,
        table: csr_array,
        offset: Tensor,
        tables: tuple[Tensor, ...] = (),
        basis: Tensor | None = None,
        spectrum: Tensor | None = None,
    ) -> None:
        self.source, self.offset, self.tables, self.basis = table, offset, tables, basis
        self.table = to_torch(table, offset)
        self.transposed = to_torch(csr_array(table.T), offset)
        self.n_rows, self.width = table.shape[0], len(offset)
        if spectrum is None:
            sums, squares = (
                torch.from_numpy(part.sum(axis=0)).to(offset) for part in (table, table.power(2))
            )
            # Of (x - offset)².
            spectrum = squares + offset * (self.n_rows * offset - 2 * sums)
        self.spectrum = spectrum.clamp_min(0.0)

    @override
    def project(self, parameters: Tensor) -> Sums:
        coefficients = parameters[:-1]
        intercepts = parameters[-1] - self.offset @ coefficients
        if self.tables:
            parts = torch.split(coefficients, [table.shape[1] for table in self.tables])
            products = (table @ part for table, part in zip(self.tables, parts, strict=True))
            coefficients = torch.cat(list(products))
        return torch.mm(self.table, coefficients), intercepts

    @override
    def rows(self, projected: Sums, rows: slice, columns: slice = EVERY) -> Tensor:
        return projected[0][rows, columns] + projected[1][columns]

    @override
    def zeros(self, n_columns: int) -> Sums:
        values = self.offset.new_zeros(self.n_rows, n_columns)
        return values, values.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(self, sums: Sums, rows: slice, values: Tensor, columns: slice = EVERY) -> None:
        sums[0][rows, columns] = values
        sums[1][columns] += values.sum(dim=0)

    @override
    def finish(self, sums: Sums) -> Tensor:
        products, over_rows = self.transposed @ sums[0], sums[1].to(self.dtype)
        if self.tables:
            parts = torch.split(products, [len(table) for table in self.tables])
            # BLAS is up to 6× faster with the few columns first.
            sides = (part.T @ table for table, part in zip(self.tables, parts, strict=True))
            products = torch.cat(list(sides), dim=1).T
        return torch.cat([products - self.offset[:, None] * over_rows, over_rows[None]])

    @override
    def double(self) -> Self:
        exact, source = super().double(), self.source.astype(np.float64)
        exact.offset, exact.tables = self.offset.double(), tuple(t.double() for t in self.tables)
        exact.table, exact.transposed = (
            to_torch(csr_array(part), exact.offset) for part in (source, source.T)
        )
        return exact


def to_torch(table: csr_array, like: Tensor) -> Any:
    """A sparse tensor with the dtype and device of another."""
    with warnings.catch_warnings():
        # torch calls the format a beta; the products used here are tested.
        warnings.filterwarnings("ignore", message="Sparse")
        return torch.sparse_csr_tensor(
            torch.from_numpy(table.indptr.astype(np.int64)),
            torch.from_numpy(table.indices.astype(np.int64)),
            torch.from_numpy(table.data),
            table.shape,
            dtype=like.dtype,
            device=like.device,
            check_invariants=False,
        )

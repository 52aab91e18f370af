"""Sparse design matrices: word counts, and pairs as a selection of entities."""

import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.operators import EVERY, DesignMatrix


class SparseMatrix(DesignMatrix):
    """A sparse matrix less a center for each column, S - 1 center', or its product S E.

    Word counts are S; their coordinates are the features, for a rotation would fill the zeros.
    Pairs joined by `concat` or `mean` are S E with S the selection of entities and E their centred
    vectors: a forward product multiplies the entities, then adds up those of each pair. It takes
    the memory of the entities, not of the pairs.

    Args:
        table: (n, entities or features) sparse.
        center: (width,) subtracted from every row, zeros included.
        tables: E: (entities, width) of each position, which S holds one after the other.
        basis: See `DesignMatrix`.
        spectrum: See `DesignMatrix`; needed for S E.
    """

    def __init__(
        self,
        table: csr_array,
        center: Tensor,
        tables: tuple[Tensor, ...] = (),
        basis: Tensor | None = None,
        spectrum: Tensor | None = None,
    ) -> None:
        self.source, self.center, self.tables, self.basis = table, center, tables, basis
        self.table = to_torch(table, center)
        self.transposed = to_torch(csr_array(table.T), center)
        self.n_rows, self.width = table.shape[0], len(center)
        if spectrum is None:
            sums, squares = (
                torch.from_numpy(part.sum(axis=0)).to(center) for part in (table, table.power(2))
            )
            # Of (x - center)².
            spectrum = squares + center * (self.n_rows * center - 2 * sums)
            spectrum = spectrum.clamp_min(0.0)
        self.spectrum = spectrum

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        intercepts = intercepts - self.center @ coefficients
        if self.tables:
            parts = torch.split(coefficients, [table.shape[1] for table in self.tables])
            products = (table @ part for table, part in zip(self.tables, parts, strict=True))
            coefficients = torch.cat(list(products))
        return (torch.mm(self.table, coefficients).add_(intercepts),)

    @override
    def rows(self, projected: tuple[Tensor, ...], rows: slice, columns: slice = EVERY) -> Tensor:
        return projected[0][rows, columns]

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        values = self.center.new_zeros(self.n_rows, n_columns)
        return values, values.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(
        self, sums: tuple[Tensor, ...], rows: slice, values: Tensor, columns: slice = EVERY
    ) -> None:
        sums[0][rows, columns] += values
        sums[1][columns] += values.sum(dim=0)

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        products, over_rows = self.transposed @ sums[0], sums[1].to(self.dtype)
        if self.tables:
            parts = torch.split(products, [len(table) for table in self.tables])
            # BLAS is up to 6× faster with the few columns first.
            sides = (part.T @ table for table, part in zip(self.tables, parts, strict=True))
            products = torch.cat(list(sides), dim=1).T.contiguous()
        return products.sub_(self.center[:, None] * over_rows), over_rows

    @override
    def double(self) -> "SparseMatrix":
        basis = None if self.basis is None else self.basis.double()
        tables = tuple(table.double() for table in self.tables)
        spectrum = self.spectrum.double() if tables else None
        return SparseMatrix(
            self.source.astype(np.float64), self.center.double(), tables, basis, spectrum
        )


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

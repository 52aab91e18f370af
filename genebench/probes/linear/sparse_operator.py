"""Sparse design matrices, such as word counts: zeros are neither stored nor multiplied."""

import warnings

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.operators import DesignMatrix


class SparseMatrix(DesignMatrix):
    """A sparse matrix less a center for each column, x = table - 1 center'.

    Its coordinates are the features: a rotation would fill the zeros.

    Args:
        table: (n, features) sparse.
        center: (features,) subtracted from every row, zeros included.
    """

    def __init__(self, table: csr_array, center: Tensor) -> None:
        self.source, self.center = table, center
        self.table = _to_torch(table, center)
        self.transposed = _to_torch(csr_array(table.T), center)
        self.squared = _to_torch(csr_array(table.T).power(2), center)
        self.n_rows, self.width = table.shape
        ones = center.new_ones(self.n_rows, 1)
        self.spectrum = self._squares(ones, ones.sum(dim=0))[:, 0]

    def _squares(self, weights: Tensor, weight_sum: Tensor) -> Tensor:
        """(features, columns) of the squared matrix, transposed, times (n, columns) weights."""
        center = self.center[:, None]
        crossed = 2 * center * (self.transposed @ weights)
        squares: Tensor = self.squared @ weights - crossed + center.square() * weight_sum
        return squares.clamp_min(0.0)

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return self.table @ coefficients, intercepts - self.center @ coefficients

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        return projected[0][block] + projected[1]

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        return (self.center.new_zeros(self.n_rows, n_columns),)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[0][block] += values

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        products: Tensor = self.transposed @ sums[0]
        over_rows = sums[0].sum(dim=0)
        return products.sub_(self.center[:, None] * over_rows), over_rows

    @override
    def weighted_squares(self, weights: tuple[Tensor, ...], weight_sum: Tensor) -> Tensor:
        (whole,) = weights
        return self._squares(whole, weight_sum)

    @override
    def double(self) -> "SparseMatrix":
        return SparseMatrix(self.source.astype(np.float64), self.center.double())


def _to_torch(table: csr_array, like: Tensor) -> Tensor:
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

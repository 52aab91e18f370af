"""Joins the vectors of the entities of a sample: concatenation, mean, product, difference."""

import copy
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.operators import DesignMatrix, add_product, row_blocks


class LazyPairFeatures(DesignMatrix):
    """Pairs joined by `product` or absolute `difference`, formed again in every product.

    Args:
        table: (entities, features).
        index: (n, 2) int64.
        join: How two vectors become one.
        center: (features,) subtracted from each joined vector.
        scale: (features,) by which it is then divided.
        has_axes: Rotate coefficients to principal axes, which takes one product X' X.
    """

    def __init__(
        self,
        table: Tensor,
        index: Tensor,
        join: Literal["product", "difference"],
        center: Tensor,
        scale: Tensor,
        *,
        has_axes: bool = True,
    ) -> None:
        self.table, self.index, self.join = table, index, join
        self.center, self.scale = center, scale
        self.n_rows, self.width = len(index), table.shape[1]
        gram = table.new_zeros(self.width, self.width if has_axes else 1)
        for block in row_blocks(self.n_rows, self.width, table.itemsize):
            rows = self.form(block)
            gram += rows.T @ rows if has_axes else rows.square().sum(dim=0)[:, None]
        self.spectrum = gram.flatten()
        if has_axes:
            squares, basis = torch.linalg.eigh(gram.double())
            self.basis = basis.flip(1).to(table.dtype)
            self.spectrum = squares.flip(0).clamp_min(0.0).to(table.dtype)

    def form(self, block: slice) -> Tensor:
        """(block, features) of joined vectors, centred and scaled."""
        joined = join_rows(self.table, self.index[block], self.join)
        return joined.sub_(self.center).div_(self.scale)

    def coordinates(self) -> Tensor:
        """(n, width) of the whole matrix in principal axes."""
        result = self.table.new_empty(self.n_rows, self.width)
        for block in row_blocks(self.n_rows, self.width, self.table.itemsize):
            rows = self.form(block)
            result[block] = rows if self.basis is None else rows @ self.basis
        return result

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return self.to_features(coefficients), intercepts

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts, self.form(block), coefficients)

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        sums = self.table.new_zeros(n_columns, self.width)
        return sums, sums.new_zeros(n_columns, dtype=torch.float64)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[1].add_(values.sum(dim=0))
        add_product(sums[0], values, self.form(block))

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return self.to_coordinates(sums[0].T), sums[1].to(self.dtype)

    @override
    def double(self) -> "LazyPairFeatures":
        exact = copy.copy(self)
        exact.table, exact.center, exact.scale, exact.spectrum = (
            part.double() for part in (self.table, self.center, self.scale, self.spectrum)
        )
        exact.basis = None if self.basis is None else self.basis.double()
        return exact


def join_rows(table: Tensor, index: Tensor, join: str) -> Tensor:
    """(n, features) of the vectors of (n, positions) entities joined into one; a new tensor.

    Raises:
        ValueError: The join is unknown, or does not take this number of positions.
    """
    positions = index.shape[1]
    if positions == 1:
        return table[index[:, 0]]
    if join == "concat":
        return table[index].flatten(1)
    if join == "mean":
        return table[index].mean(dim=1)
    if positions == 2 and join == "product":
        return table[index[:, 0]].mul_(table[index[:, 1]])
    if positions == 2 and join == "difference":
        return table[index[:, 0]].sub_(table[index[:, 1]]).abs_()
    raise ValueError(f"cannot join {positions} vectors by {join!r}")


def join_float64(
    matrix: npt.NDArray[Any], rows: npt.NDArray[np.int64], join: str, *, device: torch.device
) -> Tensor:
    """(n, features) float64 joined vectors of (n, positions) rows of a matrix."""
    used, index = np.unique(rows, return_inverse=True)
    table = torch.tensor(np.ascontiguousarray(matrix[used]), dtype=torch.float64, device=device)
    return join_rows(table, torch.from_numpy(index.reshape(rows.shape)).to(device), join)

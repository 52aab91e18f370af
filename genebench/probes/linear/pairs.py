"""Pair tasks: the vectors of the entities of a sample joined into one, and their designs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array, hstack
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.feature_transform import MAX_AXES, rotate, rotated, to_tensor
from genebench.probes.linear.operators import (
    DenseMatrix,
    DesignMatrix,
    Sums,
    deviations,
    row_blocks,
)
from genebench.probes.linear.sparse_operator import SparseMatrix, to_torch


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


def take_used(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The rows of a matrix that (n, positions) row numbers name, and the numbers among them."""
    counts = np.bincount(rows.ravel(), minlength=len(matrix))
    index = torch.from_numpy((np.cumsum(counts > 0) - 1)[rows]).to(device)
    return to_tensor(matrix[counts > 0], device, dtype), index


class LazyPairs(DenseMatrix):
    """Joined pairs, centred and scaled, which are formed again in every product.

    `index` has (n, positions) rows of the (entities, features) table.
    """

    def __init__(
        self, table: Tensor, index: Tensor, join: str, center: Tensor, scale: Tensor
    ) -> None:
        self.table, self.index, self.join = table, index, join
        self.n_rows, self.width = len(index), len(center)
        self.spectrum = center.to(table.dtype)
        self.set_features(center, scale)

    def rotate(self) -> None:
        """Use principal axes, which takes one product X' X, unless they are too many."""
        has_axes = self.width <= MAX_AXES
        gram = self.table.new_zeros(self.width, self.width if has_axes else 1)
        for block in row_blocks(self.n_rows, self.width):
            rows = self.form(block)
            gram += rows.T @ rows if has_axes else rows.square().sum(dim=0)[:, None]
        self.spectrum = gram[:, 0]
        if has_axes:
            squares, basis = torch.linalg.eigh(gram.double())
            self.basis = basis.flip(1).to(self.table.dtype)
            self.spectrum = squares.flip(0).clamp_min(0.0).to(self.table.dtype)

    @override
    def form(self, rows: slice) -> Tensor:
        joined = join_rows(self.table, self.index[rows], self.join)
        joined -= self.center.to(joined.dtype)
        return joined.div_(self.scale.to(joined.dtype)).to(self.dtype)

    @override
    def project(self, parameters: Tensor) -> Sums:
        return self.to_features(parameters[:-1]), parameters[-1]

    @override
    def finish(self, sums: Sums) -> Tensor:
        return torch.cat([self.to_coordinates(sums[0].T), sums[1][None].to(self.dtype)])


def prepare_pairs(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    join: str,
    *,
    standardise: bool,
    device: torch.device,
    dense_bytes: int,
) -> DesignMatrix:
    """The design of (n, positions) rows of a matrix.

    Products and differences are held in memory up to `dense_bytes`; larger ones are formed again in
    every product, block by block.
    """
    table, index = take_used(matrix, rows, device, torch.float32)
    if join in ("concat", "mean"):
        design: DesignMatrix = _select_pairs(table, index, join, standardise=standardise)
        lazy = LazyPairs(table, index, join, design.center, design.scale)
    else:
        center, scale = _find_moments(table, index, join)
        scale = scale if standardise else torch.ones_like(scale)
        design = lazy = LazyPairs(table, index, join, center, scale)
        if lazy.n_rows * lazy.width * table.itemsize <= dense_bytes:
            whole = torch.cat([lazy.form(block) for block in row_blocks(len(rows), lazy.width)])
            design = rotated(whole, thin=not standardise).set_features(center, scale)
        else:
            lazy.rotate()
    design.features = lazy.form if standardise else None
    return design


def _find_moments(table: Tensor, index: Tensor, join: str) -> tuple[Tensor, Tensor]:
    """(features,) float64 means and standard deviations of joined vectors."""
    sums = table.new_zeros(2, table.shape[1], dtype=torch.float64)
    for block in row_blocks(len(index), table.shape[1], 8):
        joined = join_rows(table, index[block], join).double()
        sums += torch.stack([joined.sum(dim=0), joined.square().sum(dim=0)])
    center, squares = sums / len(index)
    return center, deviations(squares - center.square(), center)


def make_selections(index: npt.NDArray[np.int64], join: str, n_entities: int) -> list[csr_array]:
    """(n, entities) matrices whose products with the vectors are the joins `concat` and `mean`.

    One for each position, or one for all if they are averaged.
    """
    parts = [index] if join == "mean" else list(index.T[:, :, None])
    share = np.full(parts[0].size, 1 / parts[0].shape[1])
    ends = np.arange(0, parts[0].size + 1, parts[0].shape[1])
    shape = len(index), n_entities
    return [csr_array((share, part.ravel(), ends), shape=shape) for part in parts]


def _select_pairs(table: Tensor, index: Tensor, join: str, *, standardise: bool) -> SparseMatrix:
    """Pairs joined by `concat` or `mean`."""
    selections = make_selections(index.cpu().numpy(), join, len(table))
    parts: list[tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]] = []
    for selection in selections:
        together = to_torch(csr_array(selection.T @ selection), table)
        counts = torch.from_numpy(selection.sum(axis=0)).to(table.device, torch.float64)
        center = counts @ table.double() / len(index)
        own = table - center.float()
        gram = own.T @ (together @ own)
        scale = deviations(gram.diagonal().double() / len(index), center)
        scale = scale if standardise else torch.ones_like(scale)
        gram /= (scale * scale[:, None]).float()
        own, basis = rotate(own / scale.float(), gram, thin=False)
        squares = gram.diagonal() if basis is None else (basis * (gram @ basis)).sum(dim=0)
        parts.append((own, basis, squares, center, scale))
    tables, bases, spectra, centers, scales = zip(*parts, strict=True)
    basis = None if bases[0] is None else torch.block_diag(*bases)  # type: ignore[no-untyped-call]
    spectrum, stacked = torch.cat(spectra), csr_array(hstack(selections))
    design = SparseMatrix(stacked, torch.zeros_like(spectrum), tables, basis, spectrum)
    return design.set_features(torch.cat(centers), torch.cat(scales))

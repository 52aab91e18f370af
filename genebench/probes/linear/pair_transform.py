"""Designs of pair tasks: centred, scaled and rotated to principal axes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array, triu
from torch import Tensor

from genebench.probes.linear.feature_transform import (
    MAX_AXES,
    Prepared,
    deviations,
    masked_variances,
    rotate,
    to_tensor,
    weighted_variances,
)
from genebench.probes.linear.operators import DenseMatrix, PairMatrix, row_blocks, sum_columns
from genebench.probes.linear.pair_features import LazyPairFeatures, join_rows


def prepare_pairs(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    join: str,
    *,
    standardise: bool,
    device: torch.device,
    dense_bytes: int,
) -> Prepared:
    """The design of a pair task.

    Args:
        matrix: (entities, features).
        rows: (n, positions) of the matrix.
        join: `concat`, `mean`, `product` or `difference`.
        standardise: Scale features to standard deviation 1 over the pairs.
        device: Device of the design.
        dense_bytes: Products and differences are held in memory up to this size; larger ones are
            formed again in every product, block by block.
    """
    if join in ("concat", "mean"):
        if join == "concat":
            return _prepare_concat(matrix, rows, standardise=standardise, device=device)
        return _prepare_mean(matrix, rows, standardise=standardise, device=device)
    used, places, _ = _count(rows, len(matrix))
    table = to_tensor(matrix[used], device, torch.float32)
    index = torch.from_numpy(places).to(device)
    n, features = len(rows), table.shape[1]
    blocks = list(row_blocks(n, features))
    joined = (join_rows(table, index[block], join).double() for block in blocks)
    center = sum((part.sum(dim=0) for part in joined), torch.zeros(1, device=device)) / n
    joined = (join_rows(table, index[block], join).double() - center for block in blocks)
    square = sum((part.square().sum(dim=0) for part in joined), torch.zeros(1, device=device)) / n
    scale = deviations(square, center) if standardise else torch.ones_like(square)
    is_thin = not standardise and n < features
    lazy = LazyPairFeatures(
        table, index, join, center.float(), scale.float(),  # type: ignore[arg-type]
        has_axes=features <= MAX_AXES and not is_thin,
    )  # fmt: skip

    def variances(masks: Tensor) -> Tensor:
        return masked_variances(lazy.form, masks)

    if n * features * table.itemsize > dense_bytes:
        return Prepared(lazy, variances, center, scale)
    if is_thin:
        design = DenseMatrix(*rotate(lazy.coordinates(), thin=True))
    else:
        design = DenseMatrix(lazy.coordinates(), lazy.basis)
    return Prepared(design, variances, center, scale)


def _prepare_concat(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    standardise: bool,
    device: torch.device,
) -> Prepared:
    n, positions = rows.shape
    tables, bases, spectra, features, indices = [], [], [], [], []
    centers, scales = [], []
    for position in range(positions):
        used, index, counts = _count(rows[:, position], len(matrix))
        table = to_tensor(matrix[used], device, torch.float32)
        share = torch.from_numpy(counts / n).to(device, torch.float64)
        means = sum_columns(table, weights=share)
        table -= means.float()
        scale = torch.ones_like(means)
        if standardise:
            scale = deviations(sum_columns(table, squares=True, weights=share), means)
            table /= scale.float()
        centers.append(means)
        scales.append(scale)
        weighted = table * share[:, None].float()
        coordinates, basis = rotate(table, table.T @ weighted, thin=False)
        spectra.append(n * (share.float() @ coordinates.square()))
        tables.append(coordinates)
        bases.append(basis)
        features.append(table)
        indices.append(torch.from_numpy(index).to(device))
    design = PairMatrix(
        tuple(tables),
        tuple(bases),
        torch.stack(indices, dim=1),
        is_mean=False,
        spectrum=torch.cat(spectra),
    )

    def variances(masks: Tensor) -> Tensor:
        return torch.cat(
            [
                weighted_variances(table, _count_entities(index, masks, len(table)).to(table.dtype))
                for table, index in zip(features, indices, strict=True)
            ]
        )

    return Prepared(design, variances, torch.cat(centers), torch.cat(scales))


def _count_entities(index: Tensor, masks: Tensor, n_entities: int) -> Tensor:
    """(entities, masks) int64, how many rows of each (n, masks) bool mask an entity is in."""
    counts = [torch.bincount(index[mask], minlength=n_entities) for mask in masks.T]
    return torch.stack(counts, dim=1)


def _count(
    rows: npt.NDArray[np.int64], n_entities: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The entities that occur, the place of each row's among them, and how often each does."""
    counts = np.bincount(rows.ravel(), minlength=n_entities)
    places = np.cumsum(counts > 0) - 1
    used = np.flatnonzero(counts)
    return used, places[rows], counts[used]


def _prepare_mean(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    standardise: bool,
    device: torch.device,
) -> Prepared:
    n, positions = rows.shape
    used, flat, counts = _count(rows, len(matrix))
    index = torch.from_numpy(flat).to(device)
    table = to_tensor(matrix[used], device, torch.float32)
    share = torch.from_numpy(counts / (n * positions)).to(device, torch.float64)
    means = sum_columns(table, weights=share)
    table -= means.float()
    ends = np.arange(0, n * positions + 1, positions)
    averages = np.full(n * positions, 1 / positions, dtype=np.float32)
    selection = csr_array((averages, flat.ravel(), ends), shape=(n, len(used)))
    # S' S is symmetric: its half, the diagonal halved too, makes the rest.
    half = csr_array(triu(selection.T @ selection))
    half.setdiag(half.diagonal() / 2)

    def together() -> Tensor:
        """Half of S' S E: for each entity, what it is averaged with, summed over its pairs."""
        summed = torch.from_numpy(half @ table.cpu().numpy())
        return summed.to(device)

    scale = torch.ones_like(means)
    if standardise:
        squares = 2 * (table.double() * together().double()).sum(dim=0) / n
        scale = deviations(squares, means)
        table /= scale.float()
    gram = table.T @ together()
    gram = gram + gram.T
    coordinates, basis = rotate(table, gram, thin=False)
    spectrum = gram.diagonal() if basis is None else (basis * (gram @ basis)).sum(dim=0)
    design = PairMatrix(
        (coordinates,), (basis,), index, is_mean=True, spectrum=spectrum.clamp_min(0.0)
    )

    def variances(masks: Tensor) -> Tensor:
        return masked_variances(lambda block: join_rows(table, index[block], "mean"), masks)

    return Prepared(design, variances, means, scale)

"""Turns embeddings into designs: centred, scaled, and in principal axes.

An L2 penalty does not see a rotation, and in principal axes the second derivatives of every loss
are near diagonal, which is what makes the solver fast. One rotation of an encoder's matrix serves
all tasks on single entities. Standardised features are scaled here by the whole matrix; what is
left to a fold's training rows goes into the penalty (`Prepared.variances`), so that no fold needs a
matrix of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from genebench.probes.linear.designs import Dense, Design, Pairs, row_blocks, sum_columns
from genebench.probes.linear.joins import Formed, join_rows
from genebench.probes.linear.rounded import Steering, round_matrix
from genebench.probes.linear.sparse import Sparse

# Above this many axes an eigendecomposition costs more than it saves.
MAX_AXES = 6000
# A matrix with fewer numbers than this that are not zero multiplies faster where they are left out,
# if its features' correlations square to less than that a feature, itself included: then they are
# as good as principal axes, which would smear each rare word over all of them.
SPARSE_SHARE, UNCORRELATED = 0.05, 2.0
# A feature is constant if its variance is below this share of its squared mean: float32 vectors
# cannot say less, nor can variances that were computed in float32 from sums of squares. (A word in
# none of the training rows must count as constant: without a penalty its coefficient would be
# anything.)
ROUNDING = 1e-13
ROUNDING_OF_SUMS = 1e-4


@dataclass(frozen=True)
class Prepared:
    """A design, and the variances of its features on some of its rows.

    Attributes:
        design: Centred and, if asked, scaled over all its rows.
        variances: (n, masks) of 0 and 1 to (features, masks); the variance of each feature over
            the rows of each mask, 1 where it is constant.
    """

    design: Design
    variances: Callable[[Tensor], Tensor]


def to_tensor(matrix: npt.NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy of a matrix on the device."""
    return torch.tensor(np.ascontiguousarray(matrix), dtype=dtype, device=device)


def rotate(base: Tensor, gram: Tensor | None = None, *, thin: bool) -> tuple[Tensor, Tensor | None]:
    """Principal axes.

    Args:
        base: (n, features), centred.
        gram: (features, features) to diagonalise; base' base if not given.
        thin: With fewer rows than features, keep only axes along which the rows differ. The
            coordinates then lose nothing, but a penalty that differs by feature is out of reach.

    Returns:
        (n, width) coordinates and the (features, width) basis; `base` itself and None where there
        are too many axes.
    """
    n, features = base.shape
    if thin and n < features and gram is None:
        if n > MAX_AXES:
            return base, None
        squares, left = torch.linalg.eigh((base @ base.T).double())
        kept = squares > squares[-1].clamp_min(1e-300) * n * torch.finfo(base.dtype).eps
        lengths = squares[kept].sqrt()
        left = left[:, kept]
        basis = (base.T.to(left.dtype) @ left) / lengths
        return (left * lengths).to(base.dtype), basis.to(base.dtype)
    if features > MAX_AXES:
        return base, None
    gram = base.T @ base if gram is None else gram
    basis = torch.linalg.eigh(gram.double())[1].flip(1).to(base.dtype)
    return base @ basis, basis


class Space:
    """One embedding matrix made ready for all tasks on single entities.

    Args:
        matrix: (entities, features).
        standardise: Scale features to standard deviation 1 over the entities.
        device: Where.
        precision: Of the products that only steer.
    """

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        *,
        standardise: bool,
        device: torch.device,
        precision: Steering,
    ) -> None:
        base = to_tensor(matrix, device, torch.float32)
        means = sum_columns(base) / len(base)
        base -= means.float()
        scales = torch.ones_like(means)
        if standardise:
            scales = _deviations(sum_columns(base, squares=True) / len(base), means)
            base /= scales.float()
        self.base = base if standardise else None
        self.words: tuple[csr_array, Tensor] | None = None
        is_sparse = np.count_nonzero(matrix) < SPARSE_SHARE * matrix.size
        if is_sparse and _sum_correlations(base.T @ base) < UNCORRELATED:
            table = csr_array(np.asarray(matrix, dtype=np.float32))
            table.data /= scales.float().cpu().numpy()[table.indices]
            self.words = table, (means / scales).float()
        else:
            self.coordinates, self.basis = rotate(base, thin=not standardise)
            self.rounded = round_matrix(self.coordinates, precision)

    def prepare(self, rows: Tensor) -> Prepared:
        """The design of (n,) rows of the matrix."""

        def variances(masks: Tensor) -> Tensor:
            assert self.base is not None
            return _masked_variances(lambda block: self.base[rows[block]], masks)  # type: ignore[index]

        if self.words is not None:
            table, center = self.words
            return Prepared(Sparse(csr_array(table[rows.cpu().numpy()]), center), variances)
        coordinates, rounded = self.coordinates, self.rounded
        if len(rows) != len(coordinates) or not bool(
            (rows == torch.arange(len(rows), device=rows.device)).all()
        ):
            coordinates = coordinates[rows]
            rounded = rounded and rounded.take(rows)
        return Prepared(Dense(coordinates, self.basis, rounded=rounded), variances)


def _sum_correlations(gram: Tensor) -> float:
    """Squared correlations of a feature with all features, mean over features."""
    lengths = gram.diagonal().clamp_min(1e-30).sqrt()
    return float((gram / lengths / lengths[:, None]).square().sum() / len(gram))


def prepare_own(
    matrix: npt.NDArray[Any], rows: npt.NDArray[np.int64], join: str, *, device: torch.device
) -> Tensor:
    """(n, features) float64 of the joined vectors of a small task."""
    used, index = np.unique(rows, return_inverse=True)
    table = to_tensor(matrix[used], device, torch.float64)
    return join_rows(table, torch.from_numpy(index.reshape(rows.shape)).to(device), join)


def scale_own(vectors: Tensor) -> Prepared:
    """A small task's one design for all folds, standardised over all its rows."""
    means = vectors.mean(dim=0)
    base = vectors - means
    base = base / _deviations(base.square().mean(dim=0), means)

    def variances(masks: Tensor) -> Tensor:
        return _masked_variances(lambda block: base[block], masks)

    return Prepared(Dense(*rotate(base, thin=False)), variances)


def own_design(vectors: Tensor, mask: Tensor | None) -> Dense:
    """A small task's design, standardised over the rows of a mask if one is given."""
    rows = vectors if mask is None else vectors[mask]
    center = rows.mean(dim=0)
    base = vectors - center
    if mask is not None:
        base = base / _deviations(base[mask].square().mean(dim=0), center)
    return Dense(*rotate(base, thin=True))


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
        join: Of the protocol.
        standardise: Scale features to standard deviation 1 over the pairs.
        device: Where.
        dense_bytes: Products and differences are held in memory up to this size; larger ones are
            formed in blocks in every product.
    """
    if join in ("concat", "mean"):
        if join == "concat":
            return _prepare_concat(matrix, rows, standardise=standardise, device=device)
        return _prepare_mean(matrix, rows, standardise=standardise, device=device)
    used, flat = np.unique(rows, return_inverse=True)
    table = to_tensor(matrix[used], device, torch.float32)
    index = torch.from_numpy(flat.reshape(rows.shape)).to(device)
    n, features = len(rows), table.shape[1]
    blocks = list(row_blocks(n, features))
    joined = (join_rows(table, index[block], join).double() for block in blocks)
    center = sum((part.sum(dim=0) for part in joined), torch.zeros(1, device=device)) / n
    joined = (join_rows(table, index[block], join).double() - center for block in blocks)
    square = sum((part.square().sum(dim=0) for part in joined), torch.zeros(1, device=device)) / n
    scale = _deviations(square, center) if standardise else torch.ones_like(square)
    is_thin = not standardise and n < features
    formed = Formed(
        table, index, join, center.float(), scale.float(),  # type: ignore[arg-type]
        has_axes=features <= MAX_AXES and not is_thin,
    )  # fmt: skip

    def variances(masks: Tensor) -> Tensor:
        return _masked_variances(formed.form, masks)

    if n * features * table.itemsize > dense_bytes:
        return Prepared(formed, variances)
    if is_thin:
        return Prepared(Dense(*rotate(formed.coordinates(), thin=True)), variances)
    return Prepared(Dense(formed.coordinates(), formed.basis), variances)


def _prepare_concat(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    standardise: bool,
    device: torch.device,
) -> Prepared:
    n, positions = rows.shape
    tables, bases, spectra, features, indices = [], [], [], [], []
    for position in range(positions):
        used, index, counts = np.unique(rows[:, position], return_inverse=True, return_counts=True)
        table = to_tensor(matrix[used], device, torch.float32)
        share = torch.from_numpy(counts / n).to(device, torch.float64)
        means = share @ table.double()
        table -= means.float()
        if standardise:
            table /= _deviations(share @ table.double().square(), means).float()
        weighted = table * share[:, None].float()
        coordinates, basis = rotate(table, table.T @ weighted, thin=False)
        spectra.append(n * (share.float() @ coordinates.square()))
        tables.append(coordinates)
        bases.append(basis)
        features.append(table)
        indices.append(torch.from_numpy(index).to(device))
    design = Pairs(
        tuple(tables),
        tuple(bases),
        torch.stack(indices, dim=1),
        is_mean=False,
        spectrum=torch.cat(spectra),
    )

    def variances(masks: Tensor) -> Tensor:
        return torch.cat(
            [
                _weighted_variances(
                    table, masks.new_zeros(len(table), masks.shape[1]).index_add_(0, index, masks)
                )
                for table, index in zip(features, indices, strict=True)
            ]
        )

    return Prepared(design, variances)


def _prepare_mean(
    matrix: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    *,
    standardise: bool,
    device: torch.device,
) -> Prepared:
    n, positions = rows.shape
    used, flat, counts = np.unique(rows, return_inverse=True, return_counts=True)
    index = torch.from_numpy(flat.reshape(rows.shape)).to(device)
    table = to_tensor(matrix[used], device, torch.float32)
    share = torch.from_numpy(counts / (n * positions)).to(device, torch.float64)
    means = share @ table.double()
    table -= means.float()
    ends = np.arange(0, n * positions + 1, positions)
    averages = np.full(n * positions, 1 / positions, dtype=np.float32)
    selection = csr_array((averages, flat.ravel(), ends), shape=(n, len(used)))
    shared = csr_array(selection.T @ selection)

    def together() -> Tensor:
        """S' S E: for each entity, what it is averaged with, summed over its pairs."""
        summed = torch.from_numpy(shared @ table.cpu().numpy())
        return summed.to(device)

    if standardise:
        squares = (table.double() * together().double()).sum(dim=0) / n
        table /= _deviations(squares, means).float()
    gram = table.T @ together()
    coordinates, basis = rotate(table, gram, thin=False)
    spectrum = gram.diagonal() if basis is None else (basis * (gram @ basis)).sum(dim=0)
    design = Pairs((coordinates,), (basis,), index, is_mean=True, spectrum=spectrum.clamp_min(0.0))

    def variances(masks: Tensor) -> Tensor:
        return _masked_variances(lambda block: join_rows(table, index[block], "mean"), masks)

    return Prepared(design, variances)


def _masked_variances(form: Callable[[slice], Tensor], masks: Tensor) -> Tensor:
    """(features, masks) variances over the rows of each mask."""
    total, first, second = masks.sum(dim=0, dtype=torch.float64), None, None
    for block in row_blocks(len(masks), 1024):
        features, mask = form(block), masks[block]
        one, two = features.T @ mask, features.square().T @ mask
        first = one.double() if first is None else first + one
        second = two.double() if second is None else second + two
    assert first is not None
    assert second is not None
    return _spread(first / total, second / total).to(masks.dtype)


def _weighted_variances(table: Tensor, counts: Tensor) -> Tensor:
    """The same where the rows of a mask are the rows of a table, each a number of times."""
    total = counts.sum(dim=0, dtype=torch.float64)
    first = (table.T @ counts).double() / total
    second = (table.square().T @ counts).double() / total
    return _spread(first, second).to(counts.dtype)


def _spread(means: Tensor, squares: Tensor) -> Tensor:
    """Variances from means and mean squares; 1 where a feature is constant."""
    return _deviations(squares - means.square(), means, ROUNDING_OF_SUMS).square()


def _deviations(variances: Tensor, means: Tensor, floor: float = ROUNDING) -> Tensor:
    """Standard deviations; 1 where a feature is constant, whose coefficient is 0 in any case."""
    varies = variances > floor * means.square()
    return torch.where(varies, variances, torch.ones_like(variances)).sqrt()

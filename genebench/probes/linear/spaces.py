"""Feature transform: centres, scales and rotates embeddings to principal axes.

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

from genebench.probes.linear.designs import Dense, Design, sum_columns
from genebench.probes.linear.joins import join_rows
from genebench.probes.linear.rounded import Steering, round_matrix
from genebench.probes.linear.scales import deviations, masked_variances
from genebench.probes.linear.sparse import Sparse

# Above this many axes an eigendecomposition costs more than it saves.
MAX_AXES = 6000
# Columns of a matrix that are converted to float64 together.
GRAM_COLUMNS = 512
# A matrix with fewer numbers than this that are not zero multiplies faster where they are left out,
# if its features' correlations square to less than that a feature, itself included: then they are
# as good as principal axes, which would smear each rare word over all of them.
SPARSE_SHARE, UNCORRELATED = 0.05, 2.0


@dataclass(frozen=True)
class Prepared:
    """A design, and the variances of its features on some of its rows.

    Attributes:
        design: Centred and, if asked, scaled over all its rows.
        variances: (n, masks) bool to (features, masks); the variance of each feature over
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
        gram = base.new_zeros(n, n, dtype=torch.float64)
        for part in torch.split(base, GRAM_COLUMNS, dim=1):
            exact = part.double()
            gram.addmm_(exact, exact.T)
        squares, left = torch.linalg.eigh(gram)
        # In float64, so that only axes are dropped that no float32 vector tells from none.
        kept = squares > squares[-1].clamp_min(1e-300) * n * torch.finfo(torch.float64).eps
        lengths = squares[kept].sqrt()
        left = left[:, kept]
        basis = base.T.double() @ left / lengths
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
            scales = deviations(sum_columns(base, squares=True) / len(base), means)
            base /= scales.float()
        self.base = base if standardise else None
        self.words: tuple[csr_array, Tensor] | None = None
        is_sparse = np.count_nonzero(matrix) < SPARSE_SHARE * matrix.size
        if is_sparse and (
            base.shape[1] > MAX_AXES or _sum_correlations(base.T @ base) < UNCORRELATED
        ):
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
            return masked_variances(lambda block: self.base[rows[block]], masks)  # type: ignore[index]

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
    base = base / deviations(base.square().mean(dim=0), means)

    def variances(masks: Tensor) -> Tensor:
        return masked_variances(lambda block: base[block], masks)

    return Prepared(Dense(*rotate(base, thin=False)), variances)


def own_design(vectors: Tensor, mask: Tensor | None) -> Dense:
    """A small task's design, standardised over the rows of a mask if one is given.

    One of a mask has no basis, which would take the memory of all features for each mask.
    """
    rows = vectors if mask is None else vectors[mask]
    center = rows.mean(dim=0)
    base = vectors - center
    if mask is not None:
        base = base / deviations(base[mask].square().mean(dim=0), center)
        return Dense(rotate(base, thin=True)[0], None)
    return Dense(*rotate(base, thin=True))

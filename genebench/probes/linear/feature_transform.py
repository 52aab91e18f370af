"""Feature transform: centres, scales and rotates embeddings to principal axes.

One rotation of a matrix serves all tasks on its rows; `docs/solver.md` says why. Standardising a
feature on the training rows of a fold is the same as weighting the penalty of its squared
coefficient by its variance there (`Prepared.variances`), so no fold needs a matrix of its own. Word
counts, nearly uncorrelated and mostly zero, are multiplied as a sparse matrix without rotation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from genebench.probes.linear.batch import Parameters
from genebench.probes.linear.operators import (
    DenseMatrix,
    DesignMatrix,
    Precision,
    row_blocks,
    sum_columns,
    to_low_precision,
)
from genebench.probes.linear.sparse_operator import SparseMatrix

# Above this many axes an eigendecomposition costs more than it saves.
MAX_AXES = 6000
# Columns of a matrix that are converted to float64 together.
GRAM_COLUMNS = 512
# A matrix with a smaller share of non-zeros is multiplied as a sparse one, if the squared
# correlations of its features add up to less than this a feature, itself included: then its
# features are as good as principal axes.
SPARSE_SHARE, UNCORRELATED = 0.05, 3.0
# Up to this many features for each sample, the folds of a small standardised task share one
# rotation of all features and differ in the penalty; beyond, each has its own rotation to fewer
# axes than features.
SQUARE = 2.0
# A feature is constant if its variance is below this share of its squared mean, which is what
# float32 vectors resolve; the second is for variances from float32 sums of squares. (A word in no
# training row must count as constant: without a penalty its coefficient would be arbitrary.)
ROUNDING, ROUNDING_OF_SUMS = 1e-13, 1e-4


@dataclass(frozen=True)
class Prepared:
    """A design, and the way back to the features.

    Attributes:
        design: Rows (x - center) / scale, rotated.
        center: (features,) float64.
        scale: (features,) float64.
        features: A slice of rows to the (rows, features) of the design before its rotation, where
            features are standardised by weights of the penalty; None elsewhere.
        dropped_axes: Number of principal axes left out, whose squared length is below n · eps
            (float64) of the longest; centred rows have one such axis if they are no more than the
            features.
    """

    design: DesignMatrix
    center: Tensor
    scale: Tensor
    features: Callable[[slice], Tensor] | None = None
    dropped_axes: int = 0

    def to_original(self, design: DesignMatrix, parameters: Parameters) -> Parameters:
        """(features, columns) coefficients and (columns,) intercepts of the original features.

        Args:
            design: The design, or the same in float64.
            parameters: Of the design's coordinates.
        """
        coefficients = design.to_features(parameters[0]).double() / self.scale[:, None]
        return coefficients, parameters[1].double() - self.center @ coefficients

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
        deviation = deviations(variances, means, ROUNDING_OF_SUMS)
        return deviation.square().to(self.design.dtype)


def to_tensor(matrix: npt.NDArray[Any], device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """A copy of a matrix on the device."""
    return torch.tensor(np.ascontiguousarray(matrix), dtype=dtype, device=device)


def rotate(base: Tensor, gram: Tensor | None = None, *, thin: bool) -> tuple[Tensor, Tensor | None]:
    """Rotate to principal axes.

    Args:
        base: (n, features), centred.
        gram: (features, features) to diagonalise; base' base if not given.
        thin: With fewer rows than features, keep only axes along which the rows differ. The
            coordinates lose nothing, but a penalty that differs by feature is then impossible.

    Returns:
        (n, width) coordinates and the (features, width) basis; `base` itself and None where there
        are more than `MAX_AXES` axes.
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
        # In float64, so that only axes are dropped whose length rounding cannot tell from 0.
        kept = squares > squares[-1].clamp_min(1e-300) * n * torch.finfo(torch.float64).eps
        lengths, left = squares[kept].sqrt(), left[:, kept]
        basis = base.T.double() @ left / lengths
        return (left * lengths).to(base.dtype), basis.to(base.dtype)
    if features > MAX_AXES:
        return base, None
    gram = base.T @ base if gram is None else gram
    basis = torch.linalg.eigh(gram.double())[1].flip(1).to(base.dtype)
    return base @ basis, basis


class FeatureTransform:
    """One embedding matrix, prepared for all tasks on its rows.

    Args:
        matrix: (entities, features).
        standardise: Scale features to standard deviation 1 over the entities.
        device: Device of the designs.
        precision: Precision of Hessian products.
        center: Subtract the means, which changes nothing where intercepts are fitted.
    """

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        *,
        standardise: bool,
        device: torch.device,
        precision: Precision,
        center: bool = True,
    ) -> None:
        base = to_tensor(matrix, device, torch.float32)
        self.center = sum_columns(base) / len(base) * center
        base -= self.center.float()
        self.scale = torch.ones_like(self.center)
        if standardise:
            variances = sum_columns(base, squares=True) / len(base)
            self.scale = deviations(variances, self.center)
            base /= self.scale.float()
        self.base = base if standardise else None
        self.words: tuple[csr_array, Tensor] | None = None
        self.dropped_axes = 0
        is_sparse = np.count_nonzero(matrix) < SPARSE_SHARE * matrix.size
        if is_sparse and (
            base.shape[1] > MAX_AXES or _sum_correlations(base.T @ base) < UNCORRELATED
        ):
            table = csr_array(np.asarray(matrix, dtype=np.float32))
            table.data /= self.scale.float().cpu().numpy()[table.indices]
            self.words = table, (self.center / self.scale).float()
        else:
            self.coordinates, self.basis = rotate(base, thin=not standardise)
            self.dropped_axes = max(min(base.shape) - self.coordinates.shape[1], 0)
            self.low_precision = to_low_precision(self.coordinates, precision)

    def prepare(self, rows: Tensor) -> Prepared:
        """The design of (n,) rows of the matrix."""
        design: DesignMatrix
        if self.words is not None:
            table, center = self.words
            design = SparseMatrix(csr_array(table[rows.cpu().numpy()]), center)
        else:
            coordinates, low_precision = self.coordinates, self.low_precision
            if not torch.equal(rows, torch.arange(len(coordinates), device=rows.device)):
                coordinates = coordinates[rows]
                low_precision = low_precision and low_precision.take(rows)
            design = DenseMatrix(coordinates, self.basis, low_precision=low_precision)
        base = self.base
        features = None if base is None else lambda block: base[rows[block]]
        return Prepared(design, self.center, self.scale, features, self.dropped_axes)


def _sum_correlations(gram: Tensor) -> float:
    """Squared correlations of a feature with all features, mean over features."""
    lengths = gram.diagonal().clamp_min(1e-30).sqrt()
    return float((gram / lengths / lengths[:, None]).square().sum() / len(gram))


class Shared(NamedTuple):
    """A design and the subproblems that share it.

    Attributes:
        prepared: The design.
        penalty_weights: (features, subproblems); None for 1.
        places: Positions of the subproblems among those asked for.
    """

    prepared: Prepared
    penalty_weights: Tensor | None
    places: list[int]


class Designs:
    """The designs of subproblems: one for all, or one for each set of training rows.

    Args:
        prepared: The design of all subproblems. None if each set of rows has its own.
        vectors: (n, features) float64 vectors of a small task whose designs are standardised each
            for its own training rows.
    """

    def __init__(self, prepared: Prepared | None, vectors: Tensor | None = None) -> None:
        self.prepared, self.vectors = prepared, vectors
        self.solver, self.design_bytes, self.dropped_axes = "newton-cg float64", 0, 0
        if prepared is None:
            assert vectors is not None
            self.dtype, self.width = vectors.dtype, min(vectors.shape)
            self.design_bytes = 8 * len(vectors) * self.width
            return
        self.dtype, self.width = prepared.design.dtype, prepared.design.width
        self.dropped_axes = prepared.dropped_axes
        self.solver = f"newton-cg {str(self.dtype).removeprefix('torch.')}"
        if prepared.design.low_precision is not None:
            self.solver += f" {prepared.design.low_precision.precision}"

    @classmethod
    def in_float64(cls, vectors: Tensor, *, standardise: bool, center: bool) -> "Designs":
        """Designs of (n, features) float64 vectors."""
        if standardise and vectors.shape[1] > SQUARE * len(vectors):
            return cls(None, vectors)
        middle = vectors.mean(dim=0) * center
        base, scale = vectors - middle, torch.ones_like(middle)
        if standardise:
            scale = deviations(base.square().mean(dim=0), middle)
            base /= scale
        design = DenseMatrix(*rotate(base, thin=not standardise))
        features = (lambda block: base[block]) if standardise else None
        return cls(Prepared(design, middle, scale, features, count_dropped(base, design)))

    def of(self, masks: Tensor, ids: Sequence[int]) -> Iterator[Shared]:
        """The designs of subproblems.

        Args:
            masks: (n, masks) bool.
            ids: For each subproblem, the mask of its training rows.
        """
        if not ids:
            return
        if self.prepared is not None:
            weights = None
            if self.prepared.features is not None:
                used, index = np.unique(np.asarray(ids), return_inverse=True)
                variances = self.prepared.variances(masks[:, torch.from_numpy(used)])
                weights = variances[:, torch.from_numpy(index)]
            yield Shared(self.prepared, weights, list(range(len(ids))))
            return
        places: dict[bytes, list[int]] = {}
        for place, number in enumerate(ids):
            places.setdefault(masks[:, number].cpu().numpy().tobytes(), []).append(place)
        assert self.vectors is not None
        for here in places.values():
            mask = masks[:, ids[here[0]]]
            center = self.vectors[mask].mean(dim=0)
            base = self.vectors - center
            scale = deviations(base[mask].square().mean(dim=0), center)
            coordinates = rotate(base / scale, thin=True)[0]
            design = SplitMatrix(coordinates, self.vectors, center, scale)
            self.dropped_axes = max(self.dropped_axes, self.width - design.width)
            yield Shared(Prepared(design, center, scale), None, here)


class SplitMatrix(DenseMatrix):
    """A design of one split, whose basis is computed when coefficients are asked for.

    The basis would take the memory of all features for each split: in principal axes, basis = base'
    coordinates / spectrum.

    Args:
        coordinates: (n, width) float64 principal axes of (vectors - center) / scale.
        vectors: (n, features) float64.
        center: (features,).
        scale: (features,).
    """

    def __init__(self, coordinates: Tensor, vectors: Tensor, center: Tensor, scale: Tensor) -> None:
        super().__init__(coordinates, None)
        self._features = vectors, center, scale

    def to_features(self, coefficients: Tensor) -> Tensor:  # noqa: D102
        vectors, center, scale = self._features
        weights = self.coordinates @ (coefficients / self.spectrum[:, None])
        return (vectors.T @ weights - center[:, None] * weights.sum(dim=0)) / scale[:, None]


def count_dropped(base: Tensor, design: DesignMatrix) -> int:
    """How many axes of a (n, features) matrix its rotated design does not have."""
    return max(min(base.shape) - design.width, 0)


def deviations(variances: Tensor, means: Tensor, floor: float = ROUNDING) -> Tensor:
    """Standard deviations; 1 where a feature is constant, whose coefficient is 0 in any case."""
    varies = variances > floor * means.square()
    return torch.where(varies, variances, torch.ones_like(variances)).sqrt()

"""Feature transform: centres, scales and rotates embeddings to principal axes.

One rotation of a matrix serves all tasks on its rows; `docs/solver.md` says why. Standardising a
feature on the training rows of a fold is the same as weighting the penalty of its squared
coefficient by its variance there (`DesignMatrix.variances`), so no fold needs a matrix of its own.
Word counts, nearly uncorrelated and mostly zero, are multiplied as a sparse matrix.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.operators import DenseMatrix, DesignMatrix, deviations, sum_columns
from genebench.probes.linear.sparse_operator import SparseMatrix

# Above this many axes an eigendecomposition costs more than it saves.
MAX_AXES = 6000
# Columns of a matrix that are converted to float64 together.
GRAM_COLUMNS = 512
# A matrix with a smaller share of non-zeros is multiplied as a sparse one, if the squared
# correlations of its features add up to less than this a feature, itself included: then its
# features are as good as principal axes.
SPARSE_SHARE, UNCORRELATED = 0.05, 3.0


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
    is_thin = thin and n < features and gram is None
    if (n if is_thin else features) > MAX_AXES:
        return base, None
    if is_thin:
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
    gram = base.T @ base if gram is None else gram
    basis = torch.linalg.eigh(gram.double())[1].flip(1).to(base.dtype)
    return base @ basis, basis


def rotated(base: Tensor, *, thin: bool) -> DenseMatrix:
    """The design of a (n, features) matrix in principal axes."""
    design = DenseMatrix(*rotate(base, thin=thin))
    design.dropped_axes = max(min(base.shape) - design.width, 0)
    return design


class FeatureTransform:
    """One (entities, features) embedding matrix, prepared for all tasks on its rows.

    Features are centred, which changes nothing where intercepts are fitted, and scaled to standard
    deviation 1 over the entities if `standardise`.
    """

    def __init__(
        self,
        matrix: npt.NDArray[Any],
        *,
        standardise: bool,
        device: torch.device,
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
        self.words: csr_array | None = None
        is_sparse = np.count_nonzero(matrix) < SPARSE_SHARE * matrix.size
        if is_sparse and (base.shape[1] > MAX_AXES or _correlate(base.T @ base) < UNCORRELATED):
            self.words = csr_array(np.asarray(matrix, dtype=np.float32))
            self.words.data /= self.scale.float().cpu().numpy()[self.words.indices]
        else:
            self.whole = rotated(base, thin=not standardise)

    def prepare(self, rows: Tensor) -> DesignMatrix:
        """The design of (n,) rows of the matrix."""
        base = self.base
        design: DesignMatrix
        if self.words is not None:
            table = csr_array(self.words[rows.cpu().numpy()])
            design = SparseMatrix(table, (self.center / self.scale).float())
        else:
            coordinates = self.whole.coordinates
            is_whole = torch.equal(rows, torch.arange(len(coordinates), device=rows.device))
            design = DenseMatrix(coordinates if is_whole else coordinates[rows], self.whole.basis)
            design.dropped_axes = self.whole.dropped_axes
        features = None if base is None else lambda block: base[rows[block]]
        return design.set_features(self.center, self.scale, features)


def _correlate(gram: Tensor) -> float:
    """Squared correlations of a feature with all features, mean over features."""
    lengths = gram.diagonal().clamp_min(1e-30).sqrt()
    return float((gram / lengths / lengths[:, None]).square().sum() / len(gram))


class Shared(NamedTuple):
    """A design and the subproblems that share it."""

    design: DesignMatrix
    penalty_weights: Tensor | None  # (features, subproblems); None for 1
    places: list[int]  # positions of the subproblems among those asked for


class Designs:
    """The designs of subproblems: one for all, or, from (n, features) float64 vectors of a small
    task, one for each set of training rows, standardised on them.
    """

    def __init__(self, design: DesignMatrix | None, vectors: Tensor | None = None) -> None:
        self.design, self.vectors, self.design_bytes, self.dropped_axes = design, vectors, 0, 0
        if design is not None:
            self.dtype, self.width = design.dtype, design.width
            self.dropped_axes = design.dropped_axes
        elif vectors is not None:
            self.dtype, self.width = vectors.dtype, min(vectors.shape)
            self.design_bytes = 2 * 8 * len(vectors) * self.width
        self.solver = f"lbfgs {str(self.dtype).removeprefix('torch.')}"

    @classmethod
    def in_float64(cls, vectors: Tensor, *, standardise: bool, center: bool) -> "Designs":
        """Designs of (n, features) float64 vectors."""
        if standardise:
            return cls(None, vectors)
        middle = vectors.mean(dim=0) * center
        design = rotated(vectors - middle, thin=True)
        return cls(design.set_features(middle, torch.ones_like(middle)))

    def of(self, masks: Tensor, ids: Sequence[int]) -> Iterator[Shared]:
        """The designs of subproblems; `ids` are their masks of training rows, among (n, masks)."""
        if self.design is not None and ids:
            weights = None
            if self.design.features is not None:
                used, index = torch.unique(torch.tensor(ids), return_inverse=True)
                weights = self.design.variances(masks[:, used])[:, index]
            yield Shared(self.design, weights, list(range(len(ids))))
        if self.vectors is None:
            return
        places: dict[bytes, list[int]] = {}
        for place, number in enumerate(ids):
            places.setdefault(masks[:, number].cpu().numpy().tobytes(), []).append(place)
        for here in places.values():
            design = SplitMatrix(self.vectors, masks[:, ids[here[0]]])
            self.dropped_axes = max(self.dropped_axes, self.width - design.width)
            yield Shared(design, None, here)


class SplitMatrix(DenseMatrix):
    """Principal axes of (n, features) float64 vectors standardised on the rows of a (n,) mask.

    With more features than rows, the basis would take the memory of all features for each split: it
    is computed when coefficients are asked for, as base' coordinates / spectrum.
    """

    def __init__(self, vectors: Tensor, mask: Tensor) -> None:
        center = vectors[mask].mean(dim=0)
        scale = deviations((vectors[mask] - center).square().mean(dim=0), center)
        coordinates, basis = rotate((vectors - center) / scale, thin=True)
        super().__init__(coordinates, basis if vectors.shape[1] <= len(vectors) else None)
        self.vectors = vectors
        self.set_features(center, scale)

    @override
    def to_features(self, coefficients: Tensor) -> Tensor:
        if self.basis is not None:
            return super().to_features(coefficients)
        weights = self.coordinates @ (coefficients / self.spectrum[:, None])
        summed = self.vectors.T @ weights - self.center[:, None] * weights.sum(dim=0)
        return summed / self.scale[:, None]

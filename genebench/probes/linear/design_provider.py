"""Design providers: one design for all subproblems, or one for each set of training rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.feature_transform import Prepared, prepare_split


@dataclass(frozen=True)
class SharedBy:
    """A design and the subproblems that share it.

    Attributes:
        prepared: The design.
        penalty_weights: (features, subproblems); None for 1.
        places: Positions of the subproblems among those asked for.
    """

    prepared: Prepared
    penalty_weights: Tensor | None
    places: list[int]


class DesignProvider(ABC):
    """Gives the designs of subproblems.

    Attributes:
        device: Device of the designs.
        dtype: Dtype of the designs.
        width: Coordinates of a column.
        is_shared: Whether all subproblems have the same coordinates, so that one can start where
            another ended.
        solver: Method, dtype and precision of Hessian products, as evaluations record them.
        design_bytes: Bytes of a design, where each set of training rows has its own; else 0.
    """

    device: torch.device
    dtype: torch.dtype
    width: int
    is_shared: bool
    solver: str
    design_bytes: int = 0

    @abstractmethod
    def designs_of(self, masks: Tensor, ids: Sequence[int]) -> Iterator[SharedBy]:
        """The designs of subproblems.

        Args:
            masks: (n, masks) bool.
            ids: For each subproblem, the mask of its training rows.
        """


class SharedDesignProvider(DesignProvider):
    """One design for all subproblems; scaling on training rows goes into the penalty weights.

    Args:
        prepared: The design and the variances of its features.
        standardise: Whether features are standardised.
        dtype: Dtype of the design.
    """

    def __init__(
        self, prepared: Prepared, *, standardise: bool, dtype: torch.dtype = torch.float32
    ) -> None:
        self.prepared, self.standardise, self.dtype = prepared, standardise, dtype
        self.device, self.width = prepared.center.device, prepared.design.width
        self.is_shared = True
        self.solver = f"newton-cg {str(dtype).removeprefix('torch.')}"
        if prepared.design.low_precision is not None:
            self.solver += f" {prepared.design.low_precision.precision}"

    @override
    def designs_of(self, masks: Tensor, ids: Sequence[int]) -> Iterator[SharedBy]:
        weights = None
        if self.standardise:
            used, index = np.unique(np.asarray(ids), return_inverse=True)
            variances = self.prepared.variances(masks[:, torch.from_numpy(used).to(masks.device)])
            weights = variances[:, torch.from_numpy(index).to(self.device)]
        yield SharedBy(self.prepared, weights, list(range(len(ids))))


class SplitDesignProvider(DesignProvider):
    """A float64 design of a small task, for each set of training rows if standardised.

    Args:
        vectors: (n, features) float64.
        standardise: Whether features are standardised.
        center: See `FeatureTransform`.
    """

    def __init__(self, vectors: Tensor, *, standardise: bool, center: bool = True) -> None:
        self.vectors, self.device, self.dtype = vectors, vectors.device, vectors.dtype
        self.width = min(vectors.shape)
        self.is_shared = not standardise
        self.solver = "newton-cg float64"
        self.whole: Prepared | None = None
        self.design_bytes = 8 * len(vectors) * self.width if standardise else 0
        if not standardise:
            self.whole = prepare_split(vectors, None, is_centered=center)
            self.width = self.whole.design.width

    @override
    def designs_of(self, masks: Tensor, ids: Sequence[int]) -> Iterator[SharedBy]:
        if self.whole is not None:
            yield SharedBy(self.whole, None, list(range(len(ids))))
            return
        places: dict[bytes, list[int]] = {}
        for place, mask in enumerate(ids):
            places.setdefault(masks[:, mask].cpu().numpy().tobytes(), []).append(place)
        for here in places.values():
            yield SharedBy(prepare_split(self.vectors, masks[:, ids[here[0]]]), None, here)

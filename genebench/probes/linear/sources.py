"""Designs of subproblems: one for all, or one for each set of training rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from genebench.probes.linear.designs import Dense, Design
from genebench.probes.linear.spaces import Prepared, own_design

Cell = tuple[Design, Tensor | None, list[int]]


class DesignSource(ABC):
    """Gives the designs of systems.

    Attributes:
        device: Where they are.
        dtype: Their numbers.
        width: Coefficients of a column.
        is_shared: Whether all systems have the same coordinates, so that one can start where
            another ended.
        design_bytes: Bytes of a design, where each set of training rows has its own; else 0.
        solver: What evaluations record: the method, its numbers, and those that only steer.
    """

    device: torch.device
    dtype: torch.dtype
    width: int
    is_shared: bool
    solver: str
    design_bytes: int = 0

    @abstractmethod
    def cells(self, masks: Tensor, ids: Sequence[int]) -> Iterator[Cell]:
        """Designs, with the penalty scales of their systems and the positions of these in `ids`.

        Args:
            masks: (n, masks) bool.
            ids: For each system, the mask of its training rows.
        """


class SharedSource(DesignSource):
    """One design for all systems; scaling on training rows goes into the penalty.

    Args:
        prepared: The design and the variances of its features.
        standardise: Whether features are standardised.
        device: Where.
        dtype: Of the design.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        standardise: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.prepared, self.standardise, self.device = prepared, standardise, device
        self.dtype = dtype
        self.width = prepared.design.width
        self.is_shared = True
        self.solver = f"newton-cg {str(dtype).removeprefix('torch.')}"
        if prepared.design.rounded is not None:
            self.solver += f" {prepared.design.rounded.precision}"

    @override
    def cells(self, masks: Tensor, ids: Sequence[int]) -> Iterator[Cell]:
        scales = None
        if self.standardise:
            used, index = np.unique(np.asarray(ids), return_inverse=True)
            variances = self.prepared.variances(masks[:, torch.from_numpy(used).to(masks.device)])
            scales = variances[:, torch.from_numpy(index).to(self.device)]
        yield self.prepared.design, scales, list(range(len(ids)))


class OwnSource(DesignSource):
    """A small task's own design in float64, for each set of training rows if standardised.

    Args:
        vectors: (n, features) float64.
        standardise: Whether features are standardised.
    """

    def __init__(self, vectors: Tensor, *, standardise: bool) -> None:
        self.vectors, self.device, self.dtype = vectors, vectors.device, vectors.dtype
        self.width = min(vectors.shape)
        self.is_shared = not standardise
        self.solver = "newton-cg float64"
        self.whole: Dense | None = None
        self.design_bytes = 8 * len(vectors) * self.width if standardise else 0
        if not standardise:
            self.whole = own_design(vectors, None)
            self.width = self.whole.width

    @override
    def cells(self, masks: Tensor, ids: Sequence[int]) -> Iterator[Cell]:
        if self.whole is not None:
            yield self.whole, None, list(range(len(ids)))
            return
        places: dict[bytes, list[int]] = {}
        for place, mask in enumerate(ids):
            places.setdefault(masks[:, mask].cpu().numpy().tobytes(), []).append(place)
        for here in places.values():
            yield own_design(self.vectors, masks[:, ids[here[0]]]), None, here

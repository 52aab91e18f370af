"""What an encoder may read, what it gives back, and the one method that every loader has."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.declaration import Arguments, Encoder, loader_class, parse_arguments
from genebench.errors import EncoderError


@dataclass(frozen=True)
class LoaderContext:
    """Where files are and what to run on; decides no vector.

    Args:
        weights: Folder of weight files, one folder for each encoder id.
        sources: Folder of source files, searched for precomputed tables; None where there is none.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`; before the encoder's own runtime device.
    """

    weights: Path = Path("weights")
    sources: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class LoaderInput:
    """What an encoder may read of the entities of one type.

    Args:
        entity_type: `gene`, `disease`, ...
        entity_ids: n ids; of a table's loader, every id that has no vector yet.
        contents: n tuples: one rendered text, or the parts of a sequence input; () where the
            loader reads none of its own.
        xrefs: Outside identifiers: namespace, identifier, entity_id, status, is_ambiguous.
        vectors: Gives the finished vectors of another encoder by its id, for this entity type.
        labels: Labels of single-entity tasks side by side: entity_id, column, value.
        known_ids: Every entity of the type, asked for or not, for loaders that read identifiers:
            a table that names only entities that were not asked for is no mistake.
    """

    entity_type: str
    entity_ids: Sequence[str]
    contents: Sequence[tuple[str, ...]] = ()
    xrefs: pl.DataFrame | None = None
    vectors: "Callable[[str], Vectors] | None" = None
    labels: pl.DataFrame | None = None
    known_ids: Collection[str] = ()


@dataclass(frozen=True)
class Vectors:
    """The vectors of entities, checked when made.

    Args:
        entity_ids: n unique ids.
        matrix: (n, d) float32, C order, finite.
        n_parts: (n,) int32: sequences, windows' proteins or duplicates that were averaged.
        counts: What was met on the way, such as `n_unmapped`; nothing is dropped uncounted.

    Raises:
        EncoderError: Shapes differ, an id repeats, or a value is not finite.
    """

    entity_ids: list[str]
    matrix: npt.NDArray[np.float32]
    n_parts: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        matrix = np.ascontiguousarray(self.matrix, dtype=np.float32)
        n = len(self.entity_ids)
        if matrix.ndim != 2 or matrix.shape[0] != n:
            raise EncoderError(f"vectors of shape {matrix.shape} for {n} entities")
        if len(set(self.entity_ids)) != n:
            raise EncoderError("an entity has more than one vector")
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if bad.size:
            raise EncoderError(
                f"{bad.size} of {n} vectors hold a value that is not finite, first that of "
                f"{self.entity_ids[bad[0]]!r}; check the weights, or use dtype float32"
            )
        n_parts = self.n_parts if self.n_parts.size or not n else np.ones(n, np.int32)
        if n_parts.shape != (n,):
            raise EncoderError(f"n_parts of shape {n_parts.shape} for {n} entities")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "n_parts", n_parts.astype(np.int32))
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))


class Loader(Protocol):
    """The one-method protocol; a loader is made from a declaration and a place."""

    Arguments: ClassVar[type[Arguments]]

    def __init__(self, encoder: Encoder, place: LoaderContext) -> None: ...

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode entities of one type.

        Args:
            reading: What may be read.
            progress: Called with the number of entities done since the last call.
        """
        ...


ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


class DeclaredLoader(Generic[ArgumentsT]):
    """A loader's state: its declaration, its checked arguments, and the place it runs in."""

    Arguments: ClassVar[type[Arguments]] = Arguments

    def __init__(self, encoder: Encoder, place: LoaderContext) -> None:
        self.encoder = encoder
        self.place = place
        self.arguments = cast(ArgumentsT, parse_arguments(encoder))


def check_dimension(encoder: Encoder, vectors: Vectors) -> Vectors:
    """Give the vectors back if they are as wide as declared.

    Raises:
        EncoderError: The declared dimension is another one.
    """
    width = vectors.matrix.shape[1]
    if encoder.dimension is not None and vectors.entity_ids and width != encoder.dimension:
        raise EncoderError(
            f"{encoder.id}: vectors are {width} wide but {encoder.dimension} is declared; "
            "correct `dimension` or the model it names"
        )
    return vectors


def load_encoder(encoder: Encoder, place: LoaderContext | None = None) -> Loader:
    """Make the loader of an encoder; weights are read when it first encodes.

    >>> encoder = Encoder(id="noise", title="Noise", modality="control", loader="random",
    ...                   dimension=4)
    >>> load(encoder).encode(Reading("gene", ["hgnc:1100"]), lambda n: None).matrix.shape
    (1, 4)
    """
    made = cast(type[Loader], loader_class(encoder.loader))
    return made(encoder, place or LoaderContext())

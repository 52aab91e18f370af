"""The loader interface: its input, its output, and the method `encode` of every loader."""

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
    """Folders of local files and the device to run on; does not influence the vectors.

    Args:
        weights: Folder of weight files, with one subfolder per encoder id.
        sources: Folder of source files, searched first for weight files; None if there is none.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; overrides the encoder's `runtime.device`.
    """

    weights: Path = Path("weights")
    sources: Path | None = None
    device: str = "auto"


@dataclass(frozen=True)
class LoaderInput:
    """The entities of one type to encode, and the data that a loader may read of them.

    Args:
        entity_type: `gene`, `disease`, ...
        entity_ids: The n ids to encode.
        contents: n tuples, each with one rendered text or the sequences of an entity; () if the
            loader reads neither.
        xrefs: External identifiers: namespace, identifier, entity_id, status, is_ambiguous.
        vectors: Function from the id of another encoder to its vectors of this entity type.
        labels: Labels of single-entity tasks: entity_id, column, value.
        known_ids: All entities of the type, requested or not, for loaders that read identifiers.
            They separate a file about other entities from a file with the wrong identifiers.
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
    """The vectors of entities, validated on construction.

    Args:
        entity_ids: n unique ids.
        matrix: (n, d) float32, C order, finite.
        n_parts: (n,) int32, number of sequences or file rows averaged into each vector.
        counts: Numbers of dropped or special rows, such as `n_unmapped`.

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
            raise EncoderError(
                f"the loader returned vectors of shape {matrix.shape} for {n} entities"
            )
        if len(set(self.entity_ids)) != n:
            raise EncoderError("the loader returned more than one vector for an entity")
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if bad.size:
            raise EncoderError(
                f"{bad.size} of {n} vectors contain a value that is not finite, first that of "
                f"{self.entity_ids[bad[0]]!r}; check the weights, or use dtype float32"
            )
        n_parts = self.n_parts if self.n_parts.size or not n else np.ones(n, np.int32)
        if n_parts.shape != (n,):
            raise EncoderError(f"n_parts of shape {n_parts.shape} for {n} entities")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "n_parts", n_parts.astype(np.int32))
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))


class Loader(Protocol):
    """Computes vectors; created from the declaration of an encoder and a context."""

    Arguments: ClassVar[type[Arguments]]

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None: ...

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Compute the vectors of the entities of one type.

        Args:
            inputs: The entities and their data.
            progress: Called with the number of entities encoded since the last call.

        Returns:
            The vectors; entities without a vector are left out.
        """
        ...


ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)


class DeclaredLoader(Generic[ArgumentsT]):
    """Base class of the loaders: keeps the declaration, its validated arguments and the context."""

    Arguments: ClassVar[type[Arguments]] = Arguments

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None:
        self.encoder = encoder
        self.context = context
        self.arguments = cast(ArgumentsT, parse_arguments(encoder))


def check_dimension(encoder: Encoder, vectors: Vectors) -> Vectors:
    """Return the vectors if their width is the declared dimension.

    Raises:
        EncoderError: The width is not the declared dimension.
    """
    width = vectors.matrix.shape[1]
    if encoder.dimension is not None and vectors.entity_ids and width != encoder.dimension:
        raise EncoderError(
            f"{encoder.id}: vectors are {width} wide but {encoder.dimension} is declared; "
            "correct `dimension` or the model it names"
        )
    return vectors


def load_encoder(encoder: Encoder, context: LoaderContext | None = None) -> Loader:
    """Create the loader of an encoder; it reads the weights when it encodes for the first time.

    >>> encoder = Encoder(id="noise", title="Noise", modality="control", loader="random",
    ...                   dimension=4)
    >>> loader = load_encoder(encoder)
    >>> loader.encode(LoaderInput("gene", ["hgnc:1100"]), lambda n: None).matrix.shape
    (1, 4)
    """
    kind = cast(type[Loader], loader_class(encoder.loader))
    return kind(encoder, context or LoaderContext())

"""Gene-token tables of pretrained expression models, straight from their published checkpoints.

Geneformer, scGPT and CellPLM each keep one learned vector for every gene they know. The vector is
read from the checkpoint's named layer; the model itself is never built, so none of its packages is
needed. Gene2vec and other plain tables are read by `precomputed`.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors
from genebench.encoders.loaders.identifier_mapping import Namespace, gather, map_identifiers
from genebench.errors import EncoderError


class TokenTableArguments(Arguments):
    """Arguments of `token_table`.

    Args:
        layer: Name of the (tokens, width) tensor in the checkpoint.
        norm: Name of the layer norm that follows it in the model, None where there is none; its
            tensors are `<norm>.weight` and `<norm>.bias`.
        norm_epsilon: Of that layer norm; torch's own by default.
        vocabulary_key: Entry of the vocabulary file that holds the names, None for the file.
        namespace: What the names are.
        extra_rows: Rows of the table that the vocabulary does not name.
    """

    layer: str
    norm: str | None = None
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    vocabulary_key: str | None = None
    namespace: Namespace = "symbol"
    extra_rows: Annotated[int, Field(ge=0)] = 0


class TokenTable(DeclaredLoader[TokenTableArguments]):
    """One row of a pretrained table for each gene; genes with several rows get their mean."""

    Arguments: ClassVar[type[Arguments]] = TokenTableArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Give the table's vectors of those entities that it knows: (n, width).

        Raises:
            EncoderError: A file is missing, unreadable or would run code, a layer is missing, or
                table, vocabulary and declaration do not fit each other.
        """
        from genebench.encoders.weights.checkpoints import read_vocabulary
        from genebench.encoders.weights.locations import find_file

        path = find_file(self.encoder, self.place, "vocabulary")
        vocabulary = read_vocabulary(path, self.arguments.vocabulary_key)
        matrix = self._matrix()
        self._check_fit(vocabulary, matrix)
        names = list(vocabulary)
        mapped = map_identifiers(names, self.arguments.namespace, reading, self.encoder.id)
        rows = np.fromiter((vocabulary[name] for name in names), np.int64, len(names))
        vectors = gather(mapped, matrix[rows])
        progress(len(vectors.entity_ids))
        return vectors

    def _matrix(self) -> npt.NDArray[np.float32]:
        from genebench.encoders.weights.checkpoints import pick_layer, read_state
        from genebench.encoders.weights.locations import find_file

        path = find_file(self.encoder, self.place, "checkpoint")
        state = read_state(path)
        matrix = pick_layer(state, self.arguments.layer, path)
        if self.arguments.norm is None:
            return matrix
        weight = pick_layer(state, f"{self.arguments.norm}.weight", path, 1)
        bias = pick_layer(state, f"{self.arguments.norm}.bias", path, 1)
        return layer_norm(matrix, weight, bias, self.arguments.norm_epsilon)

    def _check_fit(self, vocabulary: dict[str, int], matrix: npt.NDArray[np.float32]) -> None:
        rows, width = matrix.shape
        if width != self.encoder.dimension:
            raise EncoderError(
                f"{self.encoder.id}: layer {self.arguments.layer!r} is {width} wide, but "
                f"{self.encoder.dimension} is declared; this is another model's checkpoint"
            )
        expected = len(vocabulary) + self.arguments.extra_rows
        highest = max(vocabulary.values(), default=-1)
        if rows != expected or highest >= rows or min(vocabulary.values(), default=0) < 0:
            raise EncoderError(
                f"{self.encoder.id}: the table has {rows} rows, but the vocabulary names "
                f"{len(vocabulary)} (highest row {highest}); checkpoint and vocabulary are of "
                "different models"
            )


def layer_norm(
    matrix: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    epsilon: float,
) -> npt.NDArray[np.float32]:
    """Normalise each row to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    Args:
        matrix: (n, d).
        weight: (d,) scale.
        bias: (d,) shift.
        epsilon: Added to the variance.
    """
    wide = matrix.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    result = centred / np.sqrt(variance + epsilon) * weight + bias
    return np.asarray(result, dtype=np.float32)

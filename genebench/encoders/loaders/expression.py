"""Loader of the gene embedding tables in checkpoints of expression models.

Geneformer, scGPT and CellPLM learn one vector per gene. The loader reads the table from a named
layer of the checkpoint and does not build the model, so the model's package is not needed.
Gene2vec and other plain tables use the loader `precomputed`.
"""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments
from genebench.encoders.identifier_mapping import Namespace, average_rows, map_identifiers
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors
from genebench.errors import EncoderError


class TokenTableArguments(Arguments):
    """Arguments of `token_table`.

    Args:
        layer: Name of the (tokens, width) tensor in the checkpoint.
        norm: Name of the layer norm that follows the table in the model, None if there is none;
            its tensors are `<norm>.weight` and `<norm>.bias`.
        norm_epsilon: Epsilon of the layer norm; the default is that of torch.
        vocabulary_key: Entry of the vocabulary file with the names; None if the file itself is
            the vocabulary.
        namespace: Namespace of the names.
        extra_rows: Number of rows of the table that the vocabulary does not name.
    """

    layer: str
    norm: str | None = None
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    vocabulary_key: str | None = None
    namespace: Namespace = "symbol"
    extra_rows: Annotated[int, Field(ge=0)] = 0


class TokenTable(DeclaredLoader[TokenTableArguments]):
    """Returns the row of an embedding table for each gene, or the mean if a gene has several."""

    Arguments: ClassVar[type[Arguments]] = TokenTableArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Return the vectors of the entities in the table: (n, width).

        Raises:
            EncoderError: A file is missing, unreadable or would run code; a layer is missing; or
                table, vocabulary and declaration do not match.
        """
        from genebench.encoders.weights.checkpoints import read_vocabulary
        from genebench.encoders.weights.locations import find_weight_file

        path = find_weight_file(self.encoder, self.context, "vocabulary")
        vocabulary = read_vocabulary(path, self.arguments.vocabulary_key)
        matrix = self._matrix()
        self._check_shapes(vocabulary, matrix)
        names = list(vocabulary)
        mapped = map_identifiers(names, self.arguments.namespace, inputs, self.encoder.id)
        rows = np.fromiter((vocabulary[name] for name in names), np.int64, len(names))
        vectors = average_rows(mapped, matrix[rows])
        progress(len(vectors.entity_ids))
        return vectors

    def _matrix(self) -> npt.NDArray[np.float32]:
        from genebench.encoders.weights.checkpoints import named_tensor, read_state_dict
        from genebench.encoders.weights.locations import find_weight_file

        path = find_weight_file(self.encoder, self.context, "checkpoint")
        state = read_state_dict(path)
        matrix = named_tensor(state, self.arguments.layer, path)
        if self.arguments.norm is None:
            return matrix
        weight = named_tensor(state, f"{self.arguments.norm}.weight", path, 1)
        bias = named_tensor(state, f"{self.arguments.norm}.bias", path, 1)
        return layer_norm(matrix, weight, bias, self.arguments.norm_epsilon)

    def _check_shapes(self, vocabulary: dict[str, int], matrix: npt.NDArray[np.float32]) -> None:
        rows, width = matrix.shape
        if width != self.encoder.dimension:
            raise EncoderError(
                f"{self.encoder.id}: layer {self.arguments.layer!r} is {width} wide, but "
                f"{self.encoder.dimension} is declared; download the checkpoint of this model, or "
                "correct `dimension`"
            )
        expected = len(vocabulary) + self.arguments.extra_rows
        highest = max(vocabulary.values(), default=-1)
        if rows != expected or highest >= rows or min(vocabulary.values(), default=0) < 0:
            raise EncoderError(
                f"{self.encoder.id}: the table has {rows} rows, but the vocabulary names "
                f"{len(vocabulary)} (highest row {highest}); download checkpoint and vocabulary of "
                "the same model, or correct `with.extra_rows`"
            )


def layer_norm(
    matrix: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    epsilon: float,
) -> npt.NDArray[np.float32]:
    """Apply a layer norm: rows with mean 0 and variance 1, scaled and shifted (Ba et al. 2016).

    Args:
        matrix: (n, d).
        weight: (d,) scale.
        bias: (d,) shift.
        epsilon: Added to the variance.
    """
    double = matrix.astype(np.float64)
    centred = double - double.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1, keepdims=True)
    result = centred / np.sqrt(variance + epsilon) * weight + bias
    return np.asarray(result, dtype=np.float32)

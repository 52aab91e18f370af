"""Vectors that somebody else computed: the door for any model anywhere.

The file's identifiers are mapped to entities; what does not map is counted, never replaced.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench import encoders
from genebench.encoders import Reading, Vectors
from genebench.encoders.declaration import WeightFile
from genebench.encoders.identifiers import Namespace, gather, map_identifiers
from genebench.errors import EncoderError, EncoderUnavailable

Format = Literal[
    "csv",
    "tsv",
    "parquet",
    "npz",
    "h5ad",
    "word2vec",
    "word2vec_binary",
    "dataset",
    "json",
    "pickle",
]


class PrecomputedArguments(encoders.Arguments):
    """Arguments of `precomputed`.

    Args:
        namespace: What the identifiers are.
        format: None reads it from the file's name.
        key: Column with the identifiers (by default the first); in a npz file, the array of
            names; in a h5ad file, a column of `var` or `obs` (by default their index).
        vectors: Column that holds whole vectors (parquet, data set), or the array of a npz or
            h5ad file (`varm/<name>`, `obsm/<name>`); None takes every numeric column.
        skip: Columns that are neither identifiers nor numbers of the vector.
        has_header: Whether a CSV or TSV file begins with the names of its columns.
        incomplete: What to do with a row that lacks a number: refuse the file, or drop the row
            and count it.
        transform: Of each number: `log1p` is log(1 + x), for raw expression values.
    """

    namespace: Namespace = "symbol"
    format: Format | None = None
    key: str | None = None
    vectors: str | None = None
    skip: Annotated[tuple[str, ...], Field()] = ()
    has_header: bool = True
    incomplete: Literal["refuse", "drop"] = "refuse"
    transform: Literal["none", "log1p"] = "none"


class Precomputed(encoders.DeclaredLoader[PrecomputedArguments]):
    """A file of vectors by identifier; rows of one entity are averaged."""

    Arguments: ClassVar[type[encoders.Arguments]] = PrecomputedArguments

    def encode(self, reading: Reading, progress: Callable[[int], None]) -> Vectors:
        """Give the file's vectors of those entities that it knows.

        Raises:
            EncoderError: The file is missing, empty, unreadable, ragged, or holds a value that is
                no finite number; or no identifier maps.
        """
        from genebench.encoders.vector_files import read_vectors

        path = self.path()
        names, matrix = read_vectors(path, self.arguments)
        n_read = len(names)
        names, matrix = self._complete(path, names, matrix)
        mapped = map_identifiers(names, self.arguments.namespace, reading, self.encoder.id)
        mapped.counts["n_incomplete"] = n_read - len(names)
        if self.arguments.transform == "log1p":
            if (matrix < 0).any():
                raise EncoderError(f"{self.encoder.id}: log1p of a negative number in {path}")
            matrix = np.log1p(matrix)
        vectors = gather(mapped, matrix)
        progress(len(vectors.entity_ids))
        return encoders.check_dimension(self.encoder, vectors)

    def path(self) -> Path:
        """Where the file is: as declared, among the sources, or in the weights folder.

        Raises:
            EncoderUnavailable: It is at none of them; says where to put it.
        """
        from genebench.encoders.weights import expected_path, find_file

        if "vectors" in self.encoder.files:
            return find_file(self.encoder, self.place, "vectors")
        assert self.encoder.model is not None
        path = expected_path(self.encoder, self.place, WeightFile(name=self.encoder.model))
        if not path.exists():
            raise EncoderUnavailable(
                f"{self.encoder.id}: file of vectors {self.encoder.model!r} is missing.\n"
                f"  Put it at {path}"
            )
        return path

    def _complete(
        self, path: Path, names: list[str], matrix: npt.NDArray[np.float32]
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        if not names or matrix.shape[1] == 0:
            raise EncoderError(f"{self.encoder.id}: there are no vectors in {path}")
        is_whole = np.asarray(np.isfinite(matrix).all(axis=1), dtype=bool)
        bad = np.flatnonzero(~is_whole)
        if bad.size and self.arguments.incomplete == "refuse":
            raise EncoderError(
                f"{self.encoder.id}: {bad.size} of {len(names)} vectors in {path} have a missing "
                f"or infinite number, first that of {names[bad[0]]!r}; repair the file or declare "
                "`with: {incomplete: drop}`"
            )
        return [names[row] for row in np.flatnonzero(is_whole)], matrix[is_whole]

"""Loader of files of precomputed vectors, for models that genebench does not run itself.

Identifiers in the file are mapped to entities. An identifier that maps to none is counted, and an
entity without a row gets no vector.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import Arguments, WeightFile
from genebench.encoders.identifier_mapping import average_rows, map_identifiers
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors, check_dimension
from genebench.encoders.vector_files.vector_format import PrecomputedArguments
from genebench.encoders.vector_files.vector_reader import read_vector_file
from genebench.errors import EncoderError, EncoderUnavailable


class Precomputed(DeclaredLoader[PrecomputedArguments]):
    """Reads a file of vectors by identifier and averages the rows of each entity."""

    Arguments: ClassVar[type[Arguments]] = PrecomputedArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Return the vectors of the entities in the file: (n, d).

        Raises:
            EncoderError: The file is missing, empty or unreadable, has vectors of different
                widths or non-finite values, or no identifier maps to an entity.
        """
        path = self.path()
        names, matrix = read_vector_file(path, self.arguments)
        n_read = len(names)
        names, matrix = self._complete_rows(path, names, matrix)
        mapped = map_identifiers(names, self.arguments.namespace, inputs, self.encoder.id)
        mapped.counts["n_incomplete"] = n_read - len(names)
        if self.arguments.transform == "log1p":
            if (matrix < 0).any():
                raise EncoderError(
                    f"{self.encoder.id}: {path} contains negative numbers, which log1p cannot "
                    "transform; remove `with.transform`"
                )
            matrix = np.log1p(matrix)
        vectors = average_rows(mapped, matrix)
        progress(len(vectors.entity_ids))
        return check_dimension(self.encoder, vectors)

    def path(self) -> Path:
        """Return the path of the file: as declared, in the sources folder or the weights folder.

        Raises:
            EncoderUnavailable: The file is missing; the message says where to put it.
        """
        from genebench.encoders.weights.locations import expected_path, find_weight_file

        if "vectors" in self.encoder.files:
            return find_weight_file(self.encoder, self.context, "vectors")
        assert self.encoder.model is not None
        path = expected_path(self.encoder, self.context, WeightFile(name=self.encoder.model))
        if not path.exists():
            raise EncoderUnavailable(
                f"{self.encoder.id}: the file of vectors {self.encoder.model!r} is missing.\n"
                f"  Put it at {path}"
            )
        return path

    def _complete_rows(
        self, path: Path, names: list[str], matrix: npt.NDArray[np.float32]
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        if not names or matrix.shape[1] == 0:
            raise EncoderError(
                f"{self.encoder.id}: there are no vectors in {path}; correct the file"
            )
        is_whole = np.asarray(np.isfinite(matrix).all(axis=1), dtype=bool)
        bad = np.flatnonzero(~is_whole)
        if bad.size and self.arguments.incomplete == "refuse":
            raise EncoderError(
                f"{self.encoder.id}: {bad.size} of {len(names)} vectors in {path} have a missing "
                f"or infinite number, first that of {names[bad[0]]!r}; repair the file or declare "
                "`with: {incomplete: drop}`"
            )
        return [names[row] for row in np.flatnonzero(is_whole)], matrix[is_whole]

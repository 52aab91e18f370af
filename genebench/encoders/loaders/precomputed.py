"""Vectors that somebody else computed: the door for any model anywhere.

The file's identifiers are mapped to entities; what does not map is counted, never replaced.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import Arguments, WeightFile
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors, check_dimension
from genebench.encoders.loaders.identifier_mapping import gather, map_identifiers
from genebench.encoders.loaders.vector_files import PrecomputedArguments, read_vector_file
from genebench.errors import EncoderError, EncoderUnavailable


class Precomputed(DeclaredLoader[PrecomputedArguments]):
    """A file of vectors by identifier; rows of one entity are averaged."""

    Arguments: ClassVar[type[Arguments]] = PrecomputedArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Give the file's vectors of those entities that it knows.

        Raises:
            EncoderError: The file is missing, empty, unreadable, ragged, or holds a value that is
                no finite number; or no identifier maps.
        """
        path = self.path()
        names, matrix = read_vector_file(path, self.arguments)
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
        return check_dimension(self.encoder, vectors)

    def path(self) -> Path:
        """Where the file is: as declared, among the sources, or in the weights folder.

        Raises:
            EncoderUnavailable: It is at none of them; says where to put it.
        """
        from genebench.encoders.weights.locations import expected_path, find_file

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

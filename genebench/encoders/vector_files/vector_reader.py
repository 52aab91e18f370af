"""Reads a file of precomputed vectors in any of the supported formats."""

from collections.abc import Callable, Mapping
from pathlib import Path

from genebench.encoders.vector_files.vector_arrays import read_h5ad, read_npz
from genebench.encoders.vector_files.vector_format import (
    UNREADABLE,
    NamedVectors,
    PrecomputedArguments,
    format_of,
)
from genebench.encoders.vector_files.vector_tables import (
    read_dataset_folder,
    read_delimited,
    read_parquet,
)
from genebench.encoders.vector_files.word_vectors import (
    read_json_vectors,
    read_pickled_vectors,
    read_word2vec,
    read_word2vec_binary,
)
from genebench.errors import EncoderError

_READERS: Mapping[str, Callable[[Path, PrecomputedArguments], NamedVectors]] = {
    "csv": read_delimited,
    "tsv": read_delimited,
    "parquet": read_parquet,
    "dataset": read_dataset_folder,
    "npz": read_npz,
    "h5ad": read_h5ad,
}
_READERS_WITHOUT_ARGUMENTS: Mapping[str, Callable[[Path], NamedVectors]] = {
    "word2vec": read_word2vec,
    "word2vec_binary": read_word2vec_binary,
    "json": read_json_vectors,
    "pickle": read_pickled_vectors,
}


def read_vector_file(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read a file of vectors.

    Returns:
        n names in the order of the file, repeats included, and an (n, d) float32 matrix.

    Raises:
        EncoderError: The format is unknown, or the file is unreadable or not as declared.
    """
    name = arguments.format or format_of(path)
    try:
        if name in _READERS_WITHOUT_ARGUMENTS:
            return _READERS_WITHOUT_ARGUMENTS[name](path)
        return _READERS[name](path, arguments)
    except EncoderError:
        raise
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(
            f"{path}: cannot be read as {name}: {reason}; correct the file or `with.format`"
        ) from error

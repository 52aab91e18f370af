"""Arguments of the loader `precomputed`, and detection of the format of a file of vectors."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from genebench.encoders.declaration import Arguments
from genebench.encoders.identifier_mapping import Namespace
from genebench.errors import EncoderError

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
# What libraries raise for damaged files: numpy for a header that is no Python literal or declares
# more than the memory holds, zipfile for a member that is encrypted, h5py for anything.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pl.exceptions.PolarsError,
)
NamedVectors = tuple[list[str], npt.NDArray[np.float32]]
SUFFIX_FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".npz": "npz", ".h5ad": "h5ad",
    ".vec": "word2vec", ".w2v": "word2vec", ".txt": "word2vec", ".bin": "word2vec_binary",
    ".json": "json", ".pickle": "pickle", ".pkl": "pickle",
}  # fmt: skip


class PrecomputedArguments(Arguments):
    """Arguments of `precomputed`.

    Args:
        namespace: Namespace of the identifiers.
        format: Format of the file; None derives it from the file name.
        key: Column of the identifiers (default: the first). In a npz file, the array of names; in
            a h5ad file, a column of `var` or `obs` (default: their index).
        vectors: Column that contains whole vectors (parquet, data set), or the array of a npz or
            h5ad file (`varm/<name>`, `obsm/<name>`); None uses all numeric columns.
        skip: Columns that are neither identifiers nor part of the vectors.
        has_header: Whether the first line of a CSV or TSV file contains the column names.
        incomplete: What to do with a row that lacks a number: `refuse` the file, or `drop` the row
            and count it.
        transform: Transformation of each number; `log1p` is log(1 + x), for raw expression values.
    """

    namespace: Namespace = "symbol"
    format: Format | None = None
    key: str | None = None
    vectors: str | None = None
    skip: Annotated[tuple[str, ...], Field()] = ()
    has_header: bool = True
    incomplete: Literal["refuse", "drop"] = "refuse"
    transform: Literal["none", "log1p"] = "none"


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix, or `dataset` for a folder.

    Raises:
        EncoderError: The suffix is unknown.
    """
    if path.is_dir():
        return "dataset"
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    found = SUFFIX_FORMATS.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise EncoderError(f"{path}: unknown format; declare `with: {{format: ...}}`")
    return found


def check_row_count(path: Path, names: list[str], matrix: npt.ArrayLike) -> NamedVectors:
    """Return names and matrix as float32 if the matrix has one row per name.

    Raises:
        EncoderError: The matrix is not two-dimensional, or has another number of rows.
    """
    numbers = np.ascontiguousarray(matrix, dtype=np.float32)
    if numbers.ndim != 2 or len(numbers) != len(names):
        raise EncoderError(
            f"{path}: the vectors have shape {numbers.shape}, but there are {len(names)} names; "
            "correct the file, or `with.key` and `with.vectors`"
        )
    return names, numbers


def require_finite(
    names: Sequence[str], matrix: npt.NDArray[np.float32], where: str = ""
) -> npt.NDArray[np.float32]:
    """Return the matrix if all its numbers are finite; `where` begins the error message.

    Raises:
        EncoderError: A number is missing (NaN) or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        raise EncoderError(
            f"{where}{bad.size:,} of {len(names):,} vectors have a number that is missing (NaN) or "
            f"infinite, first that of {names[bad[0]]!r}; repair or remove these rows"
        )
    return matrix

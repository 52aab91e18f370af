"""Detects the layout of a file of vectors: its format, identifiers and columns of numbers."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.vector_files.vector_format import (
    SUFFIX_FORMATS,
    UNREADABLE,
    NamedVectors,
    PrecomputedArguments,
    check_row_count,
    format_of,
    require_finite,
)
from genebench.encoders.vector_files.vector_reader import read_vector_file
from genebench.errors import EncoderError
from genebench.parquet_files import load_parquet

# Formats that hold a matrix and no identifiers.
_MATRICES = (".npy", ".safetensors")
_SEPARATORS = {"csv": ",", "tsv": "\t"}
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces"}
# Rows read to tell columns of text from columns of numbers.
_N_SNIFFED = 200


def load_vectors(
    path: Path,
    id_column: str | None = None,
    vectors: str | None = None,
    id_file: Path | None = None,
    *,
    has_header: bool | None = None,
) -> NamedVectors:
    """Read a file of vectors of any supported format; detect what is not given.

    Args:
        path: csv, tsv (also compressed with gzip), parquet, npz, npy, h5ad, safetensors, word2vec
            text (`.txt`, `.vec`) or binary (`.bin`), json, pickle, or a data set folder.
        id_column: Column of the identifiers; the array of names of a npz file; a column of `obs` or
            `var` of a h5ad file. Default: the only column of text, else the first column.
        vectors: Column that contains whole vectors; the array of a npz file; the tensor of a
            safetensors file; `X`, `varm/<name>` or `obsm/<name>` of a h5ad file. Default: the only
            one that fits.
        id_file: Text file with one identifier on each line; required for npy and safetensors.
        has_header: Whether the first line of a table names the columns. Default: detected; a first
            line of numbers is an error.

    Returns:
        The identifiers in the order of the file, repeats included, and a (rows, d) float32 matrix.

    Raises:
        EncoderError: The file is missing, empty or unreadable, its layout is not clear, or a number
            is missing or infinite.
    """
    if not path.exists():
        raise EncoderError(f"{path}: no such file or folder")
    if path.suffix in _MATRICES:
        found = _read_matrix(path, vectors, id_file)
    else:
        if path.is_file() and not path.stat().st_size:
            raise EncoderError(f"{path}: the file is empty")
        try:
            arguments = _detect(path, id_column, vectors, has_header)
        except UNREADABLE as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise EncoderError(f"{path}: cannot be read as {format_of(path)}: {line}") from error
        found = read_vector_file(path, arguments)
    names, matrix = found
    if not len(names) or not matrix.shape[1]:
        raise EncoderError(f"{path}: there are no vectors in the file")
    return names, require_finite(names, matrix, f"{path}: ")


def _detect(
    path: Path, id_column: str | None, vectors: str | None, has_header: bool | None
) -> PrecomputedArguments:
    try:
        name = format_of(path)
    except EncoderError:
        known = ", ".join([*SUFFIX_FORMATS, *_MATRICES])
        raise EncoderError(f"{path}: unknown format; the name must end in one of {known}") from None
    given: dict[str, Any] = {"format": name, "key": id_column, "vectors": vectors}
    if name in _SEPARATORS:
        given |= _detect_table(path, name, id_column, vectors, has_header)
    elif name in ("parquet", "dataset") and path.is_file():
        given |= _detect_columns(path, load_parquet(path, _N_SNIFFED), id_column, vectors)
    elif name == "h5ad" and vectors is None:
        given |= {"vectors": _detect_h5ad_array(path)}
    return PrecomputedArguments(**given)


def _detect_table(
    path: Path, name: str, id_column: str | None, vectors: str | None, has_header: bool | None
) -> dict[str, Any]:
    separator = _SEPARATORS[name]
    try:
        first = _first_line(path)
    except (OSError, UnicodeDecodeError) as error:
        raise EncoderError(f"{path}: cannot be read as {name}: {error}") from error
    if separator not in first:
        better = max(_NAMES, key=first.count)
        hint = (
            f"; its columns seem to be separated by {_NAMES[better]}: write it with "
            f"{_NAMES[separator]}, or change the ending of its name"
            if better in first
            else "; a file of vectors needs a column of identifiers and columns of numbers"
        )
        raise EncoderError(
            f"{path}: the first line has one column when split at {separator!r}{hint}"
        )
    cells = first.split(separator)
    if has_header is None and _is_row_of_numbers(cells[1:]):
        raise EncoderError(
            f"{path}: the first line holds numbers, not names of columns; if the file has no "
            "header line, say so with --no-header"
        )
    frame = pl.read_csv(
        path,
        separator=separator,
        has_header=has_header is not False,
        n_rows=_N_SNIFFED,
        infer_schema=False,
    )
    found = _detect_columns(path, frame, id_column, vectors)
    return found | {"has_header": has_header is not False}


def _first_line(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as packed:
            return packed.readline().rstrip("\r\n")
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\r\n")


def _is_row_of_numbers(cells: list[str]) -> bool:
    """Whether a first line is data: numbers that do not simply count the columns."""
    try:
        numbers = [float(cell.strip('"')) for cell in cells]
    except ValueError:
        return False
    steps = np.diff(numbers)
    return not (float(numbers[0]).is_integer() and (steps == 1).all())


def _detect_columns(
    path: Path, frame: pl.DataFrame, id_column: str | None, vectors: str | None
) -> dict[str, Any]:
    """Find the column of identifiers, a column of whole vectors, and other columns of text."""
    if not frame.width:
        raise EncoderError(f"{path}: the file has no columns")
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    text = [name for name in _text_columns(frame.drop(nested)) if name != vectors]
    if vectors is None and nested:
        if len(nested) > 1:
            raise EncoderError(
                f"{path}: several columns hold whole vectors ({', '.join(nested)}); choose one "
                "with --vectors"
            )
        vectors = nested[0]
    if id_column is None:
        if len(text) > 1:
            raise EncoderError(
                f"{path}: {len(text)} columns hold text ({', '.join(text[:5])}); name the one with "
                "the identifiers with --id-column"
            )
        id_column = text[0] if text else frame.columns[0]
    skip = [name for name in text if name != id_column]
    first = frame.columns[0]
    is_index = first not in (id_column, vectors) and _counts_rows(frame[first])
    return {
        "key": id_column,
        "vectors": vectors,
        "skip": (*skip, first) if is_index and first not in skip else tuple(skip),
    }


def _text_columns(frame: pl.DataFrame) -> list[str]:
    """The columns most of whose cells are no numbers.

    A single cell of text in a column of numbers is reported when the file is read.
    """
    if not frame.width:
        return []
    cells = frame.cast(pl.String).select(pl.all().str.strip_chars())
    n_filled = cells.select(pl.all().count()).row(0)
    n_numbers = cells.select(pl.all().cast(pl.Float64, strict=False).count()).row(0)
    counts = zip(cells.columns, n_filled, n_numbers, strict=True)
    return [name for name, filled, numbers in counts if numbers < filled / 2]


def _counts_rows(column: pl.Series) -> bool:
    """Whether a column is a running number, such as the index that pandas writes."""
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.null_count() == 0 and bool((numbers == np.arange(len(numbers))).all())


def _detect_h5ad_array(path: Path) -> str:
    try:
        import h5py
    except ImportError as error:
        raise EncoderError(
            f"{path}: reading h5ad needs the package h5py: pip install h5py"
        ) from error
    try:
        with h5py.File(path) as file:
            found = [
                f"{axis}/{name}" for axis in ("varm", "obsm") if axis in file for name in file[axis]
            ]
            has_matrix = "X" in file
    except UNREADABLE as error:
        raise EncoderError(f"{path}: cannot be read as h5ad: {error}") from error
    if len(found) == 1:
        return found[0]
    if not found and has_matrix:
        return "X"
    raise EncoderError(
        f"{path}: several arrays could hold the vectors ({', '.join(found)}); choose one with "
        "--vectors"
        if found
        else f"{path}: holds no matrix: neither X, obsm nor varm"
    )


def _read_matrix(path: Path, tensor: str | None, id_file: Path | None) -> NamedVectors:
    if id_file is None:
        raise EncoderError(
            f"{path}: a {path.suffix} file holds no identifiers; name a text file with one "
            "identifier on each line with --id-file"
        )
    try:
        names = id_file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EncoderError(f"{id_file}: cannot be read: {error}") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    try:
        matrix = (
            np.load(path, allow_pickle=False)
            if path.suffix == ".npy"
            else _read_safetensors(path, tensor)
        )
        return check_row_count(path, names, matrix)
    except EncoderError as error:
        raise EncoderError(f"{error} (identifiers: {id_file})") from error
    except UNREADABLE as error:
        raise EncoderError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def _read_safetensors(path: Path, tensor: str | None) -> npt.NDArray[np.float32]:
    """Read one tensor; the header is read first, for the names and shapes."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise EncoderError(f"{path}: the file is truncated")
        (size,) = struct.unpack("<Q", start)
        if size > path.stat().st_size:
            raise EncoderError(f"{path}: the file is truncated or not a safetensors file")
        header = json.loads(file.read(size))
    if not isinstance(header, dict):
        raise EncoderError(f"{path}: the file is truncated or not a safetensors file")
    shapes = {
        name: one.get("shape") if isinstance(one, dict) else None
        for name, one in header.items()
        if name != "__metadata__"
    }
    found = [name for name, shape in shapes.items() if isinstance(shape, list) and len(shape) == 2]
    if tensor is None and len(found) != 1:
        raise EncoderError(
            f"{path}: cannot tell which tensor holds the vectors ({', '.join(found) or 'none'}); "
            "choose one with --vectors"
        )
    name = tensor or found[0]
    if name not in header:
        raise EncoderError(f"{path}: has no tensor {name!r} ({', '.join(found)})")
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded: torch.Tensor = load_file(path)[name]
    except SafetensorError as error:
        raise EncoderError(f"{path}: cannot be read as safetensors: {error}") from error
    return np.asarray(loaded.to(torch.float32).numpy())

"""Reads vectors from tables with polars: CSV, TSV, parquet and data set folders.

The column of identifiers is always read as text, so that the gene NA is not a missing value.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.declaration import suggest_nearest
from genebench.encoders.vector_files.vector_format import (
    NamedVectors,
    PrecomputedArguments,
    format_of,
)
from genebench.errors import EncoderError
from genebench.parquet_files import load_parquet


def read_delimited(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read a CSV or TSV file."""
    separator = "," if (arguments.format or format_of(path)) == "csv" else "\t"
    columns = pl.read_csv(
        path, separator=separator, has_header=arguments.has_header, n_rows=1, infer_schema=False
    ).columns
    text = {arguments.key or columns[0], arguments.vectors, *arguments.skip}
    frame = pl.read_csv(
        path,
        separator=separator,
        has_header=arguments.has_header,
        schema_overrides={c: pl.String if c in text else pl.Float32 for c in columns},
    )
    return _from_frame(path, frame, arguments)


def read_parquet(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read a parquet file."""
    return _from_frame(path, load_parquet(path), arguments)


def read_dataset_folder(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read a data set folder of Hugging Face: parquet files, or the output of `save_to_disk`."""
    shards = sorted(path.rglob("*.parquet"))
    arrows = sorted(path.rglob("*.arrow"))
    if shards:
        frame = pl.concat([load_parquet(shard) for shard in shards])
    elif arrows:
        frame = pl.concat([_read_arrow(arrow) for arrow in arrows])
    else:
        raise EncoderError(f"{path}: contains no parquet or arrow file; correct `model` or `files`")
    return _from_frame(path, frame, arguments)


def _read_arrow(path: Path) -> pl.DataFrame:
    content = path.read_bytes()
    if content[:6] == b"ARROW1":
        return pl.read_ipc(io.BytesIO(content))
    return pl.read_ipc_stream(io.BytesIO(content))


def _from_frame(path: Path, frame: pl.DataFrame, arguments: PrecomputedArguments) -> NamedVectors:
    key = _column(path, frame, arguments.key) if arguments.key else frame.columns[0]
    names = frame[key].cast(pl.String).fill_null("").to_list()
    if arguments.vectors is not None:
        column = frame[_column(path, frame, arguments.vectors)]
        return names, _stack(path, column)
    columns = [c for c in frame.columns if c not in {key, *arguments.skip}]
    numbers = frame.select(pl.col(columns).cast(pl.Float32, strict=False))
    lists = [c for c in columns if frame[c].dtype.is_nested()]
    if lists:
        raise EncoderError(
            f"{path}: column {lists[0]!r} contains whole vectors; declare "
            f"`with: {{vectors: {lists[0]}}}`"
        )
    for name in columns:
        lost = numbers[name].null_count()
        if lost == frame.height and lost:
            raise EncoderError(
                f"{path}: column {name!r} holds no numbers; declare `with: {{skip: [{name}]}}`"
            )
    # A missing number becomes NaN here; `incomplete` decides whether the row is refused or dropped.
    return names, np.ascontiguousarray(numbers.to_numpy(), dtype=np.float32)


def _column(path: Path, frame: pl.DataFrame, name: str) -> str:
    if name not in frame.columns:
        hint = suggest_nearest(name, frame.columns) or "; correct `with.key` or `with.vectors`"
        raise EncoderError(f"{path}: has no column {name!r}{hint}")
    return name


def _stack(path: Path, column: pl.Series) -> npt.NDArray[np.float32]:
    if column.dtype == pl.String:
        column = column.str.json_decode(pl.List(pl.Float64))
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype.base_type() != pl.List:
        raise EncoderError(
            f"{path}: column {column.name!r} contains no vectors; correct `with.vectors`"
        )
    widths = column.list.len().unique()
    if column.null_count() or len(widths) != 1:
        raise EncoderError(
            f"{path}: the vectors of column {column.name!r} have different widths "
            f"({', '.join(str(w) for w in widths.sort().to_list()[:4])}); correct the file"
        )
    flat = column.explode().cast(pl.Float32).to_numpy()
    return np.ascontiguousarray(flat.reshape(len(column), -1), dtype=np.float32)

"""Reads Parquet files: converts numbers, lists and objects to strings."""

import json

import polars as pl

from genebench.parquet_files import load_parquet
from genebench.sources.readers.containers import FileError
from genebench.sources.readers.json_records import LIST_SEPARATOR

PARQUET_MAGIC = b"PAR1"


def parse_parquet(contents: list[bytes]) -> pl.DataFrame:
    """Read the parts of a Parquet table as strings.

    Args:
        contents: The bytes of each part.

    Returns:
        All rows; numbers in their shortest exact form, lists joined by `|`, objects as JSON text.

    Raises:
        FileError: A part is truncated, is not Parquet, or has other columns than the first.
    """
    frames: list[pl.DataFrame] = []
    for number, content in enumerate(contents, start=1):
        try:
            frame = load_parquet(content)
        except (pl.exceptions.PolarsError, OSError) as fault:
            where = f"part {number} of {len(contents)}" if len(contents) > 1 else "it"
            reason = str(fault).splitlines()[0]
            raise FileError(f"{where} is not a complete Parquet file ({reason})") from fault
        try:
            frame = frame.with_columns(_as_text(frame, name) for name in frame.columns)
        except pl.exceptions.PolarsError as fault:
            reason = str(fault).splitlines()[0]
            raise FileError(f"a column of it cannot be read as text ({reason})") from fault
        if frames and frame.columns != frames[0].columns:
            raise FileError(f"part {number} of {len(contents)} has other columns than the first")
        frames.append(frame)
    return pl.concat(frames)


def _as_text(frame: pl.DataFrame, name: str) -> pl.Expr:
    dtype = frame.schema[name]
    if isinstance(dtype, pl.List) and not dtype.inner.is_nested():
        return pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(LIST_SEPARATOR)
    if dtype.is_nested():
        return pl.col(name).map_elements(
            lambda value: json.dumps(
                value.to_list() if isinstance(value, pl.Series) else value,
                ensure_ascii=False,
                default=str,
            ),
            return_dtype=pl.String,
        )
    return pl.col(name).cast(pl.String)

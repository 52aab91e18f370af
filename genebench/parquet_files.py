"""Reads Parquet files; a damaged file, at which polars would panic, is an error of polars."""

from pathlib import Path

import polars as pl


def load_parquet(source: Path | bytes, n_rows: int | None = None) -> pl.DataFrame:
    """Read a Parquet file.

    polars 2.1 panics at some damaged files, with an exception that `except Exception` lets pass.

    Args:
        source: The file, or its content.
        n_rows: The number of rows to read; all by default.

    Raises:
        PolarsError: The file is damaged or is not Parquet.
        OSError: The file cannot be read.
    """
    try:
        return pl.read_parquet(source, n_rows=n_rows)
    except pl.exceptions.PanicException as panic:
        line = str(panic).partition("\n")[0]
        raise pl.exceptions.ComputeError(f"the Parquet file is damaged ({line})") from panic

"""Reads Parquet files by pyarrow: at damaged ones polars 2.1 panics, or ends the process."""

from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow.parquet import ParquetFile

# Of damaged files; pyarrow's own errors are OSError or ValueError too.
_DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError, pl.exceptions.PanicException)


def load_parquet(source: Path | bytes, n_rows: int | None = None) -> pl.DataFrame:
    """Read a Parquet file.

    Args:
        source: The file, or its content.
        n_rows: The number of rows to read; all by default.

    Raises:
        PolarsError: The file is damaged or is not Parquet.
        OSError: The file cannot be opened.
    """
    with pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(str(source)) as file:
        try:
            parquet = ParquetFile(file)
            if n_rows is None:
                table = parquet.read()
            else:
                first = next(parquet.iter_batches(n_rows), None)
                table = pa.Table.from_batches(
                    [] if first is None else [first], parquet.schema_arrow
                )
            # Text that is not UTF-8, and positions outside of the values.
            table.validate(full=True)
            frame = pl.from_arrow(table)
        except _DAMAGE as error:
            line = str(error).partition("\n")[0]
            raise pl.exceptions.ComputeError(f"the Parquet file is damaged ({line})") from error
    assert isinstance(frame, pl.DataFrame)
    return frame

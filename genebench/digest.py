"""Content digests of frames, JSON values, strings and vectors: BLAKE2b, 128 bits, 32 hex digits.

Equal content gives equal digests. A frame is digested column by column after its rows are sorted:
its digest depends on every value, null and column name, but not on row order, column order or
chunking.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import GenebenchError

DIGEST_BYTES = 16


def digest_bytes(*parts: bytes) -> str:
    """Digest byte strings; the digest depends on where one ends and the next begins."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()


def digest_json(value: Any) -> str:
    """Digest a JSON-like value by its canonical text: sorted keys, no white space, UTF-8.

    Raises:
        ValueError: The value contains NaN or an infinity, which JSON cannot represent.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return digest_bytes(text.encode())


def digest_strings(values: Iterable[str]) -> str:
    """Digest a collection of strings, independent of their order; repeats change the digest."""
    return digest_bytes(*(value.encode() for value in sorted(values)))


def digest_frame(frame: pl.DataFrame) -> str:
    """Digest the rows of a frame, independent of their order.

    Args:
        frame: Any number of columns of strings, booleans, integers or floats, nulls allowed.

    Raises:
        GenebenchError: A column has a type without a canonical form, such as a list.
    """
    ordered = frame.select(sorted(frame.columns))
    ordered = ordered.with_columns(
        # Cast first: categoricals would sort by their codes, not by their text.
        pl.col(pl.Categorical, pl.Enum).cast(pl.String)
    )
    if ordered.height and ordered.width:
        ordered = ordered.sort(ordered.columns, nulls_last=False)
    parts: list[bytes] = [ordered.height.to_bytes(8, "little")]
    for column in ordered.get_columns():
        parts.append(column.name.encode())
        parts.append(np.packbits(column.is_null().to_numpy()).tobytes())
        parts.extend(_column_bytes(column))
    return digest_bytes(*parts)


def _column_bytes(column: pl.Series) -> list[bytes]:
    dtype = column.dtype
    if dtype == pl.String:
        text = column.fill_null("")
        lengths = text.str.len_bytes().cast(pl.Int64).to_numpy()
        return [b"string", lengths.tobytes(), "".join(text.to_list()).encode()]
    if dtype == pl.Boolean or dtype.is_integer():
        return [b"integer", column.cast(pl.Int64).fill_null(0).to_numpy().tobytes()]
    if dtype.is_float():
        numbers = column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        return [b"float", np.where(np.isnan(numbers), np.nan, numbers).tobytes()]
    raise GenebenchError(
        f"column {column.name!r} of type {dtype} has no canonical bytes; "
        "digest_frame takes strings, booleans, integers and floats; use digest_vectors for vectors"
    )


def digest_vectors(matrix: npt.NDArray[np.float32]) -> list[str]:
    """Digest each row of a matrix.

    Args:
        matrix: (n, d), any float type; digested as little-endian float32.

    Returns:
        n digests, in row order.
    """
    rows = np.ascontiguousarray(matrix, dtype="<f4")
    return [hashlib.blake2b(row, digest_size=DIGEST_BYTES).hexdigest() for row in rows]

"""Reads vectors directly from the data pages of Parquet files into a matrix.

Parquet stores a repetition level and a definition level with each number of a list. Parquet
readers decode both, which takes many times longer than reading the numbers
(`python -m benchmarks.vectors`), and Delta has no type for arrays of a fixed width. Where all
lists have the same width and nothing is null, the levels are known in advance and the numbers of a
page are contiguous. This module reads such pages in exactly the form that `delta` writes; it
returns None for every other file, which the caller then reads with a Parquet reader.

Sources: Apache Parquet, parquet.thrift (PageHeader) and Encodings.md (PLAIN; RLE and bit packing);
Apache Thrift, compact protocol.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyarrow import parquet

# The header of an uncompressed data page, version 1 (both sizes equal), without statistics, PLAIN
# values and RLE levels. The groups are its size in bytes and its number of values.
_VARINT = rb"([\x80-\xff]*[\x00-\x7f])"
_HEADER = re.compile(
    rb"\x15\x00\x15" + _VARINT + rb"\x15\1\x2c\x15" + _VARINT + rb"\x15\x00\x15\x06\x15\x06\x00\x00"
)
_HEADER_BYTES = 64
_ITEM = np.dtype("<f4").itemsize


@dataclass(frozen=True)
class _Chunk:
    """A column chunk: the lists of one row group.

    Attributes:
        path: The file.
        begin: Offset of its first page, in bytes.
        end: Offset of the end of its last page.
        max_level: The maximum definition level, that of a number that is not null.
        n_rows: Number of lists.
        n_values: Number of values; an empty or null list counts as one.
    """

    path: Path
    begin: int
    end: int
    max_level: int
    n_rows: int
    n_values: int


def read_lists(paths: Sequence[Path], column: str) -> npt.NDArray[np.float32] | None:
    """Read a column of float32 lists of one width as a matrix.

    Args:
        paths: Parquet files.
        column: Name of the column.

    Returns:
        (rows, width) float32, C order, in the order of the files; None where a file has another
        encoding, lists of several widths, a null, or a width below 16 or not a multiple of 8.
    """
    chunks = []
    for path in paths:
        found = _find_chunks(path, f"{column}.list.element")
        if found is None:
            return None
        chunks += found
    widths = {chunk.n_values / chunk.n_rows for chunk in chunks}
    width = int(min(widths, default=0))
    # Bit-packed runs have groups of eight levels.
    if widths != {width} or width % 8 or width < 16:
        return None
    begins = np.cumsum([0, *(chunk.n_rows for chunk in chunks)])
    matrix = np.empty((begins[-1], width), np.float32)
    parts = np.split(matrix, begins[1:-1])
    return matrix if all(map(_fill, chunks, parts)) else None


def list_layouts(paths: Sequence[Path], column: str) -> set[float | None]:
    """List the different layouts of a column of vectors in files, from their metadata alone.

    Returns:
        The numbers per vector; None for a column that is no list of float32, and a number that is
        not whole for lists of several widths in a row group.
    """
    layouts: set[float | None] = set()
    for path in paths:
        found = _find_chunks(path, f"{column}.list.element")
        widths = [None] if found is None else [one.n_values / one.n_rows for one in found]
        layouts.update(widths)
    return layouts


def _find_chunks(path: Path, leaf: str) -> list[_Chunk] | None:
    """The column chunks of a file; None where the column is not a list of float32.

    A file in another layout must not be skipped: the rows of all files are read beside the matrix.
    """
    described = parquet.read_metadata(path)
    found = []
    columns = [described.schema.column(i) for i in range(described.num_columns)]
    for number, column in enumerate(columns):
        if (column.path, column.physical_type, column.max_repetition_level) != (leaf, "FLOAT", 1):
            continue
        for group in map(described.row_group, range(described.num_row_groups)):
            if not group.num_rows:
                continue
            chunk = group.column(number)
            begin = chunk.data_page_offset
            end = begin + chunk.total_compressed_size
            level = column.max_definition_level
            found.append(_Chunk(path, begin, end, level, group.num_rows, chunk.num_values))
    n_rows = sum(chunk.n_rows for chunk in found)
    return found if n_rows == described.num_rows else None


def _fill(chunk: _Chunk, rows: npt.NDArray[np.float32]) -> bool:
    """Read the pages of a chunk into its rows; False where a page has another encoding."""
    position = chunk.begin
    with chunk.path.open("rb", buffering=0) as file:
        while position < chunk.end:
            page = _read_page(file.fileno(), position, rows, chunk.max_level)
            if page is None:
                return False
            rows = rows[page[0] :]
            position += page[1]
    return position == chunk.end and not len(rows)


def _read_page(
    file: int, position: int, rows: npt.NDArray[np.float32], max_level: int
) -> tuple[int, int] | None:
    """Read one page into the first rows.

    Returns:
        The number of rows and of bytes of the page; None where it has another encoding.
    """
    header = _HEADER.match(os.pread(file, _HEADER_BYTES, position))
    if header is None:
        return None
    size, n_values = (_signed(group) for group in header.groups())
    n_rows, rest = divmod(n_values, rows.shape[1])
    if rest or not 0 < n_rows <= len(rows):
        return None
    wanted = _encode_levels(n_rows, rows.shape[1], max_level)
    if size != len(wanted) + _ITEM * n_values:
        return None
    found = bytearray(len(wanted))
    n_read = os.preadv(file, [found, rows[:n_rows].data], position + header.end())
    return (n_rows, header.end() + size) if n_read == size and found == wanted else None


@functools.lru_cache(maxsize=16)
def _encode_levels(n_rows: int, width: int, max_level: int) -> bytes:
    """Encode the repetition and definition levels of a page of lists of one width without nulls."""
    # Repetition level 0 starts a list: eight bit-packed levels 0,1,1,..., then a run of ones.
    one_list = b"\x03\xfe" + _varint((width - 8) << 1) + b"\x01"
    repetition = one_list * n_rows
    definition = _varint((n_rows * width) << 1) + bytes([max_level])
    return b"".join(len(part).to_bytes(4, "little") + part for part in (repetition, definition))


def _varint(number: int) -> bytes:
    """Encode a number as ULEB128: seven bits per byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _signed(varint: bytes) -> int:
    """Decode a zigzag varint of Thrift's compact protocol."""
    number = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(varint))
    return (number >> 1) ^ -(number & 1)

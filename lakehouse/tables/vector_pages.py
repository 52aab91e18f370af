"""Vectors straight from the pages of Parquet files, where they lie as in a matrix.

Parquet keeps two levels beside each number of a list: whether a list begins there, and whether
something is missing. Readers decode both, which is many times the work of the numbers themselves
(`python -m benchmarks.vectors`), and Delta knows no arrays of a fixed width. But where every list
has the same width and nothing is missing, the levels of a page say nothing, and its numbers follow
each other. This module takes such pages, in exactly the form that the lake's writer gives them,
and nothing else: all other files are for a reader of Parquet.

Sources: Apache Parquet, parquet.thrift (PageHeader) and Encodings.md (PLAIN; RLE and bit packing);
Apache Thrift, compact protocol.
"""

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyarrow import parquet

# A data page of version 1, not compressed (both sizes are the same), without statistics: plain
# numbers, levels as runs. The groups are its size and the number of its values.
_VARINT = rb"([\x80-\xff]*[\x00-\x7f])"
_HEADER = re.compile(
    rb"\x15\x00\x15" + _VARINT + rb"\x15\1\x2c\x15" + _VARINT + rb"\x15\x00\x15\x06\x15\x06\x00\x00"
)
_HEADER_BYTES = 64
_ITEM = np.dtype("<f4").itemsize


@dataclass(frozen=True)
class _Chunk:
    """The lists of one group of rows.

    Attributes:
        path: The file.
        begin: Where its first page begins, in bytes.
        end: Where its last page ends.
        full: The definition level of a number that is there.
        n_rows: Lists.
        n_values: Numbers, and lists that are empty or missing.
    """

    path: Path
    begin: int
    end: int
    full: int
    n_rows: int
    n_values: int


def read_lists(paths: Sequence[Path], column: str) -> npt.NDArray[np.float32] | None:
    """Read a column of lists of float32, all of one width, as a matrix.

    Args:
        paths: Parquet files.
        column: The column.

    Returns:
        (rows, width) float32, C order, in the order of the files; None where a file is not in the
        one form that is read here: another layout, lists of several widths, a null, a width that
        is not at least 16 and a multiple of 8.
    """
    chunks = [chunk for path in paths for chunk in _find_chunks(path, f"{column}.list.element")]
    widths = {chunk.n_values / chunk.n_rows for chunk in chunks}
    width = int(min(widths, default=0))
    # Runs of levels take groups of eight.
    if widths != {width} or width % 8 or width < 16:
        return None
    begins = np.cumsum([0, *(chunk.n_rows for chunk in chunks)])
    matrix = np.empty((begins[-1], width), np.float32)
    parts = np.split(matrix, begins[1:-1])
    return matrix if all(map(_fill, chunks, parts)) else None


def _find_chunks(path: Path, leaf: str) -> Iterator[_Chunk]:
    """Where the lists of a file are; nothing if it has none of float32."""
    described = parquet.read_metadata(path)
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
            full = column.max_definition_level
            yield _Chunk(path, begin, end, full, group.num_rows, chunk.num_values)


def _fill(chunk: _Chunk, rows: npt.NDArray[np.float32]) -> bool:
    """Copy the pages of a chunk into its rows; False where a page has another form."""
    position = chunk.begin
    with chunk.path.open("rb", buffering=0) as file:
        while position < chunk.end:
            page = _read_page(file.fileno(), position, rows, chunk.full)
            if page is None:
                return False
            rows = rows[page[0] :]
            position += page[1]
    return position == chunk.end and not len(rows)


def _read_page(
    file: int, position: int, rows: npt.NDArray[np.float32], full: int
) -> tuple[int, int] | None:
    """Copy one page into the first of the rows.

    Returns:
        How many rows and bytes the page has; None where it has another form.
    """
    header = _HEADER.match(os.pread(file, _HEADER_BYTES, position))
    if header is None:
        return None
    size, n_values = (_signed(group) for group in header.groups())
    n_rows, rest = divmod(n_values, rows.shape[1])
    if rest or not 0 < n_rows <= len(rows):
        return None
    wanted = _levels(n_rows, rows.shape[1], full)
    if size != len(wanted) + _ITEM * n_values:
        return None
    found = bytearray(len(wanted))
    n_read = os.preadv(file, [found, rows[:n_rows].data], position + header.end())
    return (n_rows, header.end() + size) if n_read == size and found == wanted else None


@functools.lru_cache(maxsize=16)
def _levels(n_rows: int, width: int, full: int) -> bytes:
    """The levels of a page of full lists: where each begins, and that nothing is missing."""
    # Eight packed levels, of which the first begins a list, then a run of those that do not.
    one_list = b"\x03\xfe" + _varint((width - 8) << 1) + b"\x01"
    repetition = one_list * n_rows
    definition = _varint((n_rows * width) << 1) + bytes([full])
    return b"".join(len(part).to_bytes(4, "little") + part for part in (repetition, definition))


def _varint(number: int) -> bytes:
    """ULEB128: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _signed(varint: bytes) -> int:
    """A zigzag varint of Thrift's compact protocol as a number."""
    number = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(varint))
    return (number >> 1) ^ -(number & 1)

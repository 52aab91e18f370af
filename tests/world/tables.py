"""Writing the world's files: plain text, gzip and zip, the same bytes every time."""

import functools
import gzip
import io
import lzma
import zipfile
from collections.abc import Sequence
from pathlib import Path

Row = Sequence[str]


def delimited(header: Row | None, rows: list[Row], separator: str = "\t") -> str:
    """Lay out a table, with quotes around cells that need them."""
    lines = [header, *rows] if header else rows
    return "".join(
        separator.join(_quoted(cell, separator) for cell in line) + "\n" for line in lines
    )


def _quoted(cell: str, separator: str) -> str:
    if any(mark in cell for mark in (separator, '"', "\n")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def write(path: Path, content: str | bytes) -> None:
    """Write a file; a name that ends in .gz, .xz or .zip says how it is packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_pack(content, path.suffix, path.stem if path.suffix == ".zip" else ""))


# Worlds differ in few files, so most are packed already.
@functools.lru_cache(maxsize=128)
def _pack(content: str | bytes, suffix: str, member: str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    if suffix == ".xz":
        return lzma.compress(data)
    if suffix == ".zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            # The date is fixed, since it is part of the bytes.
            info = zipfile.ZipInfo(member, (2023, 11, 22, 0, 0, 0))
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        return packed.getvalue()
    return data

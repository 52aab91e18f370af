"""Writing the world's files: plain text, gzip and zip, the same bytes every time."""

import gzip
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
    """Write a file; a name that ends in .gz or .zip says how it is packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            # The date is fixed, since it is part of the bytes.
            member = zipfile.ZipInfo(path.stem, (2023, 11, 22, 0, 0, 0))
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
        return
    path.write_bytes(data)

"""Reads a sheet of an xlsx workbook into rows of strings."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree

import polars as pl

from genebench.sources.readers.containers import BROKEN_ZIP, FileError

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


# Column XFD is the last one of a workbook.
MAX_COLUMNS = 16_384
OFFICE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def parse_xlsx(content: bytes, sheet: str | None = None) -> pl.DataFrame:
    """Read one sheet of a workbook as strings; its first row is the header.

    Args:
        content: The workbook.
        sheet: Name of the sheet; by default the first one.

    Raises:
        FileError: The content is not a workbook, lacks the sheet, or has rows wider than the
            header.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = _shared_texts(archive)
            rows = list(_rows(_sheet(archive, sheet), texts))
    except (*BROKEN_ZIP, zlib.error, EOFError, ElementTree.ParseError) as fault:
        raise FileError(f"it is not a complete xlsx workbook ({fault})") from fault
    rows = [row for row in rows if any(row)]
    if not rows:
        raise FileError("its sheet is empty")
    names = [name or "" for name in rows[0]]
    if "" in names or len(set(names)) < len(names):
        raise FileError("a column of its header has no name or a duplicate name")
    wide = [row for row in rows if len(row) > len(names)]
    if wide:
        raise FileError(f"{len(wide)} rows are wider than the header")
    padded = [row + [None] * (len(names) - len(row)) for row in rows[1:]]
    return pl.DataFrame(padded, schema=dict.fromkeys(names, pl.String), orient="row")


def _xml(archive: zipfile.ZipFile, path: str) -> ElementTree.Element:
    content = archive.read(path)
    # Valid workbooks have no document type; it could define entities that expand without limit.
    if b"<!DOCTYPE" in content:
        raise FileError(
            "a part of the workbook declares a document type, which may be an attack",
            "do not open it",
        )
    return ElementTree.fromstring(content)  # noqa: S314 - checked above


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    items = _xml(archive, "xl/sharedStrings.xml").iter(f"{SHEET}si")
    return ["".join(text.text or "" for text in item.iter(f"{SHEET}t")) for item in items]


def _sheet(archive: zipfile.ZipFile, wanted: str | None) -> ElementTree.Element:
    sheets = list(_xml(archive, "xl/workbook.xml").iter(f"{SHEET}sheet"))
    names = [sheet.get("name", "") for sheet in sheets]
    if not sheets or (wanted is not None and wanted not in names):
        raise FileError(f"the workbook has no sheet {wanted!r}, but {', '.join(names) or 'none'}")
    chosen = sheets[names.index(wanted) if wanted is not None else 0].get(f"{OFFICE}id")
    links = _xml(archive, "xl/_rels/workbook.xml.rels")
    target = next((link.get("Target", "") for link in links if link.get("Id") == chosen), None)
    if target is None:
        raise FileError("the workbook does not say which part holds its sheet")
    return _xml(archive, target.removeprefix("/") if target[:1] == "/" else f"xl/{target}")


def _rows(sheet: ElementTree.Element, texts: list[str]) -> Iterator[list[str | None]]:
    for row in sheet.iter(f"{SHEET}row"):
        cells: list[str | None] = []
        for cell in row.iter(f"{SHEET}c"):
            column = _column_number(cell.get("r", ""))
            cells += [None] * (column - len(cells))
            cells.append(_cell_text(cell, texts))
        yield cells


def _cell_text(cell: ElementTree.Element, texts: list[str]) -> str | None:
    if cell.get("t") == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{SHEET}t"))
    value = cell.findtext(f"{SHEET}v")
    if value is not None and cell.get("t") == "s":
        return texts[int(value)]
    return value


def _column_number(reference: str) -> int:
    """Return the zero-based column of a cell: 0 for A1, 26 for AA1."""
    number = 0
    for letter in re.match(r"[A-Z]*", reference)[0]:  # type: ignore[index]
        number = number * 26 + ord(letter) - ord("A") + 1
        if number > MAX_COLUMNS:
            raise FileError(f"the workbook has a cell {reference[:20]!r}, beyond the last column")
    return number - 1

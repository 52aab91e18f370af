"""Files with a structure of their own: JSON, JSON lines, Parquet and spreadsheets."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import polars as pl

from genebench.sources.readers.containers import FileError
from genebench.sources.readers.delimited import clean_text

PARQUET_MAGIC = b"PAR1"
LIST_SEPARATOR = "|"
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
OFFICE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def parse_json(
    content: bytes,
    fields: dict[str, str],
    rows: str | None = None,
    explode: str | None = None,
    is_lines: bool = False,
) -> pl.DataFrame:
    """Flatten JSON into rows.

    Args:
        content: One document, or one object a line.
        fields: For each column its path in an object: keys and list positions between dots, as in
            `genes.0.geneName.value`. A path that leads nowhere in an object is null there.
        rows: The path of the list of objects in the document; the document itself by default.
        explode: The path of a list in each object: a row for each of its items, whose columns are
            the fields whose path begins with it; an object without items gives one row.
        is_lines: One object a line.

    Returns:
        A row for each object or item; lists as text joined by `|`, objects as JSON text.

    Raises:
        FileError: It is no JSON, or holds no list where one is declared.
    """
    objects = _read_lines(content) if is_lines else _read_document(content, rows)
    prefix = f"{explode}." if explode else ""
    inner = {
        n: p.removeprefix(prefix) for n, p in fields.items() if prefix and p.startswith(prefix)
    }
    outer = {name: path for name, path in fields.items() if name not in inner}
    columns: dict[str, list[str | None]] = {name: [] for name in fields}
    for number, item in enumerate(objects, start=1):
        shared = {name: _text_at(item, path) for name, path in outer.items()}
        parts = _value_at(item, explode) if explode else None
        if not isinstance(parts, list | None):
            raise FileError(
                f"its object {number} holds no list at {explode!r}",
                "correct options: explode in the declaration, or fetch it again",
            )
        for part in parts or [{}]:
            for name, text in shared.items():
                columns[name].append(text)
            for name, path in inner.items():
                columns[name].append(_text_at(part, path))
    frame = pl.DataFrame(columns, schema=dict.fromkeys(fields, pl.String))
    # A field that is null throughout is left out: the check of required columns then names it.
    return frame.select(
        column for column in frame.get_columns() if column.null_count() < len(column)
    )


def _read_document(content: bytes, rows: str | None) -> list[Any]:
    try:
        document = json.loads(clean_text(content))
    except json.JSONDecodeError as fault:
        raise FileError(f"it is no whole JSON ({fault})") from fault
    objects = _value_at(document, rows) if rows else document
    if not isinstance(objects, list):
        place = f"at {rows!r}" if rows else "at its top"
        message = _text_at(document, "messages") or _text_at(document, "error")
        raise FileError(f"it holds no list {place}" + (f"; it says: {message}" if message else ""))
    return objects


def _read_lines(content: bytes) -> list[Any]:
    objects = []
    for number, line in enumerate(clean_text(content).decode().split("\n"), start=1):
        if line.strip():
            try:
                objects.append(json.loads(line))
            except json.JSONDecodeError as fault:
                raise FileError(f"line {number} is no JSON ({fault})") from fault
    return objects


def _value_at(item: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(item, dict):
            item = item.get(step)
        elif isinstance(item, list) and step.isdigit() and int(step) < len(item):
            item = item[int(step)]
        else:
            return None
    return item


def _text_at(item: Any, path: str) -> str | None:
    value = _value_at(item, path)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return LIST_SEPARATOR.join(value)
    return json.dumps(value, ensure_ascii=False)


def parse_parquet(contents: list[bytes]) -> pl.DataFrame:
    """Read the parts of a Parquet table as strings.

    Args:
        contents: The bytes of each part.

    Returns:
        All rows; numbers in their shortest exact form, lists joined by `|`, objects as JSON text.

    Raises:
        FileError: A part is cut short, is no Parquet, or has other columns than the first.
    """
    frames: list[pl.DataFrame] = []
    for number, content in enumerate(contents, start=1):
        try:
            frame = pl.read_parquet(content)
        except (pl.exceptions.PolarsError, OSError) as fault:
            where = f"part {number} of {len(contents)}" if len(contents) > 1 else "it"
            reason = str(fault).splitlines()[0]
            raise FileError(f"{where} is no whole Parquet file ({reason})") from fault
        if frames and frame.columns != frames[0].columns:
            raise FileError(f"part {number} of {len(contents)} has other columns than the first")
        frames.append(frame.with_columns(_as_text(frame, name) for name in frame.columns))
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


def parse_xlsx(content: bytes, sheet: str | None = None) -> pl.DataFrame:
    """Read one sheet of a spreadsheet as strings; its first row is the header.

    Args:
        content: The workbook.
        sheet: The sheet's name; the first one by default.

    Raises:
        FileError: No workbook, no such sheet, or rows wider than the header.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = _shared_texts(archive)
            rows = list(_rows(_sheet(archive, sheet), texts))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError) as fault:
        raise FileError(f"it is no whole xlsx workbook ({fault})") from fault
    rows = [row for row in rows if any(row)]
    if not rows:
        raise FileError("its sheet is empty")
    names = [name or "" for name in rows[0]]
    if "" in names or len(set(names)) < len(names):
        raise FileError("a column of its header has no name, or one that stands there twice")
    wide = [row for row in rows if len(row) > len(names)]
    if wide:
        raise FileError(f"{len(wide)} rows are wider than the header")
    padded = [row + [None] * (len(names) - len(row)) for row in rows[1:]]
    return pl.DataFrame(padded, schema=dict.fromkeys(names, pl.String), orient="row")


def _xml(archive: zipfile.ZipFile, path: str) -> ElementTree.Element:
    content = archive.read(path)
    # A workbook declares no document type; one could define entities that grow without end.
    if b"<!DOCTYPE" in content:
        raise FileError("a part of the workbook declares a document type", "do not open it")
    return ElementTree.fromstring(content)  # noqa: S314 - refused above


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
    target = next(link.get("Target", "") for link in links if link.get("Id") == chosen)
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
    """The zero-based column of a cell: 0 for A1, 26 for AA1."""
    number = 0
    for letter in re.match(r"[A-Z]*", reference)[0]:  # type: ignore[index]
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1

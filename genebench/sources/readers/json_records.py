"""Reads JSON documents and JSON lines: flattens objects into rows of strings."""

import json
from typing import Any

import polars as pl

from genebench.sources.readers.containers import FileError
from genebench.sources.readers.delimited import clean_text

LIST_SEPARATOR = "|"


def parse_json(
    content: bytes,
    fields: dict[str, str],
    rows: str | None = None,
    explode: str | None = None,
    is_lines: bool = False,
) -> pl.DataFrame:
    """Flatten JSON into rows.

    Args:
        content: One document, or one object per line.
        fields: Column to its path in an object: keys and list positions separated by dots, such as
            `genes.0.geneName.value`. The column is null if an object lacks the path.
        rows: Path of the list of objects in the document; by default the document itself.
        explode: Path of a list in each object. Each of its items becomes a row; fields whose path
            begins with it are read from the item. An object without items becomes one row.
        is_lines: Whether the content has one object per line.

    Returns:
        One row for each object or item; lists joined by `|`, objects as JSON text.

    Raises:
        FileError: The content is not JSON, or has no list where one is declared.
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
                f"its object {number} has no list at {explode!r}",
                "correct options: explode in the declaration, or run `genebench refresh`",
            )
        for part in parts or [{}]:
            for name, text in shared.items():
                columns[name].append(text)
            for name, path in inner.items():
                columns[name].append(_text_at(part, path))
    try:
        frame = pl.DataFrame(columns, schema=dict.fromkeys(fields, pl.String))
    except UnicodeEncodeError as fault:
        raise FileError(f"a text in it has half of a character ({fault})") from fault
    # Drop fields that are null everywhere, so that the check of required columns reports them.
    return frame.select(
        column for column in frame.get_columns() if column.null_count() < len(column)
    )


def _read_document(content: bytes, rows: str | None) -> list[Any]:
    try:
        document = json.loads(clean_text(content))
    except (ValueError, RecursionError) as fault:
        raise FileError(f"it is not complete JSON ({fault})") from fault
    objects = _value_at(document, rows) if rows else document
    if not isinstance(objects, list):
        place = f"at {rows!r}" if rows else "at its top"
        message = _text_at(document, "messages") or _text_at(document, "error")
        raise FileError(f"it has no list {place}" + (f"; it says: {message}" if message else ""))
    return objects


def _read_lines(content: bytes) -> list[Any]:
    objects = []
    for number, line in enumerate(clean_text(content).decode().split("\n"), start=1):
        if line.strip():
            try:
                objects.append(json.loads(line))
            except (ValueError, RecursionError) as fault:
                raise FileError(f"line {number} is not JSON ({fault})") from fault
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

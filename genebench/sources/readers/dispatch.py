"""Reads a source file of any declared format into a frame of strings.

The result has the same form for every format: the rows and column names of the file, all columns
strings. **Empty cells are null**, so a frame contains no empty strings. The text `NA` is an
ordinary value, because NA is a gene. White space is kept.

Options of a declaration:

- `aliases: {name: [other, …]}`: other names of a column in some releases or mirrors of the file;
  the column is renamed to `name`.
- `also: [csv]`: other formats that a mirror may use; detected by the first bytes.
- `where: {column: value}`: keep only rows with this value, for example of one species; ignored if
  the file lacks the column.
- `missing: "-"`: a cell with exactly this text is null.
- `header: [name, …]`: column names of a file without a header line.
- `quotes: false`: double quotes are ordinary characters.
- `encoding: latin-1`: the encoding, if it is not UTF-8.
- `rows`, `explode`, `fields`: how JSON is converted to rows; `fields` also extracts columns from
  the description lines of FASTA.
- `member`: the file of a zip to read. `parts`: the files of a folder or zip that together make the
  table.
- `sheet`: the sheet of a workbook. `max_unpacked_bytes`: largest unpacked size.
"""

import difflib
import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from genebench.errors import SourceError
from genebench.sources.declaration import Source, SourceFile
from genebench.sources.readers.containers import (
    DEFAULT_MAX_UNPACKED_BYTES,
    FileError,
    open_containers,
)
from genebench.sources.readers.delimited import SEPARATORS, parse_delimited
from genebench.sources.readers.fasta import parse_fasta
from genebench.sources.readers.gene_sets import parse_gmt, parse_pickle
from genebench.sources.readers.json_records import parse_json
from genebench.sources.readers.parquet import PARQUET_MAGIC, parse_parquet
from genebench.sources.readers.xlsx import parse_xlsx


def read_source_file(
    path: Path,
    file: SourceFile,
    source: Source,
    version: str,
    companions: Mapping[str, Path] | None = None,
) -> pl.DataFrame:
    """Read one source file.

    Args:
        path: The file, or a folder if the declaration has `parts`.
        file: Its declaration.
        source: The source of the file, for messages.
        version: The version of the file, for messages.
        companions: The paths of the declared companions, by role.

    Returns:
        (rows, columns) of strings, empty cells as null.

    Raises:
        SourceError: The file is missing, empty, damaged, in another format, or lacks a required
            column. The message names source, file, version and remedy.
    """
    try:
        frame = _parse(_contents(path, file), file)
        if file.companions:
            frame = _join_companions(frame, file, companions or {})
        frame = _apply_options(frame, file)
        _check_columns(frame, file)
    except FileError as fault:
        raise SourceError(
            f"source {source.id}, file {source.name_of(file)}, version {version} ({path.name}): "
            f"{fault.what}; {fault.remedy}"
        ) from fault
    return frame


def _contents(path: Path, file: SourceFile) -> list[bytes]:
    options = file.options
    parts = options.get("parts")
    if not path.exists():
        raise FileError("the file does not exist", "run `genebench refresh`")
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if fnmatch.fnmatchcase(p.name, parts or ""))
        if not paths:
            raise FileError("it is a folder without a file that matches options: parts")
    else:
        paths = [path]
    sizes = [p.stat().st_size for p in paths]
    if sum(sizes) > file.max_bytes:
        raise FileError(
            f"it has {sum(sizes):,} bytes, more than the {file.max_bytes:,} declared",
            "check that it is the right file; if it is, raise max_bytes in the declaration",
        )
    if 0 in sizes:
        raise FileError("it is empty")
    limit = int(options.get("max_unpacked_bytes", DEFAULT_MAX_UNPACKED_BYTES))
    contents = []
    for part in paths:
        delivered = part.read_bytes()
        _check_not_web_page(delivered)
        contents += open_containers(delivered, limit, options.get("member"), parts)
        limit -= len(contents[-1])
    for content in contents:
        if not content:
            raise FileError("it is empty")
        _check_not_web_page(content)
    return contents


def _check_not_web_page(content: bytes) -> None:
    start = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise FileError(
            "it is a web page, not data: the server answered with a page",
            "open its address in a browser; the file may have moved",
        )


def _parse(contents: list[bytes], file: SourceFile) -> pl.DataFrame:
    formats = [file.base_format, *file.options.get("also", [])]
    format_name = next((name for name in formats if _could_be(name, contents[0])), file.base_format)
    if format_name == "parquet":
        return parse_parquet(contents)
    frames = [_parse_one(content, format_name, file.options) for content in contents]
    if any(frame.columns != frames[0].columns for frame in frames):
        raise FileError("its parts do not have the same columns")
    return pl.concat(frames)


def _could_be(format_name: str, content: bytes) -> bool:
    """Return whether the first bytes can be the start of a file in a format."""
    start = content[:200].removeprefix(b"\xef\xbb\xbf").lstrip()
    if format_name in SEPARATORS or format_name == "gmt":
        return start[:1] not in (b"{", b"[", b">", b"\x80") and start[:4] != PARQUET_MAGIC
    if format_name in ("json", "jsonl"):
        return start[:1] in (b"{", b"[")
    return {
        "parquet": start.startswith(PARQUET_MAGIC),
        "fasta": start.startswith(b">"),
        "xlsx": start.startswith(b"PK"),
        "pickle": not start.startswith(PARQUET_MAGIC),
    }[format_name]


def _parse_one(content: bytes, format_name: str, options: Mapping[str, Any]) -> pl.DataFrame:
    if format_name in SEPARATORS:
        return parse_delimited(
            content,
            format_name,
            header=options.get("header"),
            has_quotes=options.get("quotes", format_name != "pairs"),
            encoding=options.get("encoding", "utf-8"),
        )
    if format_name in ("json", "jsonl"):
        return parse_json(
            content,
            options["fields"],
            rows=options.get("rows"),
            explode=options.get("explode"),
            is_lines=format_name == "jsonl",
        )
    if format_name == "fasta":
        return parse_fasta(content, options.get("fields"))
    if format_name == "gmt":
        return parse_gmt(content, options.get("header"))
    if format_name == "pickle":
        return parse_pickle(content, options.get("header"))
    return parse_xlsx(content, options.get("sheet"))


def _join_companions(
    frame: pl.DataFrame, file: SourceFile, companions: Mapping[str, Path]
) -> pl.DataFrame:
    """Add each companion, a file with one value per line, as a column."""
    for role in file.companions:
        if role not in companions:
            raise FileError(f"its companion file of {role} is missing", "run `genebench refresh`")
        bare = SourceFile(url=file.companions[role], format="tsv", options={"header": [role]})
        values = _parse(_contents(companions[role], bare), bare)
        if values.height != frame.height:
            raise FileError(
                f"it has {frame.height} rows, but its companion has {values.height} {role}"
            )
        frame = frame.hstack(values)
    return frame


def _apply_options(frame: pl.DataFrame, file: SourceFile) -> pl.DataFrame:
    options = file.options
    renaming = {}
    for name, others in options.get("aliases", {}).items():
        if name not in frame.columns:
            found = [other for other in others if other in frame.columns]
            if found:
                renaming[found[0]] = name
    frame = frame.rename(renaming)
    no_value = ["", options["missing"]] if "missing" in options else [""]
    frame = frame.with_columns(
        pl.when(pl.col(pl.String).is_in(no_value))
        .then(None)
        .otherwise(pl.col(pl.String))
        .name.keep()
    )
    if not frame.height:
        raise FileError("it has a header but no rows")
    for column, value in options.get("where", {}).items():
        if column in frame.columns:
            kept = frame.filter(pl.col(column) == str(value))
            if not kept.height:
                raise FileError(
                    f"none of its {frame.height:,} rows has {column} {str(value)!r}; the first has "
                    f"{frame[column][0]!r}",
                    "check that it is the right file, or correct options: where",
                )
            frame = kept
    return frame


def _check_columns(frame: pl.DataFrame, file: SourceFile) -> None:
    missing = [name for name in [*file.key, *file.columns] if name not in frame.columns]
    if not missing:
        return
    near = difflib.get_close_matches(missing[0], frame.columns, n=1)
    hint = f" (is it {near[0]!r} now?)" if near else ""
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    shown = ", ".join(repr(name) for name in frame.columns[:8])
    raise FileError(
        f"the column {missing[0]!r} is missing{hint}{others}; it has {frame.width} columns: {shown}"
        + (", …" if frame.width > 8 else ""),
        "give the new name under options: aliases in the declaration, or fetch a version that "
        "has the column",
    )

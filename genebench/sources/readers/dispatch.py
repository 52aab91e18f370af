"""Read a delivered file of a source into a frame of strings.

What comes out is the same for every format: one row as delivered, every column a string, the
names as delivered. **A cell without characters is null**, so a frame holds no empty strings; the
text `NA` is a value like any other, since NA is a gene. White space is left as it is.

Options of a declaration:

- `aliases: {name: [other, …]}`: a column that some deliveries call otherwise gets its declared
  name, so that releases and mirrors of one file can be read alike.
- `also: [csv]`: shapes that a mirror may deliver instead; chosen by the first bytes.
- `where: {column: value}`: only the rows with this value (one species of many), where the column
  is delivered.
- `missing: "-"`: a cell of just this text is null.
- `header: [name, …]`: the column names of a file without a header line.
- `quotes: false`: double quotes are ordinary characters.
- `encoding: latin-1`: the encoding, where it is not UTF-8.
- `rows`, `explode`, `fields`: how JSON becomes rows; `fields` also finds columns in the
  description lines of FASTA.
- `member`: which file of a zip; `parts`: which files of a folder or zip together make the table.
- `sheet`: which sheet of a workbook. `max_unpacked_bytes`: the limit on what comes out.
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
from genebench.sources.readers.listings import parse_fasta, parse_gmt, parse_pickle
from genebench.sources.readers.structured import (
    PARQUET_MAGIC,
    parse_json,
    parse_parquet,
    parse_xlsx,
)


def read_source_file(
    path: Path,
    file: SourceFile,
    source: Source,
    version: str,
    companions: Mapping[str, Path] | None = None,
) -> pl.DataFrame:
    """Read one delivered file.

    Args:
        path: The file; a folder where the declaration names `parts`.
        file: Its declaration.
        source: The source it belongs to, for messages.
        version: The version it is, for messages.
        companions: The paths of the declared companions, by role.

    Returns:
        (rows, columns) of strings, empty cells as null.

    Raises:
        SourceError: The file is missing, empty, damaged, of another format, or lacks a required
            column; the message names source, file, version and what to do.
    """
    try:
        frame = _parse(_contents(path, file), file)
        if file.companions:
            frame = _join_companions(frame, file, companions or {})
        frame = _shape(frame, file)
        _require(frame, file)
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
        raise FileError("the file is not there", "run `genebench refresh`")
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if fnmatch.fnmatchcase(p.name, parts or ""))
        if not paths:
            raise FileError("it is a folder without any file that matches options: parts")
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
        _refuse_web_page(delivered)
        contents += open_containers(delivered, limit, options.get("member"), parts)
        limit -= len(contents[-1])
    for content in contents:
        if not content:
            raise FileError("it is empty")
        _refuse_web_page(content)
    return contents


def _refuse_web_page(content: bytes) -> None:
    start = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise FileError(
            "it is a web page, not data: the server answered with a page",
            "look at its address in a browser; it may have moved",
        )


def _parse(contents: list[bytes], file: SourceFile) -> pl.DataFrame:
    shapes = [file.shape, *file.options.get("also", [])]
    shape = next((name for name in shapes if _may_be(name, contents[0])), file.shape)
    if shape == "parquet":
        return parse_parquet(contents)
    frames = [_parse_one(content, shape, file.options) for content in contents]
    if any(frame.columns != frames[0].columns for frame in frames):
        raise FileError("its parts do not have the same columns")
    return pl.concat(frames)


def _may_be(shape: str, content: bytes) -> bool:
    """Whether the first bytes can begin a file of a shape."""
    start = content[:200].removeprefix(b"\xef\xbb\xbf").lstrip()
    if shape in SEPARATORS or shape == "gmt":
        return start[:1] not in (b"{", b"[", b">", b"\x80") and start[:4] != PARQUET_MAGIC
    if shape in ("json", "jsonl"):
        return start[:1] in (b"{", b"[")
    return {
        "parquet": start.startswith(PARQUET_MAGIC),
        "fasta": start.startswith(b">"),
        "xlsx": start.startswith(b"PK"),
        "pickle": not start.startswith(PARQUET_MAGIC),
    }[shape]


def _parse_one(content: bytes, shape: str, options: Mapping[str, Any]) -> pl.DataFrame:
    if shape in SEPARATORS:
        return parse_delimited(
            content,
            shape,
            header=options.get("header"),
            has_quotes=options.get("quotes", shape != "pairs"),
            encoding=options.get("encoding", "utf-8"),
        )
    if shape in ("json", "jsonl"):
        return parse_json(
            content,
            options["fields"],
            rows=options.get("rows"),
            explode=options.get("explode"),
            is_lines=shape == "jsonl",
        )
    if shape == "fasta":
        return parse_fasta(content, options.get("fields"))
    if shape == "gmt":
        return parse_gmt(content, options.get("header"))
    if shape == "pickle":
        return parse_pickle(content, options.get("header"))
    return parse_xlsx(content, options.get("sheet"))


def _join_companions(
    frame: pl.DataFrame, file: SourceFile, companions: Mapping[str, Path]
) -> pl.DataFrame:
    """Set the values of each companion, a file of one value a line, beside the rows."""
    for role in file.companions:
        if role not in companions:
            raise FileError(f"its companion file of {role} is not given", "fetch both")
        bare = SourceFile(url=file.companions[role], format="tsv", options={"header": [role]})
        values = _parse(_contents(companions[role], bare), bare)
        if values.height != frame.height:
            raise FileError(f"it has {frame.height} rows, but its companion {values.height} {role}")
        frame = frame.hstack(values)
    return frame


def _shape(frame: pl.DataFrame, file: SourceFile) -> pl.DataFrame:
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
                    f"none of its {frame.height:,} rows has {column} {str(value)!r}, but "
                    f"{frame[column][0]!r}",
                    "check that it is the right file, or correct options: where",
                )
            frame = kept
    return frame


def _require(frame: pl.DataFrame, file: SourceFile) -> None:
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

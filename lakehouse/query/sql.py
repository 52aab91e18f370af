"""Runs SQL queries over the tables of a lake, in the dialect of polars.

A table is named in full (`gold.scores`, `bronze.hpa_proteinatlas`) or by its noun alone (`scores`).
Only `select` queries are possible; nothing is written, and no files are read.
"""

import re

import polars as pl

from genebench.errors import LakeError
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.names import did_you_mean
from lakehouse.tables.time_travel import Tables

_LINE = re.compile(r"\s+")
_READS = re.compile(r"^\s*(?:\(\s*)*(?:select|with|from|show|explain)\b", re.IGNORECASE)
_COLUMN = re.compile(r"unable to find column \"([^\"]+)\"; valid columns: \[(.*?)\]")
# Table functions of polars that read files; the text of string literals and comments is no call.
_READS_FILE = re.compile(r"\b((?:read|scan)_\w+)[\"`]?\s*\(", re.IGNORECASE)
_NO_CODE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_RELATION = re.compile(r"relation '([^']+)' was not found")


def run_query(tables: Tables, sql: str) -> pl.DataFrame:
    """Run one query; see `lakehouse.query.lake.Lake.query`."""
    present = tables.delta.list_tables()
    if not present:
        raise LakeError(
            f"the lake {tables.delta.storage.root} is empty; run `genebench benchmark`, or set "
            "GENEBENCH_LAKE to another lake"
        )
    if not _READS.match(sql):
        word = sql.split(maxsplit=1)[0] if sql.strip() else ""
        if not word:
            raise LakeError("an empty query; try: select task_id, n_samples from tasks")
        suggestion = did_you_mean(word, ["select", "with"])
        raise LakeError(f"a query starts with select or with, not {word!r}{suggestion}")
    if found := _READS_FILE.search(_NO_CODE.sub(" ", sql)):
        raise LakeError(
            f"a query reads tables of the lake, not files: {found[1]} is refused; "
            "read the file with polars, and join it with the result"
        )
    names = _queryable_names(present)
    context = pl.SQLContext()
    is_show = sql.split(maxsplit=1)[0].lower() == "show"
    for word, name in names.items():
        if is_show or re.search(rf"(?<![\w.]){re.escape(word)}\b", sql, re.IGNORECASE):
            context.register(word, tables.table(name))
    try:
        return context.execute(sql, eager=True)
    except pl.exceptions.PolarsError as error:
        raise LakeError(_explain(str(error), names)) from error


def _queryable_names(present: list[str]) -> dict[str, str]:
    """Map full names, and nouns that only one table has, to table names."""
    full_names = sorted({*present, *TABLES})
    nouns = [name.partition(".")[2] for name in full_names]
    short = {
        noun: name for noun, name in zip(nouns, full_names, strict=True) if nouns.count(noun) == 1
    }
    return {**{name: name for name in full_names}, **short}


def _explain(message: str, names: dict[str, str]) -> str:
    """Turn an error of polars into one line that suggests the nearest table or column."""
    first = _LINE.sub(" ", re.split(r"\n\n(?:Resolved plan|Did you mean)", message)[0])
    if found := _RELATION.search(message):
        word = found[1]
        listed = ", ".join(sorted({name for name in names if "." not in name}))
        return f"there is no table {word!r}{did_you_mean(word, names)}; tables: {listed}"
    if found := _COLUMN.search(message):
        word, columns = found[1], re.findall(r'"([^"]+)"', found[2])
        listed = ", ".join(columns)
        return f"there is no column {word!r}{did_you_mean(word, columns)}; columns: {listed}"
    return f"the query cannot be run: {first.strip()}; tables: `genebench ls tables`"

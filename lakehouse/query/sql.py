"""SQL over the tables of a lake, in the dialect of polars.

A table is named as it is declared (`gold.scores`) or by its noun alone (`scores`), also the raw
ones (`bronze.hpa_proteinatlas`). Only reading is possible.
"""

import re
from typing import TYPE_CHECKING

import polars as pl

from genebench.errors import LakeError
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.names import hint

if TYPE_CHECKING:
    from lakehouse.tables.time_travel import Tables

_LINE = re.compile(r"\s+")
_READS = re.compile(r"^\s*(?:\(\s*)*(?:select|with|from|show|explain)\b", re.IGNORECASE)
_COLUMN = re.compile(r"unable to find column \"([^\"]+)\"; valid columns: \[(.*?)\]")
_RELATION = re.compile(r"relation '([^']+)' was not found")


def run_query(lake: "Tables", sql: str) -> pl.DataFrame:
    """Run one query.

    Args:
        lake: The tables.
        sql: One `select`, with joins, grouping, windows and common table expressions as wanted.

    Returns:
        The rows; columns as selected.

    Raises:
        LakeError: It is no query, a table or column does not exist (suggests the nearest), or the
            lake is empty.
    """
    present = lake.delta.list_tables()
    if not present:
        raise LakeError(
            f"the lake {lake.delta.storage.root} is empty; run `genebench benchmark`, or set "
            "GENEBENCH_LAKE to another lake"
        )
    if not _READS.match(sql):
        word = sql.split(maxsplit=1)[0] if sql.strip() else ""
        raise LakeError(
            f"a query starts with select or with, not {word!r}{hint(word, ['select', 'with'])}"
            if word
            else "an empty query; try: select task_id, n_samples from tasks"
        )
    names = _names(present)
    context = pl.SQLContext()
    asks_for_names = sql.split(maxsplit=1)[0].lower() == "show"
    for word, table in names.items():
        if asks_for_names or re.search(rf"(?<![\w.]){re.escape(word)}\b", sql, re.IGNORECASE):
            context.register(word, lake.table(table))
    try:
        return context.execute(sql, eager=True)
    except pl.exceptions.PolarsError as error:
        raise LakeError(_explain(str(error), names)) from error


def _names(present: list[str]) -> dict[str, str]:
    """What a query may call the tables: in full, or by the noun where that is one table's."""
    tables = sorted({*present, *TABLES})
    nouns = [name.partition(".")[2] for name in tables]
    short = {noun: name for noun, name in zip(nouns, tables, strict=True) if nouns.count(noun) == 1}
    return {**{name: name for name in tables}, **short}


def _explain(message: str, names: dict[str, str]) -> str:
    first = _LINE.sub(" ", re.split(r"\n\n(?:Resolved plan|Did you mean)", message)[0])
    if found := _RELATION.search(message):
        word = found[1]
        listed = ", ".join(sorted({name for name in names if "." not in name}))
        return f"there is no table {word!r}{hint(word, names)}; tables: {listed}"
    if found := _COLUMN.search(message):
        word, columns = found[1], re.findall(r'"([^"]+)"', found[2])
        return f"there is no column {word!r}{hint(word, columns)}; columns: {', '.join(columns)}"
    return f"the query cannot be run: {first.strip()}; tables: `genebench ls tables`"

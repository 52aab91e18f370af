"""Rows of any table, with something harmless in the columns that a test does not care about."""

import datetime as dt
from collections.abc import Mapping, Sequence

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import conform

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
_BLANK = {
    "str": "x", "bool": False, "ts": NOW, "i8": 0, "i32": 0, "i64": 0, "f32": 0.0, "f64": 0.0,
    "list<str>": [], "list<f32>": [],
}  # fmt: skip


def filled(name: str, rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """A frame of a table from rows that name only what matters."""
    declared = table(name)
    full = [
        {
            column: row.get(column, None if kind.is_nullable else _BLANK[kind.type])
            for column, kind in declared.columns.items()
        }
        for row in rows
    ]
    return conform(declared, pl.DataFrame(full, schema=declared.schema))

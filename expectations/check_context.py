"""Queries a frame, and the tables it is compared with, for values and violating rows, in polars."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from expectations.declared import PREVIOUS, Expectation
from lakehouse.tables.schema import Table, is_convertible

N_ROWS = "n_rows"


class CheckContext:
    """A frame to be written, together with the tables that its expectations compare it with.

    Args:
        declared: The declaration of the table.
        frame: The rows to be written.
        previous: The rows that they replace, if any.
        related: Table name to the rows of another table.

    Attributes:
        available: Names that an expectation may have in `needs`.
        tables: Name in SQL to rows.
    """

    def __init__(
        self,
        declared: Table,
        frame: pl.DataFrame,
        previous: pl.DataFrame | None,
        related: Mapping[str, pl.DataFrame],
    ) -> None:
        self.frame = frame
        self.available = {*related, *([] if previous is None else [PREVIOUS])}
        self.tables = {"frame": frame, "columns": describe_columns(declared, frame)}
        self.tables |= {name.replace(".", "_"): rows for name, rows in related.items()}
        if previous is not None:
            self.tables[PREVIOUS] = previous
            self.tables["previous_columns"] = describe_columns(declared, previous)
        if any(column.type == "list<f32>" for column in declared.columns.values()):
            self.tables["vectors"] = describe_vectors(declared, frame)

    def find_rows(self, query: str) -> pl.DataFrame:
        """Run an SQL query for violating rows."""
        with pl.SQLContext({name: rows.lazy() for name, rows in self.tables.items()}) as context:
            return context.execute(query).collect()

    def find_values(self, expectation: Expectation) -> pl.Series:
        """Return the distinct values of the expectation's column, without nulls."""
        column = str(expectation.column)
        return self._rows_of(expectation)[column].drop_nulls().unique()

    def find_rows_with(
        self, expectation: Expectation, unexpected: tuple[object, ...]
    ) -> pl.DataFrame:
        """Return the rows of the frame with one of some values in the expectation's column."""
        rows = self._rows_of(expectation)
        column = rows[str(expectation.column)]
        bad = pl.Series(unexpected, dtype=column.dtype, strict=False)
        return rows.filter(column.is_in(bad.implode()))

    def _rows_of(self, expectation: Expectation) -> pl.DataFrame:
        if expectation.where is None:
            return self.frame
        return self.frame.filter(pl.sql_expr(expectation.where))


def describe_columns(declared: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Describe each column that is declared or present in the frame, one row each.

    Returns:
        name, declared and delivered (the types; null if the column is not declared or not present),
        is_nullable, is_fitting (whether the type can be converted to the declared one), n_null,
        n_filled, and n_unreal (number of NaN and infinite values, in lists too).
    """
    rows = []
    for name in dict.fromkeys([*declared.columns, *frame.columns]):
        column = declared.columns.get(name)
        series = frame[name] if name in frame.columns else None
        wanted = column.dtype if column else pl.String()
        is_nullable = column is None or column.is_nullable
        is_expected = column is not None or declared.allows_extra_columns
        n_null = 0 if series is None else series.null_count()
        rows.append(
            {
                "name": name,
                "declared": str(wanted) if is_expected else None,
                "delivered": None if series is None else str(series.dtype),
                "is_nullable": is_nullable,
                "is_fitting": series is not None
                and is_expected
                and is_convertible(series.dtype, wanted, is_nullable),
                "n_null": n_null,
                "n_filled": 0 if series is None else len(series) - n_null,
                "n_unreal": 0 if series is None else _count_unreal(series),
            }
        )
    return pl.DataFrame(
        rows,
        schema={
            "name": pl.String,
            "declared": pl.String,
            "delivered": pl.String,
            "is_nullable": pl.Boolean,
            "is_fitting": pl.Boolean,
            "n_null": pl.Int64,
            "n_filled": pl.Int64,
            "n_unreal": pl.Int64,
        },
    )


def describe_vectors(declared: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Describe each vector, one row each.

    The statistics are computed in numpy, because lists are too slow in Great Expectations.

    Returns:
        The frame's columns without the vector, n_numbers (length) and norm (Euclidean).
    """
    name = next(column.name for column in declared.columns.values() if column.type == "list<f32>")
    others = frame.select(pl.exclude(name))
    found = frame.schema.get(name)
    if not isinstance(found, (pl.List, pl.Array)) or not found.inner.is_numeric():
        return others.clear().with_columns(n_numbers=pl.lit(0), norm=pl.lit(0.0))
    vectors = frame[name]
    if isinstance(vectors.dtype, pl.Array):
        vectors = vectors.arr.to_list()
    lengths = vectors.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    numbers = vectors.explode(empty_as_null=False, keep_nulls=False).fill_null(np.nan).to_numpy()
    squares = np.zeros(frame.height)
    filled = np.flatnonzero(lengths)
    if len(filled):
        starts = (np.cumsum(lengths) - lengths)[filled]
        squares[filled] = np.add.reduceat(np.square(numbers, dtype=np.float64), starts)
    return others.with_columns(n_numbers=lengths, norm=np.sqrt(squares))


def _count_unreal(series: pl.Series) -> int:
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if isinstance(series.dtype, pl.List):
        series = series.explode(empty_as_null=False, keep_nulls=False)
    if not series.dtype.is_float():
        return 0
    return len(series) - series.null_count() - int(series.is_finite().sum())

"""Declares columns and tables, and checks a polars frame against a declaration.

Nothing here reads or writes files. The declared tables are in `catalogue`, Delta in `delta`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from genebench.errors import LakeError

Mode = Literal["append-only", "replace", "replace partition"]

N_EXAMPLES = 5

_DTYPES: dict[str, pl.DataType] = {
    "str": pl.String(),
    "i8": pl.Int8(),
    "i32": pl.Int32(),
    "i64": pl.Int64(),
    "f32": pl.Float32(),
    "f64": pl.Float64(),
    "bool": pl.Boolean(),
    "ts": pl.Datetime("us", "UTC"),
    "list<str>": pl.List(pl.String()),
    "list<f32>": pl.List(pl.Float32()),
}


@dataclass(frozen=True)
class Column:
    """One column: its name, its type in short form such as `i64`, and whether it may be null."""

    name: str
    type: str
    is_nullable: bool = False

    @property
    def dtype(self) -> pl.DataType:
        """The polars dtype of the column."""
        return _DTYPES[self.type]


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    Args:
        name: `layer.noun`; its folder below the lake's root is `layer/noun`.
        row: What one row is.
        key: The columns whose values together identify a row.
        partition: The partition columns, all strings; empty for a small table.
        mode: How it is written: `append-only`, `replace` (whole) or `replace partition`.
        description: What the table contains, in one sentence.
        columns: The columns by name, in order.
        vocabularies: The allowed values of columns that have a closed set of them.
        allows_extra_columns: Whether further string columns, named by a source, are allowed.
    """

    name: str
    row: str
    key: tuple[str, ...]
    partition: tuple[str, ...]
    mode: Mode
    description: str
    columns: Mapping[str, Column]
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allows_extra_columns: bool = False

    @property
    def layer(self) -> str:
        """`bronze`, `silver`, `gold` or `audit`."""
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """The table's folder below the root of the lake, such as `gold/scores`."""
        return self.name.replace(".", "/")

    @property
    def schema(self) -> pl.Schema:
        """The polars schema of the declared columns."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        """A frame without rows in the declared schema."""
        return pl.DataFrame(schema=self.schema)


def parse_columns(text: str) -> dict[str, Column]:
    """Parse columns written as `name type, name type?`; `?` marks a nullable column.

    >>> parse_columns("reason str?, n_samples i64")["reason"]
    Column(name='reason', type='str', is_nullable=True)
    """
    columns = {}
    for item in text.split(","):
        name, type_ = item.split()
        columns[name] = Column(name, type_.rstrip("?"), type_.endswith("?"))
        if columns[name].type not in _DTYPES:
            raise LakeError(f"column {name}: unknown type {type_!r}; known: {', '.join(_DTYPES)}")
    return columns


def declare_table(
    name: str,
    row: str,
    key: str,
    partition: str,
    mode: Mode,
    description: str,
    columns: str,
    vocabularies: dict[str, tuple[str, ...]] | None = None,
    allows_extra_columns: bool = False,
) -> Table:
    """Declare a table; `key` and `partition` are names with blanks between, `columns` is parsed."""
    return Table(
        name=name,
        row=row,
        key=tuple(key.split()),
        partition=tuple(partition.split()),
        mode=mode,
        description=description,
        columns=parse_columns(columns),
        vocabularies=vocabularies or {},
        allows_extra_columns=allows_extra_columns,
    )


def conform(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Convert a frame to the table's column order and dtypes, and check its values.

    Only lossless conversions are made: `Array` to `List`, categories to strings, an integer to a
    declared integer type that can hold it, `Float32` to `Float64`, times to microseconds UTC, an
    all-null column to a nullable one.

    Args:
        table: The declaration.
        frame: Any number of rows, columns in any order.

    Raises:
        LakeError: A column is missing, unknown or of another type, a non-nullable column has
            nulls, a float column has NaN or infinities, or a key occurs twice. The message names
            the column and shows examples.
    """
    frame = _select(table, frame)
    frame = frame.with_columns(_convert(table, frame[name]) for name in frame.columns)
    for name in frame.columns:
        column = table.columns.get(name)
        if column is not None and not column.is_nullable:
            _refuse_nulls(table, frame, name)
        _refuse_non_finite(table, frame, name)
    _refuse_repeated_keys(table, frame)
    return frame


def is_convertible(found: pl.DataType, wanted: pl.DataType, is_nullable: bool) -> bool:
    """Whether one dtype can be converted to another without loss; values are not looked at."""
    if isinstance(wanted, pl.List):
        return (
            found == wanted
            or (isinstance(found, pl.List) and found.inner == pl.Null)
            or (
                isinstance(found, pl.Array)
                and len(found.shape) == 1
                and found.inner == wanted.inner
            )
        )
    return bool(
        found == wanted
        or (found == pl.Null and is_nullable)
        or (isinstance(found, (pl.Categorical, pl.Enum)) and wanted == pl.String)
        or (found.is_integer() and wanted.is_integer())
        or (found == pl.Float32 and wanted == pl.Float64)
        or (isinstance(found, pl.Datetime) and found.time_zone and isinstance(wanted, pl.Datetime))
    )


def add_missing_columns(frame: pl.DataFrame, present: Sequence[str]) -> pl.DataFrame:
    """Add the string columns that the table has and the frame lacks, filled with nulls.

    Raises:
        LakeError: A column of the frame differs only by case from a column of the table.
    """
    lowered = {name.lower(): name for name in present}
    for name in frame.columns:
        other = lowered.get(name.lower(), name)
        if other != name:
            raise LakeError(
                f"column {name!r} differs only by case from {other!r} of another snapshot, and "
                "Delta column names ignore case; rename one in the reader of the source"
            )
    missing = [name for name in present if name not in frame.columns]
    return frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in missing)


def partition_predicate(table: Table, partition: Mapping[str, str]) -> str | None:
    """The SQL predicate that selects a partition; None for the whole table.

    Raises:
        LakeError: A column is not a partition column of the table.
    """
    unknown = [column for column in partition if column not in table.partition]
    if unknown:
        raise LakeError(
            f"{table.name} is not partitioned by {', '.join(unknown)}, but by "
            f"{', '.join(table.partition) or 'nothing'}"
        )
    terms = []
    for column, value in partition.items():
        quoted = value.replace("'", "''")
        terms.append(f"{column} = '{quoted}'")
    return " AND ".join(terms) or None


def _select(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in table.columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in table.columns]
    if missing or (extra and not table.allows_extra_columns):
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        if extra and not table.allows_extra_columns:
            parts.append(f"has unknown {', '.join(extra)}")
        raise LakeError(
            f"{table.name}: the frame {' and '.join(parts)}; "
            f"its columns are {', '.join(table.columns)}"
        )
    lowered: dict[str, str] = {}
    for name in (*table.columns, *extra):
        if other := lowered.get(name.lower()):
            raise LakeError(
                f"{table.name}: columns {other!r} and {name!r} differ only by case, and Delta "
                "column names ignore case; rename one in the reader of the source"
            )
        lowered[name.lower()] = name
    return frame.select(*table.columns, *extra)


def _convert(table: Table, column: pl.Series) -> pl.Series:
    declared = table.columns.get(column.name)
    wanted = declared.dtype if declared else pl.String()
    found = column.dtype
    if found == wanted:
        return column
    is_nullable = declared is None or declared.is_nullable
    is_lossless = is_convertible(found, wanted, is_nullable)
    if not is_lossless:
        raise LakeError(
            f"{table.name}: column {column.name!r} is {found}, declared {wanted}; "
            "cast it before writing"
        )
    if isinstance(found, pl.Array):
        return column.arr.to_list()
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    try:
        return column.cast(wanted, strict=True)
    except pl.exceptions.PolarsError as error:
        raise LakeError(
            f"{table.name}: column {column.name!r} has values outside the range of {wanted}: "
            f"{column.min()!r} to {column.max()!r}"
        ) from error


def _refuse_nulls(table: Table, frame: pl.DataFrame, name: str) -> None:
    n_null = frame[name].null_count()
    n_inner = 0
    if isinstance(frame.schema[name], pl.List) and frame.height:
        n_inner = frame[name].explode(empty_as_null=False, keep_nulls=False).null_count()
    if n_inner:
        raise LakeError(
            f"{table.name}: the lists in column {name!r} contain {n_inner} nulls; remove them"
        )
    if n_null:
        where = frame.filter(pl.col(name).is_null()).select(table.key).head(N_EXAMPLES)
        raise LakeError(
            f"{table.name}: column {name!r} is null in {n_null} of {frame.height} rows "
            f"but declared non-nullable; keys: {_show(where)}"
        )


def _refuse_non_finite(table: Table, frame: pl.DataFrame, name: str) -> None:
    dtype = frame.schema[name]
    if dtype.is_float():
        n_bad = frame.height - frame[name].null_count() - int(frame[name].is_finite().sum())
    elif isinstance(dtype, pl.List) and dtype.inner.is_float():
        numbers = frame[name].explode(empty_as_null=False, keep_nulls=False)
        n_bad = len(numbers) - int(numbers.is_finite().sum())
    else:
        return
    if n_bad:
        raise LakeError(
            f"{table.name}: column {name!r} has {n_bad} NaN or infinite numbers; "
            "leave out values that could not be computed"
        )


def _refuse_repeated_keys(table: Table, frame: pl.DataFrame) -> None:
    key = frame.select(table.key)
    if key.n_unique() == key.height:
        return
    repeated = key.group_by(table.key).len().filter(pl.col("len") > 1).sort(table.key)
    raise LakeError(
        f"{table.name}: {repeated.height} keys occur more than once; the key is "
        f"({', '.join(table.key)}); examples: {_show(repeated.head(N_EXAMPLES))}"
    )


def _show(rows: pl.DataFrame) -> str:
    return "; ".join(" | ".join(map(str, row)) for row in rows.rows()) or "none"

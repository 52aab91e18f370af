"""What a table is, and how a frame is made to fit one before it is written.

Pure polars: nothing here reads or writes. The declarations are in `tables`, the Delta side in
`delta`.
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
    """One column: its name, the short word for its type, and whether it may be null."""

    name: str
    type: str
    is_nullable: bool = False

    @property
    def dtype(self) -> pl.DataType:
        """The polars dtype that the column has in every frame read from the lake."""
        return _DTYPES[self.type]


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    Args:
        name: `layer.noun`; its folder below the lake's root is `layer/noun`.
        row: What one row is.
        key: The columns that together are unique.
        partition: String columns that become folders; none for a small table.
        mode: How it changes: `append-only` evidence, or replaced whole, or by partition.
        sentence: What it is for, in one sentence.
        columns: In order, by name.
        vocabularies: The closed sets of values that some columns draw from.
        is_open: Further string columns, named by a source, may stand beside the declared ones.
    """

    name: str
    row: str
    key: tuple[str, ...]
    partition: tuple[str, ...]
    mode: Mode
    sentence: str
    columns: Mapping[str, Column]
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_open: bool = False

    @property
    def layer(self) -> str:
        """`bronze`, `silver`, `gold` or `audit`."""
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """The table's folder below the root of the lake, with `/` between its parts."""
        return self.name.replace(".", "/")

    @property
    def schema(self) -> pl.Schema:
        """The polars schema of the declared columns."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        """A frame without rows in the declared schema."""
        return pl.DataFrame(schema=self.schema)


def parse_columns(text: str) -> dict[str, Column]:
    """Read columns written as `name type, name type?`; a question mark says that nulls may occur.

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


def conform(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame in the table's column order and dtypes, or refuse it.

    Only conversions that lose nothing are made: `Array` to `List`, categories to strings, an
    integer to a declared integer that can hold it, `Float32` to `Float64`, times to microseconds
    UTC, an all-null column to a nullable one. Everything else is refused, and so are nulls in
    non-null columns, NaN and infinities, and a key that occurs twice.

    Args:
        table: What the frame must be.
        frame: Any number of rows, columns in any order.

    Raises:
        LakeError: The frame is not a frame of this table; says which column, and shows examples.
    """
    frame = _select(table, frame)
    frame = frame.with_columns(_convert(table, frame[name]) for name in frame.columns)
    for name in frame.columns:
        column = table.columns.get(name)
        if column is not None and not column.is_nullable:
            _refuse_nulls(table, frame, name)
        _refuse_unreal_numbers(table, frame, name)
    _refuse_repeated_keys(table, frame)
    return frame


def is_convertible(found: pl.DataType, wanted: pl.DataType, is_nullable: bool) -> bool:
    """Whether a dtype becomes another without loss, as far as the dtypes alone can tell."""
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


def widen(frame: pl.DataFrame, present: Sequence[str]) -> pl.DataFrame:
    """Add, as nulls, the string columns that an open table already has and the frame lacks.

    Raises:
        LakeError: A column of the frame differs only by case from one of the table.
    """
    lowered = {name.lower(): name for name in present}
    for name in frame.columns:
        other = lowered.get(name.lower(), name)
        if other != name:
            raise LakeError(
                f"column {name!r} differs only by case from {other!r} of another snapshot, which "
                "Delta cannot tell apart; rename one where the source is read"
            )
    missing = [name for name in present if name not in frame.columns]
    return frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in missing)


def partition_predicate(table: Table, partition: Mapping[str, str]) -> str | None:
    """The SQL predicate of a partition; None for all of the table.

    Raises:
        LakeError: A column is none of the table's partition columns.
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
    if missing or (extra and not table.is_open):
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has unknown {', '.join(extra)}"] if extra and not table.is_open else []
        raise LakeError(
            f"{table.name}: the frame {' and '.join(parts)}; "
            f"its columns are {', '.join(table.columns)}"
        )
    lowered: dict[str, str] = {}
    for name in (*table.columns, *extra):
        if other := lowered.get(name.lower()):
            raise LakeError(
                f"{table.name}: columns {other!r} and {name!r} differ only by case, which Delta "
                "cannot tell apart; rename one where the source is read"
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
            f"{table.name}: column {column.name!r} holds numbers that {wanted} cannot: "
            f"{column.min()!r} to {column.max()!r}"
        ) from error


def _refuse_nulls(table: Table, frame: pl.DataFrame, name: str) -> None:
    n_null = frame[name].null_count()
    n_inner = 0
    if isinstance(frame.schema[name], pl.List) and frame.height:
        n_inner = frame[name].explode(empty_as_null=False, keep_nulls=False).null_count()
    if n_inner:
        raise LakeError(
            f"{table.name}: the lists of column {name!r} hold {n_inner} nulls; leave them out"
        )
    if n_null:
        where = frame.filter(pl.col(name).is_null()).select(table.key).head(N_EXAMPLES)
        raise LakeError(
            f"{table.name}: column {name!r} is null in {n_null} of {frame.height} rows "
            f"but declared non-null; keys: {_show(where)}"
        )


def _refuse_unreal_numbers(table: Table, frame: pl.DataFrame, name: str) -> None:
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
            f"{table.name}: column {name!r} holds {n_bad} NaN or infinite numbers; "
            "a value that could not be computed is a row with a reason, never a NaN"
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

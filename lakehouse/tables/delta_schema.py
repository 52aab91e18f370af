"""How a declared table is stored in Delta: schema, table properties and Parquet writer properties.

`check_schema` compares an existing Delta table with its declaration.
"""

from typing import Any

import polars as pl
from deltalake import ColumnProperties, DeltaTable, Field, Schema, WriterProperties
from deltalake.schema import ArrayType, PrimitiveType

from genebench.errors import LakeError
from lakehouse.tables.schema import Column, Table

APPEND_ONLY = "delta.appendOnly"
_PROPERTIES = {
    # A release must stay readable for a month after a new one replaces it, its log for years.
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.logRetentionDuration": "interval 3650 days",
    # Opening a table reads all commits since the last checkpoint, 0.25 ms each.
    "delta.checkpointInterval": "10",
}

_DELTA_TYPES = {
    "str": "string",
    "i8": "byte",
    "i32": "integer",
    "i64": "long",
    "f32": "float",
    "f64": "double",
    "bool": "boolean",
    "ts": "timestamp",
}

# Vectors barely compress and have no repeated values: compression and dictionaries would only
# double the writing time. One thread decodes a row group, so a large table needs several.
_VECTOR_PROPERTIES = WriterProperties(
    max_row_group_size=4096,
    compression="UNCOMPRESSED",
    default_column_properties=ColumnProperties(dictionary_enabled=False),
)

_TEXT_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=3)


def table_properties(declared: Table) -> dict[str, str]:
    """The Delta properties of a new table; `delta.appendOnly` refuses deletions by any writer."""
    return _PROPERTIES | ({APPEND_ONLY: "true"} if declared.mode == "append-only" else {})


def is_append_only(found: DeltaTable) -> bool:
    """Whether a Delta table refuses the removal of rows."""
    return found.metadata().configuration.get(APPEND_ONLY) == "true"


def writer_properties(declared: Table) -> WriterProperties:
    """The Parquet settings of a table: uncompressed where it has vectors, else Zstandard."""
    has_vectors = any(column.type == "list<f32>" for column in declared.columns.values())
    return _VECTOR_PROPERTIES if has_vectors else _TEXT_PROPERTIES


def to_delta_schema(declared: Table, frame: pl.DataFrame) -> Schema:
    """The Delta schema of the declared columns, then of the frame's extra columns as strings."""
    fields = []
    for column in declared.columns.values():
        inner = column.type.removeprefix("list<").removesuffix(">")
        kind: Any = PrimitiveType(_DELTA_TYPES[inner])
        if column.type.startswith("list<"):
            kind = ArrayType(kind, contains_null=False)
        fields.append(Field(column.name, kind, nullable=column.is_nullable))
    extra = [name for name in frame.columns if name not in declared.columns]
    text = PrimitiveType("string")
    return Schema([*fields, *(Field(name, text, nullable=True) for name in extra)])


def new_columns(declared: Table, found: DeltaTable) -> list[Column]:
    """The nullable columns that were declared after the Delta table was created."""
    present = {field.name for field in found.schema().fields}
    columns = declared.columns.values()
    return [column for column in columns if column.is_nullable and column.name not in present]


def check_schema(declared: Table, found: DeltaTable, uri: str) -> None:
    """Compare the columns, types and partition columns of a Delta table with its declaration.

    Nullable columns that were declared after the table was created may be missing.

    Raises:
        LakeError: They differ.
    """
    present = {field.name: _type_name(field) for field in found.schema().fields}
    wanted = {
        column.name: _delta_type(column)
        for column in declared.columns.values()
        if column.name in present or not column.is_nullable
    }
    wrong = [
        name
        for name in {**wanted, **present}
        if name not in present
        or (name not in wanted and not declared.allows_extra_columns)
        or (name in wanted and wanted[name] != present[name])
    ]
    if wrong or tuple(found.metadata().partition_columns) != declared.partition:
        raise LakeError(
            f"{uri} holds a Delta table that is not {declared.name} as declared "
            f"(differs in: {', '.join(wrong) or 'partition columns'}); another program or another "
            "version of genebench created it: move it away, or set GENEBENCH_LAKE to a new folder"
        )


def _delta_type(column: Column) -> str:
    """The type of a declared column in Delta, such as `list<string>`."""
    inner = column.type.removeprefix("list<").removesuffix(">")
    return column.type.replace(inner, _DELTA_TYPES[inner])


def _type_name(field: Field) -> str:
    inner = field.type.element_type if isinstance(field.type, ArrayType) else field.type
    name = inner.type if isinstance(inner, PrimitiveType) else str(inner)
    return f"list<{name}>" if isinstance(field.type, ArrayType) else name

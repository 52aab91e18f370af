"""Reading and writing the tables; the only module that imports deltalake.

Every write is checked against the declaration in `tables` first, so a table never holds a frame
of another shape. What a table means, and whether a frame may enter it, is left to `expectations`.
"""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import polars as pl
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Field,
    Schema,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType

from genebench.errors import LakeError
from lakehouse.tables.catalogue import TABLES, table
from lakehouse.tables.commits import Commit
from lakehouse.tables.schema import Column, Table, conform, partition_predicate, widen
from lakehouse.tables.storage import Storage

__all__ = ["Commit", "Delta"]

N_TRIES = 7
FIRST_PAUSE_SECONDS = 0.05
# Reading a table opens each of its files, and each commit of evidence leaves one.
COMPACT_EVERY = 100

# Commits that move or remove files and leave the rows as they are.
_MAINTENANCE = ("OPTIMIZE", "VACUUM START", "VACUUM END")

# Published versions stay readable for a month after they are replaced, their log for years.
_CONFIGURATION = {
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

# Random-looking floats neither compress nor repeat: trying costs half the writing time. A group of
# rows is decoded by one thread, so a table of one group would be read by one.
_VECTOR_PROPERTIES = WriterProperties(
    max_row_group_size=4096,
    compression="UNCOMPRESSED",
    default_column_properties=ColumnProperties(dictionary_enabled=False),
)

_TEXT_PROPERTIES = WriterProperties(compression="ZSTD", compression_level=3)

_Result = TypeVar("_Result")


class _Table(DeltaTable):
    """A table whose local files go by the names that they have on disk.

    delta-rs (1.6.6) escapes the folder in them, as in an address, and polars (2.1) opens what it
    is given: a table below a folder with a blank or an accent would have no files.
    """

    def file_uris(self, *args: Any, **rest: Any) -> list[str]:
        """The addresses of the table's files; local ones as paths."""
        root = self.table_uri.removeprefix("file://")
        named = super().file_uris(*args, **rest)
        if root == self.table_uri:
            return named
        return [unquote(root) + name.removeprefix(root) for name in named]


class Delta:
    """The tables below one root.

    Args:
        root: A local folder or an S3 address (`s3://bucket/lake`).
        storage_options: Options of the object store, in delta-rs's names.

    Raises:
        LakeError: The root is a file, or an address that is not of S3.
    """

    def __init__(self, root: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.storage = Storage(root, storage_options)

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        return self._find(table(name)) is not None

    def create(self, name: str, commit: Commit) -> None:
        """Create an empty table with its declared schema; does nothing where it exists.

        Raises:
            LakeError: The place is not writable, or holds something else.
        """
        declared = table(name)
        if self._find(declared) is None:
            self._create(declared, declared.empty(), commit)

    def append(self, name: str, frame: pl.DataFrame, commit: Commit) -> int:
        """Append rows to a table, created when missing; returns the new version.

        A table replaced by partition may grow by appends too, such as a chunk of vectors.

        Appends of other processes never conflict. An empty frame makes no commit.

        Raises:
            LakeError: The table is only ever replaced whole, the frame does not fit its
                declaration, or the place cannot be written.
        """
        declared = table(name)
        if declared.mode == "replace":
            raise LakeError(f"{name} is only ever replaced whole; use replace")
        frame = conform(declared, frame)
        if not frame.height and (found := self._find(declared)) is not None:
            return found.version()
        return self._write(declared, frame, commit, mode="append")

    def replace(
        self,
        name: str,
        frame: pl.DataFrame,
        commit: Commit,
        partition: Mapping[str, str] | None = None,
    ) -> int:
        """Replace a table, or one partition of it, in one commit; returns the new version.

        Args:
            name: A table whose mode is `replace` or `replace partition`.
            frame: The new rows; none empties the partition.
            commit: Who writes, from what.
            partition: Values of partition columns that every row of the frame has. Needed for
                tables replaced by partition; an explicit `{}` replaces all of such a table.

        Raises:
            LakeError: The table is append-only, the partition is missing or wrong, the frame
                does not fit the declaration, or the place cannot be written.
        """
        declared = table(name)
        if declared.mode == "append-only":
            raise LakeError(f"{name} is append-only evidence; append to it")
        if declared.mode == "replace partition" and partition is None:
            raise LakeError(
                f"{name} is replaced by partition; name one of ({', '.join(declared.partition)})"
            )
        predicate = partition_predicate(declared, partition or {})
        frame = conform(declared, frame)
        for column, value in (partition or {}).items():
            others = frame[column].unique().drop_nulls().to_list()
            if others not in ([], [value]):
                raise LakeError(
                    f"{name}: rows of {column} {sorted(set(others) - {value})} do not belong "
                    f"into partition {column}={value!r}"
                )
        return self._write(declared, frame, commit, mode="overwrite", predicate=predicate)

    def delete(self, name: str, partition: Mapping[str, str], commit: Commit) -> int:
        """Delete one partition, in any table; returns the new version.

        The rows stay readable in older versions until the next vacuum after a month.

        Raises:
            LakeError: The table or the partition columns do not exist.
        """
        declared = table(name)
        predicate = partition_predicate(declared, partition)
        if predicate is None:
            raise LakeError(f"{name}: name the partition to delete")

        def delete() -> int:
            found = self._open(declared)
            found.delete(predicate, commit_properties=_properties(commit))
            return found.version()

        return self._try(declared, delete)

    def withdraw(
        self, name: str, partition: Mapping[str, str], run_id: str, keys: list[str], commit: Commit
    ) -> int:
        """Delete what one run left of some evaluations, in one commit; returns the new version.

        Args:
            name: A table with `evaluation_key` and `run_id`.
            partition: The partition that the rows are in.
            run_id: The run.
            keys: Evaluation keys.
            commit: Who deletes.
        """
        declared = table(name)
        listed = ", ".join(f"'{key}'" for key in keys)
        predicate = (
            f"{partition_predicate(declared, partition)} AND run_id = '{run_id}' "
            f"AND evaluation_key IN ({listed})"
        )

        def delete() -> int:
            found = self._open(declared)
            found.delete(predicate, commit_properties=_properties(commit))
            return found.version()

        return self._try(declared, delete)

    def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        """Read a table lazily; a table that does not exist yet is an empty frame of its schema.

        Columns that the declaration has gained since the table was made are null.

        Args:
            name: A declared table, or a bronze table.
            version: An older version; the newest by default.

        Raises:
            LakeError: The version does not exist, or the table has another schema than declared.
        """
        declared = table(name)
        found = self._find(declared, version)
        if found is None:
            if version is not None:
                raise LakeError(f"{name} has no version {version}: it does not exist yet")
            return declared.empty().lazy()
        frame = pl.scan_delta(found, storage_options=self.storage.options or None)
        gained = _gained(declared, found)
        others = (f.name for f in found.schema().fields if f.name not in declared.columns)
        return frame.with_columns(
            pl.lit(None, column.dtype).alias(column.name) for column in gained
        ).select(*declared.columns, *others)

    def plain_files(self, name: str, partition: Mapping[str, str]) -> list[Path] | None:
        """The Parquet files that hold a partition and nothing else.

        Returns:
            None where it takes a reader of Delta to tell the rows: in an object store, and where
            files hold deleted rows or columns by other names.
        """
        declared = table(name)
        found = self._find(declared)
        if not self.storage.is_local or found is None or found.protocol().min_reader_version > 1:
            return None
        chosen = [(column, "=", value) for column, value in partition.items()]
        return [Path(file) for file in found.file_uris(file_pruning_predicate=chosen)]

    def version(self, name: str) -> int:
        """The newest version of a table, -1 where it does not exist."""
        found = self._find(table(name))
        return -1 if found is None else found.version()

    def history(self, name: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The commits of a table, newest first, with `flow_run`, `code`, `inputs`, `profile`."""
        found = self._find(table(name))
        return [] if found is None else found.history(limit)

    def last_write(self, name: str) -> dict[str, Any]:
        """The newest commit of a table that was no maintenance; {} where it does not exist."""
        # Few commits are maintenance in a row; the whole log of a long-lived table is read last.
        for limit in (8, None):
            for entry in self.history(name, limit):
                if entry.get("operation") not in _MAINTENANCE:
                    return entry
        return {}

    def compact(self, name: str, commit: Commit, every: int = COMPACT_EVERY) -> int:
        """Join a table's small files, once in so many commits.

        Returns:
            How many files were joined; 0 where one of the last `every` commits did so.
        """
        declared = table(name)
        history = self.history(name, every)
        if len(history) < every or any(one.get("operation") == "OPTIMIZE" for one in history):
            return 0

        def compact() -> int:
            done = self._open(declared).optimize.compact(
                writer_properties=_writer_properties(declared),
                commit_properties=_properties(commit),
            )
            return int(done["numFilesRemoved"])

        return self._try(declared, compact)

    def vacuum(self, name: str, keep_versions: list[int] | None = None) -> int:
        """Delete files that no version of the last 30 days, nor a kept one, refers to.

        Args:
            name: The table.
            keep_versions: Published versions that must stay readable however old.

        Returns:
            How many files were deleted; also those that killed writers left.
        """
        found = self._find(table(name))
        if found is None:
            return 0
        return len(found.vacuum(dry_run=False, full=True, keep_versions=keep_versions or None))

    def list_tables(self) -> list[str]:
        """The names of all tables that exist, bronze files included, in the catalogue's order."""
        present = [
            f"{layer}.{noun}"
            for layer in ("bronze", "silver", "gold", "audit")
            for noun in self.storage.list_folders(layer)
        ]
        order = {name: number for number, name in enumerate(TABLES)}
        present.sort(key=lambda name: (not name.startswith("bronze."), order.get(name, -1), name))
        return [name for name in present if self._is_declared(name)]

    def _is_declared(self, name: str) -> bool:
        try:
            return self.exists(name)
        except LakeError:
            return False

    def _find(self, declared: Table, version: int | None = None) -> DeltaTable | None:
        """Open a table; None where there is none.

        Not `DeltaTable.is_deltatable`, which holds the interpreter's lock while it waits for an
        object store (deltalake 1.6.6).
        """
        uri = self.storage.uri(declared.path)
        try:
            found = _Table(uri, version=version, storage_options=self.storage.options or None)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError, ValueError) as error:
            what = "" if version is None else f" version {version}"
            raise LakeError(f"{declared.name}: cannot open{what} at {uri}: {error}") from error
        _refuse_foreign(declared, found, uri)
        return found

    def _open(self, declared: Table) -> DeltaTable:
        found = self._find(declared)
        if found is None:
            raise LakeError(f"{declared.name} does not exist yet in {self.storage.root}")
        return found

    def _create(self, declared: Table, frame: pl.DataFrame, commit: Commit) -> None:
        # A writer that is stopped between the table and its rows has done nothing of what the
        # commit says, such as which snapshots were curated.
        made_from_nothing = Commit(commit.flow_run, commit.code, profile=commit.profile)

        def create() -> None:
            DeltaTable.create(
                self.storage.uri(declared.path),
                _delta_schema(declared, frame),
                mode="ignore",
                partition_by=list(declared.partition) or None,
                description=declared.sentence,
                configuration=_CONFIGURATION,
                storage_options=self.storage.options or None,
                commit_properties=_properties(made_from_nothing),
            )

        self._try(declared, create)

    def _write(
        self, declared: Table, frame: pl.DataFrame, commit: Commit, mode: Any, predicate: Any = None
    ) -> int:
        if self._find(declared) is None:
            self._create(declared, frame, commit)

        def write() -> int:
            found = self._open(declared)
            present = [field.name for field in found.schema().fields]
            rows = widen(frame, present) if declared.is_open else frame
            may_grow = declared.is_open or bool(_gained(declared, found))
            write_deltalake(
                found,
                rows,
                mode=mode,
                predicate=predicate,
                schema_mode="merge" if may_grow else None,
                writer_properties=_writer_properties(declared),
                commit_properties=_properties(commit),
            )
            return found.version()

        return self._try(declared, write)

    def _try(self, declared: Table, action: Callable[[], _Result]) -> _Result:
        """Run an action, again after a growing pause where another writer was faster."""
        for attempt in range(N_TRIES):
            try:
                return action()
            except LakeError:
                raise
            except CommitFailedError as error:
                if attempt == N_TRIES - 1:
                    raise LakeError(
                        f"{declared.name}: other writers kept changing it ({N_TRIES} tries); "
                        f"let one writer at a time have a partition: {error}"
                    ) from error
                pause = FIRST_PAUSE_SECONDS * 2**attempt
                time.sleep(pause * random.uniform(0.5, 1.5))
            # The writer raises bare exceptions too, so nothing narrower would do.
            except Exception as error:
                raise LakeError(
                    f"{declared.name}: cannot write to {self.storage.uri(declared.path)}: {error}; "
                    "is the lake's folder writable and has it space?"
                ) from error
        raise AssertionError("unreachable")


def _properties(commit: Commit) -> CommitProperties:
    return CommitProperties(custom_metadata=dict(commit.to_metadata()), max_commit_retries=15)


def _writer_properties(declared: Table) -> WriterProperties:
    has_vectors = any(column.type == "list<f32>" for column in declared.columns.values())
    return _VECTOR_PROPERTIES if has_vectors else _TEXT_PROPERTIES


def _delta_schema(declared: Table, frame: pl.DataFrame) -> Schema:
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


def _gained(declared: Table, found: DeltaTable) -> list[Column]:
    """The nullable columns that the declaration has and the table, made earlier, has not."""
    present = {field.name for field in found.schema().fields}
    columns = declared.columns.values()
    return [column for column in columns if column.is_nullable and column.name not in present]


def _refuse_foreign(declared: Table, found: DeltaTable, uri: str) -> None:
    """Refuse a table whose columns or types are not the declared ones, or grow into them."""
    gained = {column.name for column in _gained(declared, found)}
    fields = _delta_schema(declared, declared.empty()).fields
    wanted = {field.name: field for field in fields if field.name not in gained}
    present = {field.name: field for field in found.schema().fields}
    wrong = [
        name
        for name in {**wanted, **present}
        if name not in present
        or (name not in wanted and not declared.is_open)
        or (name in wanted and _name_type(wanted[name]) != _name_type(present[name]))
    ]
    if wrong or tuple(found.metadata().partition_columns) != declared.partition:
        raise LakeError(
            f"{uri} holds a Delta table that is not {declared.name} as declared "
            f"(differs in: {', '.join(wrong) or 'partition'}); it was made by something else or "
            "by another version of genebench: move it away, or set GENEBENCH_LAKE to a new folder"
        )


def _name_type(found: Field) -> str:
    inner = found.type.element_type if isinstance(found.type, ArrayType) else found.type
    name = inner.type if isinstance(inner, PrimitiveType) else str(inner)
    return f"list<{name}>" if isinstance(found.type, ArrayType) else name

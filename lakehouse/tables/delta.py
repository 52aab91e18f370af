"""Reads and writes the Delta tables of a lake.

Each frame is checked against the declaration of its table (`catalogue`, `schema`) before it is
written. The rules for its content are in the package `expectations`.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable, write_deltalake

from genebench.errors import LakeError
from lakehouse.tables.catalogue import TABLES, table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta_schema import (
    APPEND_ONLY,
    is_append_only,
    new_columns,
    table_properties,
    to_delta_schema,
    writer_properties,
)
from lakehouse.tables.delta_table import (
    commit_properties,
    keep_written,
    open_table,
    open_to_read,
    retry_conflicts,
)
from lakehouse.tables.manifest import (
    CURATE,
    CURATED_TABLES,
    RUNS,
    FinishedRun,
    finished_runs,
)
from lakehouse.tables.schema import Table, add_missing_columns, conform, partition_predicate
from lakehouse.tables.storage import Storage

__all__ = ["Commit", "Delta"]

# Operations that move or remove files without changing rows.
_MAINTENANCE = ("OPTIMIZE", "VACUUM START", "VACUUM END")


class Delta:
    """The Delta tables below one root.

    Args:
        root: A local folder or an S3 address (`s3://bucket/lake`).
        storage_options: Options of the object store, in delta-rs's names.

    Raises:
        LakeError: The root is a file, or an address of a store that is not S3.
    """

    def __init__(self, root: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self.storage = Storage(root, storage_options)
        self._curations: tuple[DeltaTable, list[FinishedRun]] | None = None

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        return self._find(table(name)) is not None

    def create(self, name: str, commit: Commit) -> None:
        """Create an empty table with its declared schema; does nothing where it exists.

        Raises:
            LakeError: The folder is not writable, or holds another table.
        """
        declared = table(name)
        if self._find(declared) is None:
            self._create(declared, declared.empty(), commit)

    def append(self, name: str, frame: pl.DataFrame, commit: Commit) -> int:
        """Append rows to a table and return its new version; creates the table when missing.

        Concurrent appends of several processes do not conflict. An empty frame makes no commit.

        Args:
            name: A table whose mode is `append-only` or `replace partition`.
            frame: The rows.
            commit: Who writes, from what.

        Raises:
            LakeError: The table's mode is `replace`, the frame does not fit the declaration, or
                the folder is not writable.
        """
        declared = table(name)
        if declared.mode == "replace":
            raise LakeError(f"{name} can only be replaced as a whole: use replace, not append")
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
            frame: The new rows; a frame without rows empties the partition.
            commit: Who writes, from what.
            partition: Values of partition columns that every row of the frame has. Required for
                tables replaced by partition; `{}` replaces such a table as a whole.

        Raises:
            LakeError: The table is append-only, the partition is missing or wrong, the frame
                does not fit the declaration, or the folder is not writable.
        """
        declared = table(name)
        if declared.mode == "append-only":
            raise LakeError(f"{name} is append-only: use append, not replace")
        if declared.mode == "replace partition" and partition is None:
            raise LakeError(
                f"{name} is replaced by partition; pass partition= with a value of "
                f"({', '.join(declared.partition)})"
            )
        predicate = partition_predicate(declared, partition or {})
        frame = conform(declared, frame)
        for column, value in (partition or {}).items():
            others = frame[column].unique().drop_nulls().to_list()
            if others not in ([], [value]):
                raise LakeError(
                    f"{name}: rows of {column} {sorted(set(others) - {value})} do not belong "
                    f"to partition {column}={value!r}"
                )
        return self._write(declared, frame, commit, mode="overwrite", predicate=predicate)

    def delete(self, name: str, partition: Mapping[str, str], commit: Commit) -> int:
        """Delete one partition of a table that is replaced by partition; returns the new version.

        Raises:
            LakeError: The table is append-only, or it or the partition columns do not exist.
        """
        declared = table(name)
        if declared.mode == "append-only":
            raise LakeError(
                f"{name} is append-only: nothing deletes from it but `genebench tidy`, which "
                "removes the rows of interrupted runs"
            )
        predicate = partition_predicate(declared, partition)
        if predicate is None:
            raise LakeError(f"{name}: name the partition to delete")
        return self._delete(declared, predicate, commit)

    def scan(self, name: str, version: int | None = None) -> pl.LazyFrame:
        """Read a table lazily; a table that does not exist is an empty frame of its schema.

        Columns that were declared after the table was created are null.

        Args:
            name: A declared table, or a bronze table.
            version: An older version; the current one by default, see `version`.

        Raises:
            LakeError: The version does not exist, or the schema differs from the declaration.
        """
        declared = table(name)
        recorded = self._recorded_version(name) if version is None else version
        found = self._find(declared, recorded)
        if found is None:
            if version is not None:
                raise LakeError(f"{name} has no version {version}: the table does not exist yet")
            return declared.empty().lazy()
        frame = pl.scan_delta(found, storage_options=self.storage.options or None)
        added = new_columns(declared, found)
        others = (f.name for f in found.schema().fields if f.name not in declared.columns)
        return frame.with_columns(
            pl.lit(None, column.dtype).alias(column.name) for column in added
        ).select(*declared.columns, *others)

    def partition_files(self, name: str, partition: Mapping[str, str]) -> list[Path] | None:
        """The Parquet files of one partition.

        Returns:
            None where only a Delta reader can tell which rows are current: in an object store, or
            where the table has deletion vectors or column mapping.
        """
        declared = table(name)
        found = self._find(declared)
        if not self.storage.is_local or found is None or found.protocol().min_reader_version > 1:
            return None
        chosen = [(column, "=", value) for column, value in partition.items()]
        return [Path(file) for file in found.file_uris(file_pruning_predicate=chosen)]

    def version(self, name: str) -> int:
        """The version of a table that `scan` reads, -1 where the table does not exist.

        It is the newest; of the tables of a curation, the one that the manifest names.
        """
        found = self._find(table(name), self._recorded_version(name))
        return -1 if found is None else found.version()

    def curations(self) -> list[FinishedRun]:
        """The finished runs of curate, the earliest first."""
        # Each read of a curated table asks for them; `_find` returns the same object until the
        # next commit.
        found = self._find(table(RUNS))
        if found is None:
            return []
        if self._curations is None or self._curations[0] is not found:
            rows = self.scan(RUNS).filter(pl.col("verb") == CURATE).collect()
            self._curations = found, finished_runs(rows)
        return self._curations[1]

    def _recorded_version(self, name: str) -> int | None:
        """The version that the last curation recorded; None for a table that is not curated.

        None too in a lake that an earlier version of genebench curated.
        """
        if name not in CURATED_TABLES:
            return None
        curations = self.curations()
        return curations[-1].versions.get(name) if curations else None

    def versions_written_by(self, run_id: str) -> dict[str, int]:
        """The last version of each table that a run wrote, among its last hundred commits."""
        written = {}
        for name in self._list_folders():
            # A table that cannot be opened is none that the run wrote.
            with suppress(LakeError):
                mine = (one for one in self.history(name, 100) if one.get("flow_run") == run_id)
                if last := next(mine, None):
                    written[name] = int(last["version"])
        return written

    def history(self, name: str, limit: int | None = None) -> list[dict[str, Any]]:
        """The commits of a table, newest first, with `flow_run`, `code`, `inputs`, `profile`."""
        found = self._find(table(name))
        return [] if found is None else found.history(limit)

    def last_write(self, name: str) -> dict[str, Any]:
        """The newest commit that is not a compaction or vacuum; {} where the table is missing."""
        # Rarely are many commits in a row maintenance, so the whole log is read only if needed.
        for limit in (8, None):
            for entry in self.history(name, limit):
                if entry.get("operation") not in _MAINTENANCE:
                    return entry
        return {}

    def list_tables(self) -> list[str]:
        """The names of all tables that exist, bronze tables included, in the catalogue's order."""
        return [name for name, error in self._try_tables().items() if error is None]

    def list_unreadable(self) -> dict[str, str]:
        """The folders that hold no table as it is declared, each with the error message."""
        return {name: error for name, error in self._try_tables().items() if error}

    def _try_tables(self) -> dict[str, str | None]:
        """Each folder that is named like a table; the message where it cannot be opened."""
        tried: dict[str, str | None] = {}
        for name in self._list_folders():
            try:
                if self.exists(name):
                    tried[name] = None
            except LakeError as error:
                tried[name] = str(error)
        return tried

    def _list_folders(self) -> list[str]:
        """The names of the folders that are named like a table, in the catalogue's order."""
        present = [
            f"{layer}.{noun}"
            for layer in ("bronze", "silver", "gold", "audit")
            for noun in self.storage.list_folders(layer)
        ]
        order = {name: number for number, name in enumerate(TABLES)}
        present.sort(key=lambda name: (not name.startswith("bronze."), order.get(name, -1), name))
        return present

    def _find(self, declared: Table, version: int | None = None) -> DeltaTable | None:
        return open_to_read(self.storage, declared, version)

    def _open(self, declared: Table) -> DeltaTable:
        found = open_table(self.storage, declared)
        if found is None:
            raise LakeError(f"{declared.name} does not exist yet in {self.storage.root}")
        return found

    def _create(self, declared: Table, frame: pl.DataFrame, commit: Commit) -> None:
        # The commit that creates an empty table carries no inputs and no curation key: a writer
        # that is stopped before it writes the rows must not look as if it had written them.
        without_lineage = Commit(commit.flow_run, commit.code, profile=commit.profile)

        def create() -> None:
            DeltaTable.create(
                self.storage.uri(declared.path),
                to_delta_schema(declared, frame),
                mode="ignore",
                partition_by=list(declared.partition) or None,
                description=declared.description,
                configuration=table_properties(declared),
                storage_options=self.storage.options or None,
                commit_properties=commit_properties(without_lineage),
            )

        retry_conflicts(create, declared, self.storage)

    def _write(
        self, declared: Table, frame: pl.DataFrame, commit: Commit, mode: Any, predicate: Any = None
    ) -> int:
        def write() -> int:
            found = open_table(self.storage, declared)
            if found is None:
                self._create(declared, frame, commit)
                found = self._open(declared)
            if declared.mode == "append-only" and not is_append_only(found):
                # A table of an earlier version, or one whose cleaning was interrupted.
                found.alter.set_table_properties({APPEND_ONLY: "true"})
            present = [field.name for field in found.schema().fields]
            is_extensible = declared.allows_extra_columns
            rows = add_missing_columns(frame, present) if is_extensible else frame
            # Two writers that replace an empty table remove no file, so delta-rs (1.6.6) sees a
            # conflict between them only if they name the rows that they replace.
            is_empty = mode == "overwrite" and not found.file_uris()
            write_deltalake(
                found,
                rows,
                mode=mode,
                predicate=predicate or ("true" if is_empty else None),
                schema_mode="merge" if is_extensible or new_columns(declared, found) else None,
                writer_properties=writer_properties(declared),
                commit_properties=commit_properties(commit),
            )
            keep_written(self.storage, declared, found)
            return found.version()

        return retry_conflicts(write, declared, self.storage)

    def _delete(self, declared: Table, predicate: str, commit: Commit) -> int:
        def delete() -> int:
            found = self._open(declared)
            found.delete(predicate, commit_properties=commit_properties(commit))
            return found.version()

        return retry_conflicts(delete, declared, self.storage)

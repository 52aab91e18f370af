"""Maintenance of Delta tables: compaction, vacuum, and the only deletion of append-only rows."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.delta_schema import APPEND_ONLY, is_append_only, writer_properties
from lakehouse.tables.delta_table import commit_properties, open_table, retry_conflicts
from lakehouse.tables.schema import partition_predicate

# Reading a table opens each of its files, and each append leaves one file in a partition.
MAX_FILES = 20
RETENTION_DAYS = 30


def count_files(delta: Delta, name: str) -> int:
    """Count the files of the partition that has the most; 0 where the table does not exist."""
    declared = table(name)
    found = open_table(delta.storage, declared)
    if found is None:
        return 0
    files = pl.DataFrame(found.get_add_actions(flatten=True))
    if not declared.partition or files.is_empty():
        return files.height
    columns = [f"partition.{column}" for column in declared.partition]
    return int(files.group_by(columns).len()["len"].max() or 0)  # type: ignore[arg-type]


def compact_table(delta: Delta, name: str, commit: Commit, max_files: int = MAX_FILES) -> int:
    """Merge the small files of a table where a partition has more than `max_files`.

    Rows and their order within a file stay; readers of other versions are not disturbed.

    Returns:
        The number of files merged.
    """
    declared = table(name)
    if count_files(delta, name) <= max_files:
        return 0

    def compact() -> int:
        found = open_table(delta.storage, declared)
        if found is None:
            return 0
        done = found.optimize.compact(
            writer_properties=writer_properties(declared),
            commit_properties=commit_properties(commit),
        )
        return int(done["numFilesRemoved"])

    return retry_conflicts(compact, declared, delta.storage)


def remove_rows(
    delta: Delta,
    name: str,
    partition: Mapping[str, str],
    values: Mapping[str, Collection[str]],
    commit: Commit,
) -> int:
    """Delete rows from an append-only table.

    Append-only is switched off for the deletion and on again after it. If the process is killed in
    between, the next append switches it on.

    Args:
        delta: The tables of the lake.
        name: The table.
        partition: The partition that holds the rows.
        values: Column to the values of the rows to delete; a row must match in every column.
        commit: The metadata of the commit.

    Returns:
        The number of rows deleted.
    """
    declared = table(name)
    terms = [str(partition_predicate(declared, partition))]
    for column, given in values.items():
        quoted = (value.replace("'", "''") for value in sorted(given))
        terms.append(f"{column} IN (" + ", ".join(f"'{value}'" for value in quoted) + ")")
    predicate = " AND ".join(terms)

    def remove() -> int:
        found = open_table(delta.storage, declared)
        if found is None:
            return 0
        found.alter.set_table_properties({APPEND_ONLY: "false"})
        try:
            done = found.delete(predicate, commit_properties=commit_properties(commit))
        finally:
            found.alter.set_table_properties({APPEND_ONLY: "true"})
        return int(done["num_deleted_rows"])

    return retry_conflicts(remove, declared, delta.storage)


def restore_append_only(delta: Delta, name: str, *, is_dry: bool = False) -> bool:
    """Set `delta.appendOnly` on an append-only table that lacks it; whether it lacked it."""
    declared = table(name)
    found = open_table(delta.storage, declared)
    if found is None or declared.mode != "append-only" or is_append_only(found):
        return False
    if not is_dry:
        found.alter.set_table_properties({APPEND_ONLY: "true"})
    return True


def list_kept_versions(
    history: Sequence[Mapping[str, object]], named: Collection[int]
) -> list[int]:
    """List the versions that a vacuum keeps readable, whatever their age.

    They are the versions that a finished run has recorded (`named`), and the newest version of each
    day, which `Lake.at("2026-11-20")` reads.

    Args:
        history: The commits of a table, newest first, with `version` and `timestamp` (ms UTC).
        named: Versions that finished runs have recorded.
    """
    days: dict[dt.date, int] = {}
    for entry in history:
        day = dt.datetime.fromtimestamp(int(str(entry["timestamp"])) / 1000, dt.UTC).date()
        days.setdefault(day, int(str(entry["version"])))
    return sorted({*days.values(), *named})


def vacuum_table(
    delta: Delta, name: str, named: Collection[int] = (), *, is_dry: bool = False
) -> int:
    """Delete the files that no version of the last 30 days and no kept version uses.

    Kept versions are those of `list_kept_versions`. Files that interrupted writers left are deleted
    after the same time.

    Returns:
        The number of files deleted, or to be deleted.
    """
    found = open_table(delta.storage, table(name))
    if found is None:
        return 0
    kept = list_kept_versions(found.history(), named)
    return len(
        found.vacuum(
            retention_hours=24 * RETENTION_DAYS, dry_run=is_dry, full=True, keep_versions=kept
        )
    )

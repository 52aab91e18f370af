"""Reads the tables of a lake: their newest version, an older one, or the one at a given time."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from genebench.errors import LakeError
from lakehouse.tables.delta import Delta
from lakehouse.tables.manifest import CURATED_TABLES, FinishedRun

When = dt.datetime | dt.date | str


class Tables:
    """Read access to the tables of a lake.

    Args:
        root: Folder or S3 URL.
        storage_options: Options of the object store, in delta-rs's names.
        as_of: Read the version of every table at this time; the newest by default.
    """

    def __init__(
        self,
        root: str | Path,
        storage_options: Mapping[str, str] | None = None,
        as_of: dt.datetime | None = None,
    ) -> None:
        self.delta = Delta(root, storage_options)
        self.as_of = as_of

    def at(self, when: When) -> Self:
        """The lake at a given time, by Delta's time travel.

        Args:
            when: A UTC time, a day (meaning its end), or an ISO 8601 string of either.

        Raises:
            LakeError: The string is not a time.
        """
        return type(self)(self.delta.storage.root, self.delta.storage.options, read_time(when))

    def table(self, name: str, version: int | None = None, at: When | None = None) -> pl.LazyFrame:
        """Read a table, such as `silver.tasks`; `genebench show <table>` describes its columns.

        Args:
            name: `layer.noun`.
            version: A version number from `history`; the newest by default.
            at: A time: the version that was the newest then is read.

        Raises:
            LakeError: The table or version does not exist; suggests the nearest name.
        """
        when = self.as_of if at is None else read_time(at)
        if version is None and when is not None:
            version = self._version_at(name, when)
            if version is None:
                return self.delta.scan(name).clear()
        return self.delta.scan(name, version)

    def version(self, name: str) -> int:
        """The version of a table that `table` reads; -1 where it does not exist."""
        if self.as_of is None:
            return self.delta.version(name)
        found = self._version_at(name, self.as_of)
        return -1 if found is None else found

    def _version_at(self, name: str, when: dt.datetime) -> int | None:
        """The current version at a time; None where the table did not exist yet."""
        limit = when.timestamp() * 1000
        versions = [
            entry["version"] for entry in self.delta.history(name) if entry["timestamp"] <= limit
        ]
        if name in CURATED_TABLES and (curations := self.delta.curations()):
            recorded = [one.versions[name] for one in curations if one.finished_at <= when]
            if recorded:
                return recorded[-1]
            # Only versions of an earlier version of genebench are older than the first record.
            versions = [one for one in versions if one < curations[0].versions[name]]
        return max(versions, default=None)

    def curation(self) -> FinishedRun | None:
        """The finished curation whose tables are current, or were at the time; None without one."""
        limit = self.as_of
        finished = self.delta.curations()
        known = [one for one in finished if limit is None or one.finished_at <= limit]
        return known[-1] if known else None

    def history(self, name: str) -> pl.DataFrame:
        """The commits of a table, newest first.

        Returns:
            version (i64), committed_at (UTC), operation, flow_run, code and inputs (JSON of
            snapshot ids or table versions by name); no rows where the table does not exist.

        Raises:
            LakeError: No table has this name; suggests the nearest.
        """
        fields = ("operation", "flow_run", "code", "inputs")
        rows = [
            {
                "version": entry["version"],
                "committed_at": dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC),
                **{key: entry.get(key) for key in fields},
            }
            for entry in self.delta.history(name)
        ]
        schema = pl.Schema({"version": pl.Int64(), "committed_at": pl.Datetime("us", "UTC")})
        schema |= dict.fromkeys(fields, pl.String())
        return pl.DataFrame(rows, schema=schema)

    def counts(self) -> dict[str, int]:
        """The number of rows of each table that exists."""
        return {
            name: int(self.table(name).select(pl.len()).collect().item())
            for name in self.delta.list_tables()
        }

    def current_snapshots(
        self, file_ids: Sequence[str], versions: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The current snapshot of each source file.

        Args:
            file_ids: Files, such as `hpa.proteinatlas`.
            versions: File to its wanted version; other files get the snapshot retrieved last.

        Returns:
            File to snapshot_id; files that were never fetched are left out.
        """
        rows = self.table("bronze.snapshots").collect().sort("retrieved_at")
        current = {}
        for file_id in file_ids:
            source, _, file = file_id.partition(".")
            mine = rows.filter((pl.col("source") == source) & (pl.col("file") == file))
            if versions and file_id in versions:
                mine = mine.filter(pl.col("version") == versions[file_id])
            if mine.height:
                current[file_id] = mine["snapshot_id"][-1]
        return current

    def raw(self, file_id: str, snapshot_id: str) -> pl.DataFrame:
        """The rows of one snapshot of a source file, in the file's order."""
        name = "bronze." + file_id.replace(".", "_")
        return (
            self.table(name)
            .filter(pl.col("snapshot_id") == snapshot_id)
            .collect()
            .sort("row_number")
            .drop("row_number", "snapshot_id")
        )

    def has_raw(self, file_id: str, snapshot_id: str) -> bool:
        """Whether the lake has rows of one snapshot of a source file."""
        rows = self.table("bronze." + file_id.replace(".", "_"))
        is_of_it = pl.col("snapshot_id") == snapshot_id
        return bool(rows.filter(is_of_it).head(1).collect().height)

    def arrow(self, name: str) -> Any:
        """A table as a pyarrow Table, which DuckDB and pandas read without a copy.

        Raises:
            LakeError: No table has this name.
        """
        return self.table(name).collect().to_arrow()


def read_time(when: When) -> dt.datetime:
    """Convert a time, a day or an ISO 8601 string to UTC; a day means its end.

    >>> read_time("2026-11-20").isoformat()
    '2026-11-20T23:59:59.999999+00:00'

    Raises:
        LakeError: The string is not a time.
    """
    moment = _parse(when) if isinstance(when, str) else when
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.combine(moment, dt.time.max)
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def _parse(text: str) -> dt.date:
    for read in (dt.date.fromisoformat, dt.datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise LakeError(f"{text!r} is not a time; write 2026-11-20 or 2026-11-20T12:00:00")

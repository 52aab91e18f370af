"""Whole tables of a lake: at their newest, at an older version, or as they were at a time."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from genebench.errors import LakeError
from lakehouse.tables.delta import Delta

When = dt.datetime | dt.date | str


class Tables:
    """The tables of a lake.

    Args:
        root: Folder or S3 URL.
        storage_options: Options of the object store, in delta-rs's names.
        as_of: Read every table as it was at this time; as it is now by default.
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
        """The same lake as it was at a time: Delta's time travel over all tables at once.

        Args:
            when: A UTC time, a day (its end is meant), or either in ISO 8601.

        Raises:
            LakeError: The text is no time.
        """
        return type(self)(self.delta.storage.root, self.delta.storage.options, read_time(when))

    def table(self, name: str, version: int | None = None, at: When | None = None) -> pl.LazyFrame:
        """Read any table, such as `silver.tasks`; columns and units: `genebench show <table>`.

        Args:
            name: `layer.noun`.
            version: An older version, as `history` numbers them.
            at: A time; the version that was the newest then.

        Raises:
            LakeError: There is no such table or version; suggests the nearest name.
        """
        when = self.as_of if at is None else read_time(at)
        if version is None and when is not None:
            version = self._version_at(name, when)
            if version is None:
                return self.delta.scan(name).clear()
        return self.delta.scan(name, version)

    def _version_at(self, name: str, when: dt.datetime) -> int | None:
        """The version that was the newest at a time, None where the table did not exist yet."""
        limit = when.timestamp() * 1000
        versions = [
            entry["version"] for entry in self.delta.history(name) if entry["timestamp"] <= limit
        ]
        return max(versions, default=None)

    def history(self, name: str) -> pl.DataFrame:
        """The commits of a table, newest first.

        Returns:
            version (i64), committed_at (UTC), operation, flow_run, code and inputs (JSON of
            snapshot ids or table versions by name); no rows where the table does not exist.

        Raises:
            LakeError: No table has this name; suggests the nearest.
        """
        words = ("operation", "flow_run", "code", "inputs")
        rows = [
            {
                "version": entry["version"],
                "committed_at": dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC),
                **{key: entry.get(key) for key in words},
            }
            for entry in self.delta.history(name)
        ]
        schema = pl.Schema({"version": pl.Int64(), "committed_at": pl.Datetime("us", "UTC")})
        schema |= dict.fromkeys(words, pl.String())
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
        """The last good snapshot of each source file.

        Args:
            file_ids: Files, such as `hpa.proteinatlas`.
            versions: File to the version wanted; the last retrieved otherwise.

        Returns:
            File to snapshot_id; files never fetched are left out.
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
        """One snapshot of a source file as delivered, in the file's order."""
        name = "bronze." + file_id.replace(".", "_")
        return (
            self.table(name)
            .filter(pl.col("snapshot_id") == snapshot_id)
            .collect()
            .sort("row_number")
            .drop("row_number", "snapshot_id")
        )

    def arrow(self, name: str) -> Any:
        """A table as a pyarrow Table, which DuckDB and pandas read without copying.

        Raises:
            LakeError: No table has this name.
        """
        return self.table(name).collect().to_arrow()


def read_time(when: When) -> dt.datetime:
    """A time in UTC; a day stands for its end.

    >>> read_time("2026-11-20").isoformat()
    '2026-11-20T23:59:59.999999+00:00'

    Raises:
        LakeError: The text is no time.
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
    raise LakeError(f"{text!r} is no time; write 2026-11-20 or 2026-11-20T12:00:00")

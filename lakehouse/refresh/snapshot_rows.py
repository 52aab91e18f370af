"""A snapshot of a source file, and its rows in the bronze tables."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.schema import conform


@dataclass(frozen=True)
class Snapshot:
    """One stored version of one source file.

    Args:
        snapshot_id: `hpa_23_0_proteinatlas_a1b2c3d4`: source, version, file, start of the hash.
        source: Id of the source.
        version: The version, in the numbering of the source.
        file: Name of the file within its source.
        url: The address it was fetched from.
        sha256: Hash of the bytes; also their file name below `snapshots/`.
        size_bytes: Number of bytes.
        retrieved_at: Time of the download, UTC.
        published_on: Date of `Last-Modified` as `YYYY-MM-DD`, if the server sent it.
        etag: The server's ETag, if any.
        license: The licence of the source.
        is_complete: Whether it contains the whole version.
        is_composite: Whether it mixes versions.
        is_new: Whether it was not the current snapshot of its file before this download.
        companions: Snapshots of the files read together with it, by role.
    """

    snapshot_id: str
    source: str
    version: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    retrieved_at: dt.datetime
    published_on: str | None
    etag: str | None
    license: str
    is_complete: bool
    is_composite: bool
    is_new: bool = True
    companions: Mapping[str, "Snapshot"] = field(default_factory=dict)

    @property
    def file_id(self) -> str:
        """`source.file`, the name used in tasks, mirrors and the lock file."""
        return f"{self.source}.{self.file}"


def to_snapshot_rows(snapshots: Iterable[Snapshot], run_id: str) -> pl.DataFrame:
    """The rows of `bronze.snapshots` for the new ones of these snapshots and their companions."""
    flat = [one for found in snapshots for one in (*found.companions.values(), found)]
    declared = table("bronze.snapshots")
    rows = {
        (found.snapshot_id, found.retrieved_at): {
            name: run_id if name == "run_id" else getattr(found, name) for name in declared.columns
        }
        for found in flat
        if found.is_new
    }
    return conform(declared, pl.DataFrame(list(rows.values()), schema=declared.schema))


def to_reading_row(found: Snapshot, reading_digest: str, commit: Commit) -> pl.DataFrame:
    """The row of `bronze.readings` of a parse of a snapshot.

    Args:
        found: The snapshot.
        reading_digest: Digest of the declaration of its reader.
        commit: The metadata of the run's commits.
    """
    row = {
        "snapshot_id": found.snapshot_id,
        "source": found.source,
        "file": found.file,
        "reading_digest": reading_digest,
        "profile_id": commit.profile,
        "run_id": commit.flow_run,
        "read_at": dt.datetime.now(dt.UTC),
    }
    return pl.DataFrame([row], schema=table("bronze.readings").schema)


def read_snapshot(row: pl.DataFrame) -> dict[str, Any]:
    """The fields of the snapshot in a frame with one row of `bronze.snapshots`."""
    return row.drop("run_id").row(0, named=True)


def to_bronze_rows(rows: pl.DataFrame, found: Snapshot) -> pl.DataFrame:
    """Add the columns row_number (from 0) and snapshot_id to the rows of a source file."""
    return rows.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row_number"),
        pl.lit(found.snapshot_id).alias("snapshot_id"),
    )

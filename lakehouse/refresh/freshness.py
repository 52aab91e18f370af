"""Tells how old the sources of a lake are, and which are older than they declare."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from genebench.sources.declaration import Source, version_order
from lakehouse.tables.time_travel import Tables

FRESH, STALE, NO_LIMIT, MISSING = "fresh", "stale", "no limit", "not in the lake"
FRESHNESS_SCHEMA = pl.Schema(
    {
        "source": pl.String,
        "version": pl.String,
        "dated_on": pl.Date,
        "dated_by": pl.String,
        "retrieved_on": pl.Date,
        "age_days": pl.Int64,
        "fresh_within_days": pl.Int64,
        "state": pl.String,
    }
)


def read_freshness(
    tables: Tables,
    sources: Mapping[str, Source],
    file_ids: Iterable[str],
    versions: Mapping[str, str] | None = None,
    now: dt.datetime | None = None,
) -> pl.DataFrame:
    """Read the version and age of each source, as current now or at the time of the tables.

    Args:
        tables: The tables of the lake.
        sources: Source id to its declaration.
        file_ids: The source files, such as `hpa.proteinatlas`.
        versions: File to its wanted version; see `Tables.current_snapshots`.
        now: The time to compare with; by default that of the tables, or the current time.

    Returns:
        `FRESHNESS_SCHEMA`, one row for each source, stale ones first. Of several files, the oldest
        counts. `dated_on` is the day of the release, by `dated_by`: the declaration or the version
        (`release`), the server's Last-Modified (`server`), or the day on which the bytes came into
        the lake (`retrieval`). `state` is fresh, stale, no limit (none is declared) or not in the
        lake.
    """
    today = (now or tables.as_of or dt.datetime.now(dt.UTC)).date()
    files = list(file_ids)
    current = tables.current_snapshots(files, versions)
    retrieved = tables.table("bronze.snapshots").collect().sort("retrieved_at")
    known = {row["snapshot_id"]: row for row in retrieved.iter_rows(named=True)}
    rows = []
    for source_id in sorted({name.partition(".")[0] for name in files}):
        source = sources[source_id]
        mine = [known[current[name]] for name in files if _is_of(name, source_id, current)]
        rows.append(_describe(source, mine, today))
    order = [STALE, MISSING, FRESH, NO_LIMIT]
    rows.sort(key=lambda row: (order.index(row["state"]), row["source"]))
    return pl.DataFrame(rows, schema=FRESHNESS_SCHEMA)


def _is_of(file_id: str, source_id: str, current: Mapping[str, str]) -> bool:
    return file_id.partition(".")[0] == source_id and file_id in current


def _describe(source: Source, snapshots: list[dict[str, Any]], today: dt.date) -> dict[str, Any]:
    limit = None if source.fresh_within is None else source.fresh_within.days
    row: dict[str, Any] = dict.fromkeys(FRESHNESS_SCHEMA)
    row |= {"source": source.id, "fresh_within_days": limit, "state": MISSING}
    if not snapshots:
        return row
    dated_on, dated_by = min(_date(source, one) for one in snapshots)
    age = (today - dated_on).days
    versions = sorted({str(one["version"]) for one in snapshots}, key=version_order)
    return row | {
        "version": ", ".join(versions),
        "dated_on": dated_on,
        "dated_by": dated_by,
        "retrieved_on": min(_retrieval_day(one) for one in snapshots),
        "age_days": age,
        "state": NO_LIMIT if limit is None else STALE if age > limit else FRESH,
    }


def _date(source: Source, snapshot: Mapping[str, Any]) -> tuple[dt.date, str]:
    """The day from which a snapshot's age counts, and by what it is known."""
    released = source.release_day(str(snapshot["version"]))
    if released is not None:
        return released, "release"
    if snapshot["published_on"]:
        return dt.date.fromisoformat(str(snapshot["published_on"])), "server"
    return _retrieval_day(snapshot), "retrieval"


def _retrieval_day(snapshot: Mapping[str, Any]) -> dt.date:
    retrieved_at: dt.datetime = snapshot["retrieved_at"]
    return retrieved_at.date()


def freshness_cells(rows: pl.DataFrame) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the head and the cells of a table of `read_freshness`."""
    head = ["source", "version", "released", "known by", "retrieved", "age", "limit", "state"]
    cells = [
        (
            *(row["source"], row["version"], row["dated_on"], row["dated_by"]),
            *(row["retrieved_on"], _days(row["age_days"]), _days(row["fresh_within_days"])),
            row["state"],
        )
        for row in rows.iter_rows(named=True)
    ]
    return head, cells


def _days(n: int | None) -> str | None:
    return None if n is None else f"{n:,} days"


def freshness_markdown(rows: pl.DataFrame) -> str:
    """Render the result of `read_freshness` as a Markdown table."""
    head, cells = freshness_cells(rows)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [
        f"| {' | '.join('–' if cell is None else str(cell) for cell in row)} |" for row in cells
    ]
    return "\n".join(lines)

"""Checks the tables of a lake against their declarations, their files and the manifest."""

import datetime as dt
from collections.abc import Iterator

from genebench.errors import LakeError
from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta
from lakehouse.tables.delta_schema import is_append_only
from lakehouse.tables.delta_table import open_table
from lakehouse.tables.manifest import CURATED_TABLES, RUNS
from lakehouse.tables.table_files import find_damaged_files
from lakehouse.tables.time_travel import Tables
from lakehouse.upkeep.findings import TIDY, Finding, mend_table

# Commits of the newest runs; older runs are not at work any more.
N_COMMITS = 100


def check_declarations(tables: Tables) -> Iterator[Finding]:
    """Find tables that cannot be opened, differ from their declaration, or may lose rows."""
    delta = tables.delta
    for name, error in delta.list_unreadable().items():
        yield Finding(name, error, mend_table(delta.storage, name))
    for name in delta.list_tables():
        found = open_table(delta.storage, table(name))
        if found is not None and table(name).mode == "append-only" and not is_append_only(found):
            what = "delta.appendOnly is off: other tools may remove rows"
            yield Finding(name, what, TIDY)


def check_files(tables: Tables) -> Iterator[Finding]:
    """Find data files that a current version needs and that are missing or truncated."""
    delta = tables.delta
    recorded = _recorded_versions(delta)
    for name in delta.list_tables():
        mend = mend_table(delta.storage, name)
        try:
            damaged = find_damaged_files(delta, name, recorded.get(name))
        except LakeError as error:
            yield Finding(
                name, f"the last curation recorded its version {recorded[name]}: {error}", mend
            )
            continue
        if damaged:
            what = f"{len(damaged):,} data files are missing or truncated, such as {damaged[0]}"
            yield Finding(name, what, mend)


def check_manifest(tables: Tables) -> Iterator[Finding]:
    """Find tables of the last curation that are gone, and commits that no finished run recorded."""
    delta = tables.delta
    for name, version in _recorded_versions(delta).items():
        if not delta.exists(name):
            yield Finding(
                name, f"it is gone; the last curation wrote version {version}", "`genebench curate`"
            )
            continue
        newest = open_table(delta.storage, table(name))
        if newest is not None and newest.version() > version:
            what = (
                f"{newest.version() - version} versions after version {version}, which the last "
                "curation recorded and readers read: of an interrupted curation, of one at work, "
                "or of another tool"
            )
            yield Finding(name, what, "`genebench curate --force`", is_fault=False)
    yield from _find_unrecorded_runs(delta)


def _recorded_versions(delta: Delta) -> dict[str, int]:
    curations = delta.curations()
    return dict(curations[-1].versions) if curations else {}


def _find_unrecorded_runs(delta: Delta) -> Iterator[Finding]:
    """Find runs that wrote tables and are not recorded as finished."""
    finished = set(delta.scan(RUNS).select("run_id").collect()["run_id"])
    runs: dict[str, tuple[int, set[str]]] = {}
    for name in delta.list_tables():
        # Audit tables are written before the rows that they are about.
        if name.startswith("audit.") or name in CURATED_TABLES:
            continue
        for commit in delta.history(name, N_COMMITS):
            run = commit.get("flow_run")
            is_write = commit.get("operation") == "WRITE"
            if run is None or run in finished or not finished or not is_write:
                continue
            last, names = runs.get(run, (0, set()))
            runs[run] = (max(last, commit["timestamp"]), {*names, name})
    for run, (last, names) in runs.items():
        when = dt.datetime.fromtimestamp(last / 1000, dt.UTC)
        what = (
            f"wrote {', '.join(sorted(names))}, the last time at {when:%Y-%m-%d %H:%M:%S} UTC, and "
            "is not recorded as finished: it is at work, or was stopped"
        )
        yield Finding(
            f"run {run}", what, "the same command again, if it was stopped", is_fault=False
        )


def check_double_rows(tables: Tables) -> Iterator[Finding]:
    """Find rows of the record tables and snapshots that occur twice."""
    for name in ("bronze.snapshots", "bronze.readings", "silver.curations", RUNS):
        key = list(table(name).key)
        rows = tables.table(name).select(key).collect()
        if n_double := rows.height - rows.n_unique():
            what = f"{n_double:,} rows occur twice"
            yield Finding(name, what, mend_table(tables.delta.storage, name))

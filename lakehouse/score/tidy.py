"""Tidies a lake: removes what interrupted runs left, compacts small files, deletes unused files.

Readers never see what is removed here, so a lake works without it; it takes less space and is read
faster.
"""

import datetime as dt

import polars as pl

from lakehouse.score.evidence import EVIDENCE, find_unrecorded
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import (
    MAX_FILES,
    compact_table,
    count_files,
    remove_rows,
    restore_append_only,
    vacuum_table,
)
from lakehouse.tables.manifest import RUNS, finished_runs
from lakehouse.tables.time_travel import Tables

# A run commits its scores and their evaluations within seconds of each other.
DEAD_AFTER = dt.timedelta(hours=24)


def tidy_lake(
    tables: Tables, commit: Commit, *, is_dry: bool, now: dt.datetime | None = None
) -> dict[str, str]:
    """Tidy the tables of a lake; the caller holds the writer lock.

    Args:
        tables: The tables of the lake.
        commit: The metadata of the commits.
        is_dry: Only tell what would be done.
        now: The time to compare with; the current time by default.

    Returns:
        Table to what was done to it, or what would be done; tables without work are left out.
    """
    found: dict[str, list[str]] = {}
    lost = find_lost_scores(tables)
    if lost.height:
        n_lost = int(lost["n_rows"].sum())
        found["gold.evaluations"] = [f"{n_lost:,} evaluations without scores"]
    dead = find_dead_runs(tables, now or dt.datetime.now(dt.UTC))
    left = {"gold.evaluations": lost}
    for name in EVIDENCE:
        left[name] = find_unrecorded(tables, name).filter(pl.col("run_id").is_in(dead))
        if left[name].height:
            n_rows = int(left[name]["n_rows"].sum())
            found.setdefault(name, []).append(f"{n_rows:,} rows of interrupted runs")
    if not is_dry:
        for name, rows in left.items():
            _remove(tables, name, rows, commit)
    versions = list_recorded_versions(tables)
    for name in tables.delta.list_tables():
        done = _tidy_files(tables, name, versions.get(name, set()), commit, is_dry=is_dry)
        if done:
            found.setdefault(name, []).extend(done)
    return {name: ", ".join(texts) for name, texts in found.items()}


def _tidy_files(
    tables: Tables, name: str, versions: set[int], commit: Commit, *, is_dry: bool
) -> list[str]:
    """Tidy one table: its property, its small files, its unused files."""
    found = []
    if restore_append_only(tables.delta, name, is_dry=is_dry):
        found.append("delta.appendOnly was off")
    if table(name).mode == "append-only" and count_files(tables.delta, name) > MAX_FILES:
        found.append("small files to merge")
        if not is_dry:
            compact_table(tables.delta, name, commit)
    n_files = vacuum_table(tables.delta, name, versions, is_dry=is_dry)
    if n_files:
        found.append(f"{n_files:,} unused files")
    return found


def _remove(tables: Tables, name: str, rows: pl.DataFrame, commit: Commit) -> None:
    for row in rows.iter_rows(named=True):
        place = {"family": row["family"], "encoder_id": row["encoder_id"]}
        chosen = {"run_id": [row["run_id"]], "evaluation_key": row["keys"]}
        # Rows of an earlier version of genebench have no batch; a recorded key has its rows in
        # this run.
        if row["batch_id"] is not None:
            chosen["batch_id"] = [row["batch_id"]]
        remove_rows(tables.delta, name, place, chosen, commit)


def find_lost_scores(tables: Tables) -> pl.DataFrame:
    """Count the evaluations on record whose scores are missing, by run and batch.

    Scores are written before their evaluation, so theirs were removed by another tool, or are in a
    file that was lost. Without their evaluation, `genebench score` computes them again.

    Returns:
        The columns of `lakehouse.score.evidence.find_unrecorded`.
    """
    key = ["evaluation_key", "run_id", "batch_id"]
    scores = tables.table("gold.scores").select(key).unique()
    return (
        tables.table("gold.evaluations")
        .filter(pl.col("status") == "ok")
        .join(scores, on=key, how="anti", nulls_equal=True)
        .group_by("family", "encoder_id", "run_id", "batch_id")
        .agg(pl.col("evaluation_key").unique().sort().alias("keys"), pl.len().alias("n_rows"))
        .sort("family", "encoder_id", "run_id", "batch_id")
        .collect()
    )


def find_dead_runs(tables: Tables, now: dt.datetime) -> list[str]:
    """List the runs that will commit nothing more.

    They are recorded as finished, or the last row that they wrote is older than `DEAD_AFTER`.
    """
    finished = tables.table(RUNS).select("run_id").collect()["run_id"]
    wrote = pl.concat(
        tables.table(name).select("run_id", "evaluated_at")
        for name in ("gold.evaluations", "gold.scores")
    )
    last = wrote.group_by("run_id").agg(pl.col("evaluated_at").max()).collect()
    silent = last.filter(pl.col("evaluated_at") < now - DEAD_AFTER)["run_id"]
    return pl.concat([finished, silent]).unique().sort().to_list()


def list_recorded_versions(tables: Tables) -> dict[str, set[int]]:
    """List the versions of each table that finished runs have recorded; a vacuum keeps them."""
    versions: dict[str, set[int]] = {}
    for run in finished_runs(tables.table(RUNS).collect()):
        for name, version in run.versions.items():
            versions.setdefault(name, set()).add(version)
    return versions

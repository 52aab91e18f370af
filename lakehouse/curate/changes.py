"""What became of samples between two states of the silver tables: added, gone, labelled anew."""

import datetime as dt
from collections.abc import Mapping

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

SCHEMA = pl.Schema(
    {
        "task_id": pl.String,
        "n_before": pl.Int64,
        "n_now": pl.Int64,
        "n_added": pl.Int64,
        "n_gone": pl.Int64,
        "n_relabelled": pl.Int64,
        "snapshot_before": pl.String,
        "snapshot_now": pl.String,
    }
)
_READ = ("silver.samples", "silver.labels", "silver.tasks")


def changed_samples(
    before: Mapping[str, pl.DataFrame | None], now: Mapping[str, pl.DataFrame | None]
) -> pl.DataFrame:
    """Count what changed in each task that both states have.

    Args:
        before: `silver.samples`, `silver.labels` and `silver.tasks` of the earlier state.
        now: The same of the later one.

    Returns:
        `SCHEMA`, one row for each task with a change; tasks of one state alone are left out.
    """
    old, new = ({name: _known(state, name) for name in _READ} for state in (before, now))
    digests = ["task_id", "label_digest", "snapshot_id"]
    both = (
        new["silver.tasks"]
        .filter(pl.col("parent_task_id").is_null())
        .select(digests)
        .join(old["silver.tasks"].select(digests), on="task_id", suffix="_before")
        .filter(pl.col("label_digest") != pl.col("label_digest_before"))
    )
    if not both.height:
        return pl.DataFrame(schema=SCHEMA)
    joined = _outcomes(new, both).join(
        _outcomes(old, both), on=["task_id", "sample_id"], how="full", coalesce=True, suffix="_old"
    )
    is_new, is_old = pl.col("outcome").is_not_null(), pl.col("outcome_old").is_not_null()
    counts = joined.group_by("task_id").agg(
        is_old.sum().alias("n_before"),
        is_new.sum().alias("n_now"),
        (is_new & ~is_old).sum().alias("n_added"),
        (is_old & ~is_new).sum().alias("n_gone"),
        (pl.col("outcome") != pl.col("outcome_old")).sum().alias("n_relabelled"),
    )
    named = both.select(
        "task_id",
        pl.col("snapshot_id_before").alias("snapshot_before"),
        pl.col("snapshot_id").alias("snapshot_now"),
    )
    found = counts.join(named, on="task_id").select(SCHEMA.names())
    return found.cast(SCHEMA).sort("task_id")


def changes_since_release(lake: Tables, release: str) -> pl.DataFrame:
    """What changed in the tasks of a lake since a release was last written; see `changed_samples`.

    The tables of that time are read by Delta's time travel. Where they are vacuumed, or there is
    no such release, nothing can be said and no row is given.
    """
    written = _written_at(lake, release)
    if written is None:
        return pl.DataFrame(schema=SCHEMA)
    try:
        before = {name: lake.table(name, at=written).collect() for name in _READ}
    except (OSError, pl.exceptions.PolarsError):
        return pl.DataFrame(schema=SCHEMA)
    return changed_samples(before, {name: lake.table(name).collect() for name in _READ})


def _written_at(lake: Tables, release: str) -> dt.datetime | None:
    """When a release was last written; None where it never was."""
    for entry in lake.delta.history("gold.releases"):
        predicate = str(entry.get("operationParameters", {}).get("predicate", ""))
        if f"'{release}'" in predicate:
            return dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC)
    return None


def describe_changes(changes: pl.DataFrame, snapshots: pl.DataFrame) -> dict[str, str]:
    """A line for each changed task: how many samples, and between which versions.

    Args:
        changes: As `changed_samples` gives them.
        snapshots: Rows of `bronze.snapshots`.
    """
    versions = {
        row["snapshot_id"]: (row["source"], row["version"])
        for row in snapshots.iter_rows(named=True)
    }
    lines = {}
    for row in changes.iter_rows(named=True):
        n_changed = row["n_relabelled"] + row["n_added"] + row["n_gone"]
        step = _step(row["snapshot_before"], row["snapshot_now"], versions)
        lines[row["task_id"]] = (
            f"{n_changed:,} samples changed ({step}): {row['n_relabelled']:,} labelled anew, "
            f"{row['n_added']:,} added, {row['n_gone']:,} gone; {row['n_now']:,} now"
        )
    return lines


def _step(before: str, now: str, versions: Mapping[str, tuple[str, str]]) -> str:
    """From which version to which, of the sources that changed: `hpa 23.0 → 24.0`."""
    steps = []
    for old, new in zip(before.split(","), now.split(","), strict=False):
        if old != new and old in versions and new in versions:
            (source, version), (_, version_now) = versions[old], versions[new]
            is_drift = version == version_now
            steps.append(f"{source} {version}{', new bytes' if is_drift else f' → {version_now}'}")
    return ", ".join(dict.fromkeys(steps)) or "declared or resolved otherwise"


def _known(state: Mapping[str, pl.DataFrame | None], name: str) -> pl.DataFrame:
    frame = state.get(name)
    return table(name).empty() if frame is None else frame


def _outcomes(state: Mapping[str, pl.DataFrame], chosen: pl.DataFrame) -> pl.DataFrame:
    """task_id, sample_id and outcome: what is said of each sample of the chosen tasks, as text."""
    said = pl.concat_str("label", "value", separator="=")
    outcomes = (
        state["silver.labels"]
        .join(chosen, on="task_id", how="semi")
        .sort("label")
        .group_by("task_id", "sample_id")
        .agg(said.alias("outcome"))
        .with_columns(pl.col("outcome").list.join("; "))
    )
    samples = state["silver.samples"].join(chosen, on="task_id", how="semi")
    return (
        samples.select("task_id", "sample_id")
        .unique()
        .join(outcomes, on=["task_id", "sample_id"], how="left")
        .with_columns(pl.col("outcome").fill_null(""))
    )

"""Counts added, removed and relabelled samples between two curations."""

import datetime as dt
from collections.abc import Mapping

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

CHANGES_SCHEMA = pl.Schema(
    {
        "task_id": pl.String,
        "n_before": pl.Int64,
        "n_now": pl.Int64,
        "n_added": pl.Int64,
        "n_gone": pl.Int64,
        "n_relabelled": pl.Int64,
        "n_labels_gained": pl.Int64,
        "n_labels_lost": pl.Int64,
        "snapshot_before": pl.String,
        "snapshot_now": pl.String,
    }
)
_READ = ("silver.samples", "silver.labels", "silver.tasks")


def changed_samples(
    before: Mapping[str, pl.DataFrame | None], now: Mapping[str, pl.DataFrame | None]
) -> pl.DataFrame:
    """Count the changed samples of each task that both curations have.

    Args:
        before: `silver.samples`, `silver.labels` and `silver.tasks` of the earlier curation.
        now: The same tables of the later curation.

    Returns:
        `CHANGES_SCHEMA`, one row for each changed task. n_labels_gained and n_labels_lost count the
        labels that samples of both curations have now and did not have, and the other way round.
    """
    old, new = ({name: _frame(state, name) for name in _READ} for state in (before, now))
    digests = ["task_id", "label_digest", "snapshot_id"]
    both = (
        new["silver.tasks"]
        .filter(pl.col("parent_task_id").is_null())
        .select(digests)
        .join(old["silver.tasks"].select(digests), on="task_id", suffix="_before")
        .filter(pl.col("label_digest") != pl.col("label_digest_before"))
    )
    if not both.height:
        return pl.DataFrame(schema=CHANGES_SCHEMA)
    joined = _labels(new, both).join(
        _labels(old, both), on=["task_id", "sample_id"], how="full", coalesce=True, suffix="_old"
    )
    is_new, is_old = pl.col("labels").is_not_null(), pl.col("labels_old").is_not_null()
    counts = joined.group_by("task_id").agg(
        is_old.sum().alias("n_before"),
        is_new.sum().alias("n_now"),
        (is_new & ~is_old).sum().alias("n_added"),
        (is_old & ~is_new).sum().alias("n_gone"),
        (pl.col("labels") != pl.col("labels_old")).sum().alias("n_relabelled"),
    )
    named = both.select(
        "task_id",
        pl.col("snapshot_id_before").alias("snapshot_before"),
        pl.col("snapshot_id").alias("snapshot_now"),
    )
    kept = joined.filter(is_new & is_old).select("task_id", "sample_id")
    for name, some, others in (("gained", new, old), ("lost", old, new)):
        moved = _count_other_labels(some, others, kept).rename({"n": f"n_labels_{name}"})
        counts = counts.join(moved, on="task_id", how="left")
    found = counts.join(named, on="task_id").select(
        pl.col(CHANGES_SCHEMA.names()).fill_null(strategy="zero")
    )
    return found.cast(CHANGES_SCHEMA).sort("task_id")


def _count_other_labels(
    some: Mapping[str, pl.DataFrame], others: Mapping[str, pl.DataFrame], kept: pl.DataFrame
) -> pl.DataFrame:
    """task_id and n: the labels of some samples that they do not have in the other curation."""
    mine = some["silver.labels"].join(kept, on=["task_id", "sample_id"], how="semi")
    other = mine.join(others["silver.labels"], on=mine.columns, how="anti", nulls_equal=True)
    return other.group_by("task_id").agg(pl.len().cast(pl.Int64).alias("n"))


def changes_since_release(lake: Tables, release: str) -> pl.DataFrame:
    """Count the changed samples since a release was last written; see `changed_samples`.

    The earlier tables are read by Delta's time travel. Without such a release, or after a vacuum
    of the earlier tables, the result has no rows.
    """
    written = release_time(lake, release)
    if written is None:
        return pl.DataFrame(schema=CHANGES_SCHEMA)
    try:
        before = {name: lake.table(name, at=written).collect() for name in _READ}
    except (OSError, pl.exceptions.PolarsError):
        return pl.DataFrame(schema=CHANGES_SCHEMA)
    return changed_samples(before, {name: lake.table(name).collect() for name in _READ})


def release_time(lake: Tables, release: str) -> dt.datetime | None:
    """The time at which a release was last written; None where it never was."""
    for entry in lake.delta.history("gold.releases"):
        predicate = str(entry.get("operationParameters", {}).get("predicate", ""))
        if f"'{release}'" in predicate:
            return dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC)
    return None


def changed_samples_between(before: Tables, now: Tables) -> pl.DataFrame:
    """Count the changed samples between two states of a lake; see `changed_samples`."""
    old, new = ({name: state.table(name).collect() for name in _READ} for state in (before, now))
    return changed_samples(old, new)


def describe_changes(changes: pl.DataFrame, snapshots: pl.DataFrame) -> dict[str, str]:
    """Describe the changes of each task in one line: counts, and the source versions compared.

    Args:
        changes: The result of `changed_samples`.
        snapshots: Rows of `bronze.snapshots`.
    """
    versions = {
        row["snapshot_id"]: (row["source"], row["version"])
        for row in snapshots.iter_rows(named=True)
    }
    lines = {}
    for row in changes.iter_rows(named=True):
        n_changed = row["n_relabelled"] + row["n_added"] + row["n_gone"]
        step = _version_change(row["snapshot_before"], row["snapshot_now"], versions)
        lines[row["task_id"]] = (
            f"{n_changed:,} samples changed ({step}): {row['n_relabelled']:,} relabelled, "
            f"{row['n_added']:,} added, {row['n_gone']:,} removed; {row['n_now']:,} now"
        )
    return lines


def _version_change(before: str, now: str, versions: Mapping[str, tuple[str, str]]) -> str:
    """The old and new version of each changed source: `hpa 23.0 → 24.0`."""
    steps = []
    for old, new in zip(before.split(","), now.split(","), strict=False):
        if old != new and old in versions and new in versions:
            (source, version), (_, version_now) = versions[old], versions[new]
            is_drift = version == version_now
            steps.append(f"{source} {version}{', new bytes' if is_drift else f' → {version_now}'}")
    return ", ".join(dict.fromkeys(steps)) or "declarations or entity catalogue changed"


def _frame(state: Mapping[str, pl.DataFrame | None], name: str) -> pl.DataFrame:
    frame = state.get(name)
    return table(name).empty() if frame is None else frame


def _labels(state: Mapping[str, pl.DataFrame], chosen: pl.DataFrame) -> pl.DataFrame:
    """task_id, sample_id and labels: the labels of each sample of some tasks, as one string."""
    label = pl.concat_str("label", "value", "status", separator="=", ignore_nulls=True)
    labels = (
        state["silver.labels"]
        .join(chosen, on="task_id", how="semi")
        .sort("label")
        .group_by("task_id", "sample_id")
        .agg(label.alias("labels"))
        .with_columns(pl.col("labels").list.join("; "))
    )
    samples = state["silver.samples"].join(chosen, on="task_id", how="semi")
    return (
        samples.select("task_id", "sample_id")
        .unique()
        .join(labels, on=["task_id", "sample_id"], how="left")
        .with_columns(pl.col("labels").fill_null(""))
    )

"""Reads releases and their scores from the gold tables."""

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import is_subtask
from lakehouse.tables.names import hint, matches, require_known
from lakehouse.tables.time_travel import Tables, When

_NAMES = ["family", "task_id", "kind", "encoder_id", "modality", "probe_id", "protocol_id"]


def read_scores(
    lake: Tables,
    task: str = "*",
    encoder: str = "*",
    family: str | None = None,
    metric: str | None = None,
    release: str = "current",
    *,
    kind: str | None = None,
    probe: str | None = None,
    label: str | None = None,
    version: int | None = None,
    at: When | None = None,
) -> pl.LazyFrame:
    """The scores of a release, one row for each fold, label and metric.

    Args:
        lake: The tables.
        task: Glob of task ids.
        encoder: Glob of encoder ids.
        family: Glob of families.
        metric: One metric.
        release: The release whose evaluations count.
        kind: binary, multiclass, multilabel or regression.
        probe: One probe.
        label: One label of multi-label and multiclass tasks; "" for the whole task only.
        version: An older version of `gold.scores`.
        at: A time or day: the release and its scores as they were then.

    Returns:
        Columns of `gold.scores`; `value` is in the metric's unit
        (`genebench.evaluation.metrics`: a share or coefficient; for rmse and mae the label's
        unit where the protocol has `numbers: given`, standard deviations where
        `normal_scores`), `fold` counts from 0.

    Raises:
        LakeError: The release does not exist, or nothing matches.
    """
    if at is not None:
        return read_scores(
            lake.at(at), task, encoder, family, metric, release, kind=kind, probe=probe, label=label
        )
    items = read_release(lake, release)
    globs = {"task_id": task, "encoder_id": encoder, "family": family, "kind": kind}
    globs["probe_id"] = probe
    asked = {name: glob for name, glob in globs.items() if glob not in (None, "*")}
    fits = [matches(name, glob) for name, glob in asked.items() if glob]
    chosen = items.filter(*fits) if fits else items
    if not chosen.height:
        raise LakeError(
            f"release {release!r} has no evaluation of "
            + ", ".join(f"{name.removesuffix('_id')} {glob!r}" for name, glob in asked.items())
            + "".join(hint(glob, items[name]) for name, glob in asked.items() if glob)
        )
    rows = lake.table("gold.scores", version)
    if metric is not None:
        require_known(metric, METRICS, "metric")
        rows = rows.filter(pl.col("metric") == metric)
    if label is not None:
        rows = rows.filter(pl.col("label") == label)
    # Whole folders are skipped by these two, and most of the rest by the keys. The names are
    # the release's, the folders' those of the day of computing: equal vectors or equal tasks
    # share an evaluation.
    stored = (
        lake.table("gold.evaluations")
        .select("evaluation_key", "family", "encoder_id")
        .join(chosen.lazy().select("evaluation_key"), on="evaluation_key", how="semi")
        .collect()
    )
    rows = rows.filter(
        pl.col("family").is_in(stored["family"].unique().to_list())
        & pl.col("encoder_id").is_in(stored["encoder_id"].unique().to_list())
    )
    columns = rows.collect_schema().names()
    return (
        rows.drop(_NAMES)
        .join(chosen.lazy().select("evaluation_key", *_NAMES), on="evaluation_key")
        .select(columns)
    )


def read_release(lake: Tables, release: str = "current") -> pl.DataFrame:
    """The rows of `gold.releases` of one release.

    Raises:
        LakeError: It does not exist; says which do, and suggests the nearest.
    """
    rows = lake.table("gold.releases").filter(pl.col("release_id") == release).collect()
    if rows.height:
        return rows
    if lake.as_of is not None and list_releases(lake).is_empty():
        raise LakeError(
            f"the lake {lake.delta.storage.root} held no release on "
            f"{lake.as_of:%Y-%m-%d %H:%M} UTC; choose a later time"
        )
    known = list_releases(lake).filter(~pl.col("is_foreign"))["release_id"].to_list()
    if not known:
        raise LakeError(
            f"there is no release {release!r} yet: the lake {lake.delta.storage.root} holds "
            "no scores; run `genebench benchmark`, or set GENEBENCH_LAKE to another lake"
        )
    require_known(release, known, "release")
    raise LakeError(f"release {release!r} has no rows")


def list_releases(lake: Tables) -> pl.DataFrame:
    """All releases, ours and imported.

    Returns:
        release_id, n_tasks (without sub-tasks), n_encoders, n_evaluations (those of sub-tasks
        too; for imported releases: pairs of task and encoder) and is_foreign.
    """
    ours = (
        lake.table("gold.releases")
        .group_by("release_id")
        .agg(
            pl.col("task_id").filter(~is_subtask()).n_unique().alias("n_tasks"),
            pl.col("encoder_id").n_unique().alias("n_encoders"),
            pl.col("evaluation_key").n_unique().alias("n_evaluations"),
            pl.lit(False).alias("is_foreign"),
        )
    )
    theirs = (
        lake.table("gold.foreign_scores")
        .group_by("release_id")
        .agg(
            pl.col("task_name").n_unique().alias("n_tasks"),
            pl.col("encoder_name").n_unique().alias("n_encoders"),
            pl.struct("task_name", "label", "encoder_name", "probe_name")
            .n_unique()
            .alias("n_evaluations"),
            pl.lit(True).alias("is_foreign"),
        )
    )
    return pl.concat([ours, theirs]).sort("is_foreign", "release_id").collect()

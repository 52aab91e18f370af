"""Reads releases and their scores from the gold tables."""

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import is_subtask
from lakehouse.score.evidence import read_evidence
from lakehouse.tables.names import did_you_mean, matches_glob, require_known
from lakehouse.tables.time_travel import Tables, When

_NAMES = ["family", "task_id", "kind", "encoder_id", "modality", "probe_id", "protocol_id"]


def read_scores(
    tables: Tables,
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
    """Read the scores of a release; see `lakehouse.query.lake.Lake.scores` for the arguments."""
    if at is not None:
        return read_scores(
            tables.at(at),
            task,
            encoder,
            family,
            metric,
            release,
            kind=kind,
            probe=probe,
            label=label,
        )
    items = read_release(tables, release)
    globs = {"task_id": task, "encoder_id": encoder, "family": family, "kind": kind}
    globs["probe_id"] = probe
    filters = {name: glob for name, glob in globs.items() if glob not in (None, "*")}
    conditions = [matches_glob(name, glob) for name, glob in filters.items() if glob]
    selected = items.filter(*conditions) if conditions else items
    if not selected.height:
        raise LakeError(
            f"release {release!r} has no evaluation of "
            + ", ".join(f"{name.removesuffix('_id')} {glob!r}" for name, glob in filters.items())
            + "".join(did_you_mean(glob, items[name]) for name, glob in filters.items() if glob)
        )
    rows = read_evidence(tables, "gold.scores", selected, version)
    if metric is not None:
        require_known(metric, METRICS, "metric")
        rows = rows.filter(pl.col("metric") == metric)
    if label is not None:
        rows = rows.filter(pl.col("label") == label)
    # The result shows the names of the release, which may differ from those of the evaluation.
    columns = rows.collect_schema().names()
    return (
        rows.drop(_NAMES)
        .join(selected.lazy().select("evaluation_key", *_NAMES), on="evaluation_key")
        .select(columns)
    )


def read_release(tables: Tables, release: str = "current") -> pl.DataFrame:
    """Read the rows of `gold.releases` of one release.

    Raises:
        LakeError: The release does not exist; the message lists those that do.
    """
    rows = tables.table("gold.releases").filter(pl.col("release_id") == release).collect()
    if rows.height:
        return rows
    if tables.as_of is not None and list_releases(tables).is_empty():
        raise LakeError(
            f"the lake {tables.delta.storage.root} held no release on "
            f"{tables.as_of:%Y-%m-%d %H:%M} UTC; choose a later time"
        )
    known = list_releases(tables).filter(~pl.col("is_foreign"))["release_id"].to_list()
    if not known:
        raise LakeError(
            f"there is no release {release!r} yet: the lake {tables.delta.storage.root} holds "
            "no scores; run `genebench benchmark`, or set GENEBENCH_LAKE to another lake"
        )
    require_known(release, known, "release")
    raise LakeError(f"release {release!r} has no rows")


def list_releases(tables: Tables) -> pl.DataFrame:
    """List the computed and the imported releases; see `lakehouse.query.lake.Lake.releases`."""
    computed = (
        tables.table("gold.releases")
        .group_by("release_id")
        .agg(
            pl.col("task_id").filter(~is_subtask()).n_unique().alias("n_tasks"),
            pl.col("encoder_id").n_unique().alias("n_encoders"),
            pl.col("evaluation_key").n_unique().alias("n_evaluations"),
            pl.lit(False).alias("is_foreign"),
        )
    )
    imported = (
        tables.table("gold.foreign_scores")
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
    return pl.concat([computed, imported]).sort("is_foreign", "release_id").collect()

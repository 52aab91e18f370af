"""Compares a release's scores with published ones and states the known causes of differences."""

from collections.abc import Collection, Mapping

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.means import task_means
from genebench.registry.published_names import probe_of, read_published_names
from genebench.tasks.declaration import Task
from lakehouse.report.imports import imported_means
from lakehouse.score.evidence import read_evaluations
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables

PAPER = "paper"
WITHIN, OUTSIDE = "within 2 SD", "outside 2 SD"
NO_SD, NOT_RUN, UNKNOWN = "no published SD", "not run here", "not known here"
WITHIN_SDS = 2.0

# Numbers of samples that differ by a smaller share are not named as a cause.
_SIZE_TOLERANCE = 0.01


def compare_published(
    tables: Tables,
    imported: pl.DataFrame,
    tasks: Mapping[str, Task],
    release: str,
    *,
    metric: str | None = None,
    probe: str = "linear",
) -> pl.DataFrame:
    """Compare a release with published results, for the encoders that both have.

    Args:
        tables: The tables of the lake.
        imported: Rows of `gold.foreign_scores`.
        tasks: The declared tasks; their `deviation` is a stated cause.
        release: The release.
        metric: One metric; the main one of each kind of task by default.
        probe: The release's probe; only published scores of the same probe are compared.

    Returns:
        task_name, label, task_id, encoder_name, encoder_id, metric, ours, theirs (means over
        folds, in the metric's unit), difference (ours minus theirs), published_sd (over folds),
        in_sds (difference divided by published_sd), n_samples_ours, n_samples_theirs, verdict
        (`within 2 SD`, `outside 2 SD`, `no published SD`, `not run here` or `not known here`) and
        cause (null within 2 SD).

    Raises:
        LakeError: The release does not exist, or has no encoder, metric or probe in common with
            the published results.
    """
    items = read_release(tables, release)
    if metric is not None:
        require_known(metric, METRICS, "metric")
    wanted = [metric] if metric else sorted(set(MAIN_METRICS.values()))
    probes = [name for name in imported["probe_name"].unique() if probe_of(name) == probe]
    theirs = imported_means(imported).filter(
        pl.col("metric").is_in(wanted) & pl.col("probe_name").is_in(probes)
    )
    if theirs.is_empty():
        metrics = imported["metric"].unique().sort()
        fitted = sorted({probe_of(name) for name in imported["probe_name"].unique()})
        raise LakeError(
            f"the published results have no score by {', '.join(wanted)} with the probe {probe}; "
            f"they have {', '.join(metrics)} with {', '.join(fitted)}"
        )
    shared = sorted(set(theirs["encoder_id"].drop_nulls()) & set(items["encoder_id"]))
    if not shared:
        known = theirs["encoder_id"].drop_nulls().unique().sort().to_list()
        if not known:
            named = ", ".join(imported["encoder_name"].unique().sort())
            raise LakeError(
                f"no declared encoder matches the published model names ({named}); add the names "
                "to genebench/registry/published_names.yaml"
            )
        raise LakeError(
            f"release {release!r} has none of the published encoders ({', '.join(known)}); score "
            f"one: `genebench score --protocol paper --encoder {known[0]}`"
        )
    ours = _our_means(tables, release, probe).select(
        "task_id", "encoder_id", "metric", "protocol_id", pl.col("mean").alias("ours"),
        pl.col("n_samples").alias("n_samples_ours"),
    )  # fmt: skip
    rows = (
        theirs.filter(pl.col("encoder_id").is_in(shared))
        .rename({"mean": "theirs", "sd": "published_sd", "n_samples": "n_samples_theirs"})
        .join(ours, on=["task_id", "encoder_id", "metric"], how="left")
        .with_columns((pl.col("ours") - pl.col("theirs")).alias("difference"))
        .with_columns(
            pl.when(pl.col("published_sd") > 0)
            .then(pl.col("difference") / pl.col("published_sd"))
            .alias("in_sds")
        )
        .with_columns(_verdict().alias("verdict"))
    )
    partial = _partial_sources(tables)
    causes = [_known_causes(row, tasks, partial) for row in rows.iter_rows(named=True)]
    order = [WITHIN, OUTSIDE, NO_SD, NOT_RUN, UNKNOWN]
    return (
        rows.with_columns(pl.Series("cause", causes, dtype=pl.String))
        .select(
            "task_name", "label", "task_id", "encoder_name", "encoder_id", "metric", "ours",
            "theirs", "difference", "published_sd", "in_sds", "n_samples_ours",
            "n_samples_theirs", "verdict", "cause",
        )
        .sort(
            pl.col("verdict").replace_strict({word: n for n, word in enumerate(order)}),
            pl.col("in_sds").abs(),
            "task_name",
            "encoder_name",
        )
    )  # fmt: skip


def _verdict() -> pl.Expr:
    return (
        pl.when(pl.col("task_id").is_null())
        .then(pl.lit(UNKNOWN))
        .when(pl.col("ours").is_null())
        .then(pl.lit(NOT_RUN))
        .when(pl.col("difference") == 0)
        .then(pl.lit(WITHIN))
        .when(pl.col("in_sds").is_null())
        .then(pl.lit(NO_SD))
        .when(pl.col("in_sds").abs() <= WITHIN_SDS)
        .then(pl.lit(WITHIN))
        .otherwise(pl.lit(OUTSIDE))
    )


def _our_means(tables: Tables, release: str, probe: str) -> pl.DataFrame:
    """Return the means of a release's whole tasks, with the number of evaluated samples."""
    means = task_means(read_scores(tables, release=release, probe=probe, label="").collect())
    sizes = (
        read_release(tables, release)
        .lazy()
        .join(
            read_evaluations(tables)
            .filter(pl.col("status") == "ok")
            .select("evaluation_key", "n_samples"),
            on="evaluation_key",
        )
        .select("task_id", "encoder_id", "probe_id", "n_samples")
        .collect()
    )
    return means.join(sizes, on=["task_id", "encoder_id", "probe_id"], how="left")


def _partial_sources(tables: Tables) -> set[str]:
    """Return the source files that are incomplete in the lake, such as `hpa.proteinatlas`."""
    rows = tables.table("bronze.snapshots").filter(~pl.col("is_complete"))
    return {f"{source}.{file}" for source, file in rows.select("source", "file").collect().rows()}


def _known_causes(
    row: Mapping[str, object], tasks: Mapping[str, Task], partial: Collection[str]
) -> str | None:
    """Return all recorded causes that may explain a difference; None for a row within 2 SD."""
    if row["verdict"] == WITHIN:
        return None
    task_id, name = row["task_id"], str(row["task_name"])
    if row["verdict"] == UNKNOWN:
        return "no declared task has this published name"
    if row["verdict"] == NOT_RUN:
        return f"the release has no score of {task_id}"
    causes = []
    if row["protocol_id"] != PAPER:
        causes.append(f"scored by the protocol {row['protocol_id']}, not {PAPER}")
    ours, theirs = row["n_samples_ours"], row["n_samples_theirs"]
    if (
        isinstance(ours, int)
        and isinstance(theirs, int)
        and abs(ours - theirs) > _SIZE_TOLERANCE * theirs
    ):
        causes.append(f"different numbers of samples: {ours:,} here, {theirs:,} published")
    task = tasks.get(str(task_id))
    if task and (parts := [name for name in task.source if name in partial]):
        causes.append(f"the lake holds only a part of {', '.join(parts)}")
    if task and task.deviation:
        causes.append(task.deviation)
    if known := read_published_names().cause_of(name):
        causes.append(known)
    return "; ".join(causes) or "no cause is known"

"""Bootstrap intervals of a release's scores and of its leaderboard's means."""

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.means import OVERALL, task_means, task_weights
from genebench.tasks.declaration import TEMPORAL, is_in_overall
from lakehouse.report.future_marks import mark_of, read_marks
from lakehouse.score.evidence import read_evidence
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.time_travel import Tables


def read_intervals(tables: Tables, items: pl.DataFrame) -> pl.DataFrame:
    """Read the interval of every score of a release that has one.

    Args:
        tables: The tables of the lake.
        items: Rows of `gold.releases` of the release.

    Returns:
        evaluation_key, metric, low and high.
    """
    return (
        read_evidence(tables, "gold.intervals", items)
        .select("evaluation_key", "metric", "low", "high")
        .collect()
    )


def mean_intervals(items: pl.DataFrame, means: pl.DataFrame) -> pl.DataFrame:
    """Compute intervals of the means of a leaderboard.

    Each bound is the weighted mean of the tasks' bounds, as if the errors of all tasks were fully
    correlated. Tasks share genes, so their errors are not independent; full correlation gives the
    widest interval.

    Args:
        items: Rows of `gold.releases` of the release.
        means: task_id, family, encoder_id, probe_id, protocol_id, metric, low and high.

    Returns:
        scope, encoder_id, probe_id, protocol_id, metric, low and high; rows only where every
        scored task has an interval.
    """
    columns = ["encoder_id", "probe_id", "protocol_id", "metric"]
    bounds = ["low", "high"]
    weight = pl.col("weight")
    families = (
        means.join(task_weights(items), on="task_id")
        .group_by(pl.col("family").alias("scope"), *columns)
        .agg(
            pl.when(pl.col(bound).null_count() == 0).then(
                (pl.col(bound) * weight).sum() / weight.sum()
            )
            for bound in bounds
        )
    )
    overall = (
        families.filter(is_in_overall("scope"))
        .group_by(columns)
        .agg(
            pl.when(pl.col(bound).null_count() == 0).then(pl.col(bound).mean()) for bound in bounds
        )
    )
    whole = overall.select(pl.lit(OVERALL).alias("scope"), *columns, *bounds)
    return pl.concat([families.select("scope", *columns, *bounds), whole]).drop_nulls()


def leaderboard_intervals(tables: Tables, release: str, metric: str) -> pl.DataFrame:
    """Read a release and compute its `mean_intervals` by one metric.

    Raises:
        LakeError: The release does not exist.
    """
    items = read_release(tables, release)
    columns = [
        "evaluation_key",
        "family",
        "task_id",
        "encoder_id",
        "probe_id",
        "protocol_id",
        "metric",
    ]
    scored = (
        read_scores(tables, release=release, metric=metric, label="")
        .select(columns)
        .unique()
        .collect()
    )
    bounds = read_intervals(tables, items)
    return mean_intervals(items, scored.join(bounds, on=["evaluation_key", "metric"], how="left"))


def task_scores(tables: Tables, release: str, task_id: str) -> pl.DataFrame:
    """Return the scores of one task by its main metric, best first.

    Returns:
        encoder, modality, probe, mean and sd (over folds), low and high (null without an
        interval) and metric; no rows if the release has no score of the task. Of a temporal task
        with encoders that have a mark (`future_marks`) also mark.
    """
    items = tables.table("gold.releases").filter(
        (pl.col("release_id") == release) & (pl.col("task_id") == task_id)
    )
    named = items.collect()
    if not named.height:
        return pl.DataFrame()
    metric = MAIN_METRICS[named["kind"][0]]
    means = task_means(
        read_scores(tables, task_id, metric=metric, release=release, label="").collect()
    )
    bounds = read_intervals(tables, named).filter(metric=metric)
    keys = named.select("encoder_id", "probe_id", "protocol_id", "evaluation_key")
    marks = read_marks(tables) if named["family"][0] == TEMPORAL else {}
    shown = [mark_of(marks).alias("mark")] if marks else []
    return (
        means.join(keys, on=["encoder_id", "probe_id", "protocol_id"])
        .join(bounds.drop("metric"), on="evaluation_key", how="left")
        .sort("probe_id", "mean", descending=[False, METRICS[metric].is_greater_better])
        .select(
            pl.col("encoder_id").alias("encoder"), "modality", pl.col("probe_id").alias("probe"),
            "mean", "sd", "low", "high", "metric", *shown,
        )
    )  # fmt: skip

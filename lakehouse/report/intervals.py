"""Intervals of a release's scores, and of the means that its leaderboard makes of them."""

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.means import OVERALL, task_means, weigh_tasks
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.time_travel import Tables


def read_intervals(lake: Tables, items: pl.DataFrame) -> pl.DataFrame:
    """evaluation_key, metric, low and high of every score of a release that has an interval."""
    keys = items["evaluation_key"].unique().to_list()
    return (
        lake.table("gold.intervals")
        .filter(pl.col("evaluation_key").is_in(keys))
        .select("evaluation_key", "metric", "low", "high")
        .unique(["evaluation_key", "metric"])
        .collect()
    )


def board_intervals(items: pl.DataFrame, means: pl.DataFrame) -> pl.DataFrame:
    """Intervals of the means of a leaderboard.

    An end is the weighted mean of the tasks' ends, as if all tasks erred together: they share
    genes, so their errors are not independent, and no dependence makes the mean less certain.

    Args:
        items: Rows of `gold.releases` of the release.
        means: task_id, family, encoder_id, probe_id, protocol_id, metric, low and high.

    Returns:
        scope, encoder_id, probe_id, protocol_id, metric, low and high; only where every scored
        task has an interval.
    """
    who = ["encoder_id", "probe_id", "protocol_id", "metric"]
    ends = ["low", "high"]
    weight = pl.col("weight")
    families = (
        means.join(weigh_tasks(items), on="task_id")
        .group_by(pl.col("family").alias("scope"), *who)
        .agg(
            pl.when(pl.col(end).null_count() == 0).then((pl.col(end) * weight).sum() / weight.sum())
            for end in ends
        )
    )
    overall = families.group_by(who).agg(
        pl.when(pl.col(end).null_count() == 0).then(pl.col(end).mean()) for end in ends
    )
    whole = overall.select(pl.lit(OVERALL).alias("scope"), *who, *ends)
    return pl.concat([families.select("scope", *who, *ends), whole]).drop_nulls()


def leaderboard_intervals(lake: Tables, release: str, metric: str) -> pl.DataFrame:
    """`board_intervals` of a release by one metric, straight from the lake.

    Raises:
        LakeError: The release does not exist.
    """
    items = read_release(lake, release)
    who = ["evaluation_key", "family", "task_id", "encoder_id", "probe_id", "protocol_id", "metric"]
    scored = (
        read_scores(lake, release=release, metric=metric, label="").select(who).unique().collect()
    )
    ends = read_intervals(lake, items)
    return board_intervals(items, scored.join(ends, on=["evaluation_key", "metric"], how="left"))


def task_scores(lake: Tables, release: str, task_id: str) -> pl.DataFrame:
    """The scores of one task by its main metric, best first.

    Returns:
        encoder, modality, probe, mean and sd (over folds), low and high (null without an
        interval) and metric; no rows where the release has no score of the task.
    """
    items = lake.table("gold.releases").filter(
        (pl.col("release_id") == release) & (pl.col("task_id") == task_id)
    )
    named = items.collect()
    if not named.height:
        return pl.DataFrame()
    metric = MAIN_METRICS[named["kind"][0]]
    means = task_means(
        read_scores(lake, task_id, metric=metric, release=release, label="").collect()
    )
    ends = read_intervals(lake, named).filter(metric=metric)
    keys = named.select("encoder_id", "probe_id", "protocol_id", "evaluation_key")
    return (
        means.join(keys, on=["encoder_id", "probe_id", "protocol_id"])
        .join(ends.drop("metric"), on="evaluation_key", how="left")
        .sort("probe_id", "mean", descending=[False, METRICS[metric].is_greater_better])
        .select(
            pl.col("encoder_id").alias("encoder"), "modality", pl.col("probe_id").alias("probe"),
            "mean", "sd", "low", "high", "metric",
        )
    )  # fmt: skip

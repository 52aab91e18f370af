"""Averages scores over folds, tasks and families, and ranks encoders: the leaderboard."""

import polars as pl

from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import is_in_overall, is_subtask

OVERALL = "overall"

LEADERBOARD_SCHEMA = pl.Schema(
    {
        "scope": pl.String,
        "encoder_id": pl.String,
        "modality": pl.String,
        "probe_id": pl.String,
        "protocol_id": pl.String,
        "metric": pl.String,
        "mean": pl.Float64,
        "sd": pl.Float64,
        "n_tasks": pl.Int32,
        "n_missing": pl.Int32,
        "rank": pl.Int32,
    }
)


def task_means(scores: pl.DataFrame) -> pl.DataFrame:
    """Average the folds of each task.

    Args:
        scores: Rows of `gold.scores` for whole tasks (label empty).

    Returns:
        family, task_id, kind, encoder_id, modality, probe_id, protocol_id, metric, mean (over
        folds), sd (population standard deviation over folds, as in the published tables) and
        n_folds.
    """
    by = ["family", "task_id", "kind", "encoder_id", "modality", "probe_id", "protocol_id"]
    return (
        scores.filter(pl.col("label") == "")
        .group_by([*by, "metric"])
        .agg(
            pl.col("value").mean().alias("mean"),
            pl.col("value").std(ddof=0).alias("sd"),
            pl.len().alias("n_folds"),
        )
        .sort([*by, "metric"])
    )


def task_group() -> pl.Expr:
    """Expression for the group of near-duplicate tasks that a row of `silver.tasks` belongs to.

    Tasks of the same family, recipe, source files and kind are near-duplicates, such as the
    seventeen prognostics columns of one table.
    """
    group = pl.concat_str("family", "source", "recipe", "kind", separator=" | ")
    return group.alias("task_group")


def task_weights(release: pl.DataFrame) -> pl.DataFrame:
    """Compute task weights, so that near-duplicates do not dominate the mean of their family.

    All leaf tasks of the release with the same `task_group` together have the weight of one task.

    Args:
        release: Rows of `gold.releases`; sub-tasks are left out.

    Returns:
        task_id and weight: 1 / (tasks of the group), or 1 for a task without a group.
    """
    leaves = release.filter(~is_subtask()).unique("task_id", maintain_order=True)
    group = pl.coalesce("task_group", "task_id")
    return leaves.select("task_id", (1 / pl.len().over(group)).alias("weight"))


def rank_encoders(release: pl.DataFrame, means: pl.DataFrame) -> pl.DataFrame:
    """Average scores by family and overall, and rank the encoders by scope and metric.

    A task of the release without a score counts as missing, never as zero. Overall is the mean of
    the family means, so that families with many tasks do not outweigh the others; the temporal
    family is not in it. Rank 1 is best in the direction of the metric; equal means share a rank.

    Args:
        release: Rows of `gold.releases` without sub-tasks; an optional column `weight`
            (`task_weights`) weights the mean of a family.
        means: Rows of `task_means`.

    Returns:
        `LEADERBOARD_SCHEMA`; sd is the population standard deviation over the tasks of a family,
        and over the family means for the overall scope.
    """
    keys = ["encoder_id", "modality", "probe_id", "protocol_id"]
    metrics = pl.DataFrame(
        [(kind, name) for name, metric in METRICS.items() for kind in sorted(metric.kinds)],
        schema={"kind": pl.String, "metric": pl.String},
        orient="row",
    )
    used = means.select("protocol_id", "kind", "metric").unique()
    expected = (
        (release if "weight" in release.columns else release.with_columns(weight=pl.lit(1.0)))
        .select("family", "task_id", "kind", "weight", *keys)
        .join(metrics, on="kind")
        .join(used, on=["protocol_id", "kind", "metric"], how="semi")
    )
    found = expected.join(
        means.select("task_id", *keys, "metric", "mean"),
        on=["task_id", *keys, "metric"],
        how="left",
    ).sort("task_id", *keys, "metric")
    families = (
        found.group_by(["family", *keys, "metric"])
        .agg(
            pl.col("mean").std(ddof=0).alias("sd"),
            pl.when(pl.col("mean").count() > 0).then(
                (pl.col("mean") * pl.col("weight")).sum()
                / pl.col("weight").filter(pl.col("mean").is_not_null()).sum()
            ),
            pl.col("mean").count().alias("n_tasks"),
            pl.col("mean").null_count().alias("n_missing"),
        )
        .sort("family", *keys, "metric")
    )
    overall = (
        families.filter(is_in_overall())
        .group_by([*keys, "metric"])
        .agg(
            pl.col("mean").std(ddof=0).alias("sd"),
            pl.col("mean").mean(),
            pl.col("n_tasks").sum(),
            pl.col("n_missing").sum(),
        )
    )
    table = pl.concat(
        [
            families.rename({"family": "scope"}),
            overall.with_columns(pl.lit(OVERALL).alias("scope")),
        ],
        how="diagonal",
    ).filter(pl.col("n_tasks") > 0)
    lower_is_better = [name for name, metric in METRICS.items() if not metric.is_greater_better]
    better = (
        pl.when(pl.col("metric").is_in(lower_is_better))
        .then(pl.col("mean"))
        .otherwise(-pl.col("mean"))
    )
    ranked = table.with_columns(
        better.rank("min").over("scope", "metric", "probe_id", "protocol_id").alias("rank")
    )
    return ranked.select(
        [pl.col(name).cast(dtype) for name, dtype in LEADERBOARD_SCHEMA.items()]
    ).sort("protocol_id", "probe_id", "metric", "scope", "rank", "encoder_id")

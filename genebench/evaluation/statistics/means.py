"""Scores into means, deviations and ranks; pure, and blind to what the entities are."""

import polars as pl

from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import is_subtask

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
        folds), sd (population deviation over folds, as the published tables give it) and n_folds.
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
    """The near-duplicates of a row of `silver.tasks`.

    Tasks of one family that are made by one recipe from the same source files and are of one kind
    are near-duplicates, such as the seventeen prognostics columns of one table.
    """
    group = pl.concat_str("family", "source", "recipe", "kind", separator=" | ")
    return group.alias("task_group")


def weigh_tasks(release: pl.DataFrame) -> pl.DataFrame:
    """Weights that keep near-duplicate tasks from dominating the mean of their family.

    Leaf tasks of the release that are of one `task_group` share the weight of one task.

    Args:
        release: Rows of `gold.releases`; sub-tasks are left out.

    Returns:
        task_id and weight, which is 1 / tasks of the group; 1 for a task of no known group.
    """
    leaves = release.filter(~is_subtask()).unique("task_id", maintain_order=True)
    group = pl.coalesce("task_group", "task_id")
    return leaves.select("task_id", (1 / pl.len().over(group)).alias("weight"))


def rank_encoders(release: pl.DataFrame, means: pl.DataFrame) -> pl.DataFrame:
    """Average tasks by family and overall, and rank the encoders of each scope and metric.

    A task that an encoder has no score for, though the release asks for it, counts as missing and
    never as zero. Overall is the mean of the family means, so that a family of near-duplicate
    tasks does not outweigh the others. Equal means share a rank; 1 is best in the metric's
    direction.

    Args:
        release: Rows of `gold.releases` without sub-tasks; with a column `weight` (`weigh_tasks`)
            the mean of a family is weighted by it.
        means: Rows of `task_means`.

    Returns:
        `LEADERBOARD_SCHEMA`; sd is the population deviation over the tasks of a family, and over
        the family means for the overall scope.
    """
    who = ["encoder_id", "modality", "probe_id", "protocol_id"]
    metrics = pl.DataFrame(
        [(kind, name) for name, metric in METRICS.items() for kind in sorted(metric.kinds)],
        schema={"kind": pl.String, "metric": pl.String},
        orient="row",
    )
    used = means.select("protocol_id", "kind", "metric").unique()
    wanted = (
        (release if "weight" in release.columns else release.with_columns(weight=pl.lit(1.0)))
        .select("family", "task_id", "kind", "weight", *who)
        .join(metrics, on="kind")
        .join(used, on=["protocol_id", "kind", "metric"], how="semi")
    )
    found = wanted.join(
        means.select("task_id", *who, "metric", "mean"),
        on=["task_id", *who, "metric"],
        how="left",
    ).sort("task_id", *who, "metric")
    families = (
        found.group_by(["family", *who, "metric"])
        .agg(
            pl.col("mean").std(ddof=0).alias("sd"),
            pl.when(pl.col("mean").count() > 0).then(
                (pl.col("mean") * pl.col("weight")).sum()
                / pl.col("weight").filter(pl.col("mean").is_not_null()).sum()
            ),
            pl.col("mean").count().alias("n_tasks"),
            pl.col("mean").null_count().alias("n_missing"),
        )
        .sort("family", *who, "metric")
    )
    overall = families.group_by([*who, "metric"]).agg(
        pl.col("mean").std(ddof=0).alias("sd"),
        pl.col("mean").mean(),
        pl.col("n_tasks").sum(),
        pl.col("n_missing").sum(),
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

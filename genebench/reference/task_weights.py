"""Weights of tasks in the means of a family, as on the leaderboard of a lake."""

import polars as pl

from genebench.evaluation.statistics.means import task_group, task_weights
from genebench.registry.loading import load_registry


def task_weight(task_ids: pl.Series, profile: str) -> pl.Expr:
    """Expression: the weight of the column `task_id` in the mean of its family.

    The rule is that of `genebench.evaluation.statistics.means.task_weights`, on declared tasks.

    Args:
        task_ids: The tasks of which means are taken.
        profile: The profile that declares them; a task that it lacks has weight 1.
    """
    declared = load_registry(profile).tasks
    rows = [
        {
            "task_id": task_id,
            "family": task.family,
            "source": ",".join(task.source),
            "recipe": task.recipe,
            "kind": task.kind,
        }
        for task_id in task_ids.unique()
        if (task := declared.get(task_id)) is not None
    ]
    schema = ["task_id", "family", "source", "recipe", "kind"]
    tasks = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String))
    weights = dict(task_weights(tasks.with_columns(task_group())).iter_rows())
    return pl.col("task_id").replace_strict(weights, default=1.0, return_dtype=pl.Float64)


def weighted_mean(name: str, weight: pl.Expr) -> pl.Expr:
    """Expression: the weighted mean of a column, null where a value is null.

    A published score has no interval, so a mean that contains one has none.
    """
    mean = (pl.col(name) * weight).sum() / weight.sum()
    return pl.when(pl.col(name).is_not_null().all()).then(mean).alias(name)

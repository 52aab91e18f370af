"""Weights of tasks in the means of a family, as on the leaderboard of a lake."""

from collections import Counter

import polars as pl

from genebench.registry.loading import load_registry


def task_weight(task_ids: pl.Series, profile: str) -> pl.Expr:
    """Expression: the weight of the column `task_id` in the mean of its family.

    Tasks of the same family, recipe, source files and kind together have the weight of one task, by
    the rule of `genebench.evaluation.statistics.means.task_weights`.

    Args:
        task_ids: The tasks of which means are taken.
        profile: The profile that declares them; a task that it lacks has weight 1.
    """
    declared = load_registry(profile).tasks
    groups = {
        task_id: (one.family, one.source, one.recipe, one.kind)
        for task_id in task_ids.unique()
        if (one := declared.get(task_id)) is not None
    }
    sizes = Counter(groups.values())
    weights = {task_id: 1 / sizes[group] for task_id, group in groups.items()}
    return pl.col("task_id").replace_strict(weights, default=1.0, return_dtype=pl.Float64)


def weighted_mean(name: str, weight: pl.Expr) -> pl.Expr:
    """Expression: the weighted mean of a column."""
    return ((pl.col(name) * weight).sum() / weight.sum()).alias(name)

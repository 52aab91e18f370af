"""Paired differences to the encoders of a bundle, and verdicts by task, by family and overall."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from genebench.evaluation.statistics.bootstrap import LEVEL
from genebench.evaluation.statistics.means import OVERALL
from genebench.evaluation.statistics.paired_tests import (
    adjust_holm,
    corrected_t_test,
    paired_bootstrap_test,
)
from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.reference.stored_scores import StoredScore
from genebench.reference.task_weights import task_weight, weighted_mean
from genebench.reference.vectors_evaluation import ScoredTask
from genebench.tasks.declaration import is_in_overall

BETTER, WORSE, UNDECIDED = "better", "worse", "cannot be told"

DIFFERENCES_SCHEMA = pl.Schema(
    {
        "task_id": pl.String(),
        "family": pl.String(),
        "metric": pl.String(),
        "encoder_id": pl.String(),
        "mine": pl.Float64(),
        "theirs": pl.Float64(),
        "difference": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "p_rows": pl.Float64(),
        "p_folds": pl.Float64(),
        "p_adjusted": pl.Float64(),
        "verdict": pl.String(),
    }
)
SCOPES_SCHEMA = pl.Schema(
    {
        "scope": pl.String(),
        "metric": pl.String(),
        "encoder_id": pl.String(),
        "mine": pl.Float64(),
        "theirs": pl.Float64(),
        "difference": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "p_adjusted": pl.Float64(),
        "verdict": pl.String(),
    }
)


def compare_tasks(scored: Iterable[ScoredTask], rivals: Sequence[StoredScore]) -> pl.DataFrame:
    """Compare the new vectors with each rival on each task.

    A difference is established if the paired bootstrap over rows and the corrected t test over
    folds both reject at 5 %; the first is corrected for all rivals and tasks by Holm's method.

    Returns:
        `DIFFERENCES_SCHEMA`; `difference` is mine minus theirs, by the task's main metric.
    """
    rows = []
    of_task: dict[str, list[StoredScore]] = {}
    for rival in rivals:
        of_task.setdefault(rival.task_id, []).append(rival)
    for one in scored:
        mine = one.stored_score()
        if mine is None:
            continue
        for rival in of_task.get(one.task.task_id, []):
            rows.append(difference_row(mine, rival, one.problem, one.task.family, one.metric))
    return frame_differences(rows)


def difference_row(
    mine: StoredScore, theirs: StoredScore, problem: Problem, family: str, metric: str
) -> dict[str, Any]:
    """Compare two encoders on one task: `DIFFERENCES_SCHEMA` without correction and verdict.

    Args:
        mine: Scores of the first encoder.
        theirs: Scores of the second encoder, on the same samples and from the same draws.
        problem: The task, restricted to these samples.
        family: Family of the task.
        metric: The metric of the scores.
    """
    first, second = np.array(mine.fold_scores), np.array(theirs.fold_scores)
    value = float(first.mean() - second.mean())
    by_rows = paired_bootstrap_test(value, mine.replicates, theirs.replicates, LEVEL)
    by_folds = corrected_t_test(first - second, *_part_sizes(problem), LEVEL)
    return {
        "task_id": mine.task_id,
        "family": family,
        "metric": metric,
        "encoder_id": theirs.encoder_id,
        "mine": float(first.mean()),
        "theirs": float(second.mean()),
        "difference": value,
        "low": by_rows.low,
        "high": by_rows.high,
        "p_rows": by_rows.p_value,
        "p_folds": by_folds.p_value,
    }


def frame_differences(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Correct differences by Holm's method and add verdicts: `DIFFERENCES_SCHEMA`."""
    if not rows:
        return pl.DataFrame(schema=DIFFERENCES_SCHEMA)
    found = pl.DataFrame(rows)
    adjusted = pl.Series("p_adjusted", adjust_holm(found["p_rows"].to_list()))
    is_established = (adjusted < 1 - LEVEL) & (found["p_folds"] < 1 - LEVEL)
    whole = found.with_columns(adjusted, _verdict(is_established))
    return whole.select(pl.col(name).cast(dtype) for name, dtype in DIFFERENCES_SCHEMA.items())


def compare_scopes(
    differences: pl.DataFrame, profile: str, metric: str = "roc_auc"
) -> pl.DataFrame:
    """Compare means over the tasks of each family, and the mean over families.

    The interval of a mean is the mean of the intervals, as if the errors of all tasks were fully
    correlated: tasks share genes, and this gives the widest interval. p values are corrected for
    all rivals and scopes by Holm's method. A rival that lacks a task of a family is not compared
    on the family; one that lacks a family is not compared overall. Tasks have the weights of their
    profile (`task_weights`).
    """
    tasks = differences.filter(pl.col("metric") == metric)
    n_tasks = tasks.group_by("family").agg(pl.col("task_id").n_unique().alias("n"))
    numbers = ["mine", "theirs", "difference", "low", "high"]
    weight = task_weight(tasks["task_id"], profile)
    families = (
        tasks.group_by("family", "encoder_id")
        .agg(pl.len().alias("found"), *(weighted_mean(name, weight) for name in numbers))
        .join(n_tasks, on="family")
        .filter(pl.col("found") == pl.col("n"))
    )
    overall = (
        families.filter(is_in_overall())
        .group_by("encoder_id")
        .agg(pl.len().alias("found"), *(pl.col(name).mean() for name in numbers))
        .filter(pl.col("found") == n_tasks.filter(is_in_overall()).height)
        .with_columns(pl.lit(OVERALL).alias("family"))
    )
    columns = ["family", "encoder_id", *numbers]
    found = pl.concat([families.select(columns), overall.select(columns)])
    if not found.height:
        return pl.DataFrame(schema=SCOPES_SCHEMA)
    quantile = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    p_values = [
        _two_sided(value, (high - low) / 2 / quantile)
        for value, low, high in found.select("difference", "low", "high").iter_rows()
    ]
    adjusted = pl.Series("p_adjusted", adjust_holm(p_values))
    whole = found.with_columns(
        pl.col("family").alias("scope"),
        pl.lit(metric).alias("metric"),
        adjusted,
        _verdict(adjusted < 1 - LEVEL),
    ).sort("scope", "theirs", "encoder_id", descending=[False, True, False])
    return whole.select(pl.col(name).cast(dtype) for name, dtype in SCOPES_SCHEMA.items())


def _verdict(is_established: pl.Series) -> pl.Expr:
    return (
        pl.when(~is_established)
        .then(pl.lit(UNDECIDED))
        .when(pl.col("difference") > 0)
        .then(pl.lit(BETTER))
        .otherwise(pl.lit(WORSE))
        .alias("verdict")
    )


def _two_sided(value: float, standard_error: float) -> float:
    if standard_error <= 0:
        return 0.0 if value else 1.0
    return math.erfc(abs(value) / standard_error / math.sqrt(2))


def _part_sizes(problem: Problem) -> tuple[float, float]:
    """Mean numbers of training and held-out units of a fold, for the corrected t test."""
    n_train = float((problem.split == TRAIN).sum(axis=0).mean())
    n_test = float((problem.split == TEST).sum(axis=0).mean())
    if n_train + n_test < problem.n_samples:
        # Folds hold out entities of pairs: entities grow with the square root of the pairs.
        return math.sqrt(n_train), math.sqrt(n_test)
    return n_train, n_test

"""The scores of the new vectors and of all rivals as one table, with intervals."""

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from genebench.evaluation.statistics.bootstrap import LEVEL, confidence_interval
from genebench.evaluation.statistics.means import OVERALL
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.stored_scores import StoredScore
from genebench.reference.task_weights import task_weight, weighted_mean
from genebench.reference.vectors_evaluation import ScoredTask
from genebench.tasks.declaration import is_in_overall


def score_table(
    name: str,
    scored: Sequence[ScoredTask],
    found: Sequence[StoredScore],
    rivals: pl.DataFrame,
    packaged: UniverseTasks,
) -> pl.DataFrame:
    """Build `ComparisonTables.scores`: one row for each task and encoder, the new vectors included.

    Args:
        name: Name of the new vectors.
        scored: The tasks with the scores of the new vectors.
        found: The scores of the rivals on the same rows.
        rivals: Rows of bundles: modality and is_control of each rival.
        packaged: The tasks with their titles.
    """
    cards = {
        row[0]: row[1:]
        for row in rivals.select("encoder_id", "modality", "is_control").unique().iter_rows()
    }
    tasks = {one.task.task_id: one for one in scored if one.evaluation.status == "ok"}
    rows = []

    def add(task_id: str, encoder_id: str, value: float, low: float, high: float) -> None:
        one = tasks[task_id]
        modality, is_control = cards.get(encoder_id, ("mine", False))
        rows.append(
            {
                "task_id": task_id,
                "title": packaged.titles[task_id],
                "family": one.task.family,
                "metric": one.metric,
                "encoder_id": encoder_id,
                "modality": modality,
                "is_control": is_control,
                "value": value,
                "low": low,
                "high": high,
                "n_samples": one.problem.n_samples,
                "in_mean": True,
            }
        )

    for task_id, one in tasks.items():
        intervals = one.evaluation.intervals
        assert intervals is not None
        row = intervals.filter(pl.col("metric") == one.metric).row(0, named=True)
        add(task_id, name, row["value"], row["low"], row["high"])
    for rival in found:
        one = tasks[rival.task_id]
        value = float(np.mean(rival.fold_scores))
        interval = confidence_interval(
            one.metric, value, rival.replicates, LEVEL, n_minority=_n_minority(one)
        )
        add(rival.task_id, rival.encoder_id, value, interval.low, interval.high)
    schema = {
        "task_id": pl.String(),
        "title": pl.String(),
        "family": pl.String(),
        "metric": pl.String(),
        "encoder_id": pl.String(),
        "modality": pl.String(),
        "is_control": pl.Boolean(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "n_samples": pl.Int64(),
        "in_mean": pl.Boolean(),
    }
    return pl.DataFrame(rows, schema=schema)


def add_published(
    scores: pl.DataFrame, published: pl.DataFrame | None, against: Collection[str]
) -> pl.DataFrame:
    """Add the published scores of the tasks of a score table; means are over these tasks alone.

    Args:
        scores: The result of `score_table`.
        published: The result of `published_scores`, or None.
        against: The rivals to keep; all if empty.
    """
    if published is None:
        return scores
    if against:
        published = published.filter(pl.col("encoder_id").is_in(list(against)))
    tasks = scores.select("task_id", "title", "family", "metric").unique()
    rows = published.join(tasks, on="task_id").with_columns(
        pl.lit(value=False).alias("is_control"), pl.lit(value=True).alias("in_mean")
    )
    marked = scores.with_columns(
        pl.col("task_id").is_in(rows["task_id"].implode()).alias("in_mean")
    )
    return pl.concat([marked, rows], how="diagonal").select(scores.columns)


def scope_means(scores: pl.DataFrame, metric: str, profile: str) -> pl.DataFrame:
    """Compute means over the tasks of each family, and over families.

    Args:
        scores: task_id, family, metric, encoder_id, modality, value, low and high.
        metric: The metric.
        profile: The profile of the tasks, for their weights (`task_weights`).

    Returns:
        scope, encoder_id, modality, value, low and high, best first; only where an encoder has all
        tasks of a family that any encoder has, and all families for `overall`.
    """
    scored = scores.filter(pl.col("metric") == metric)
    n_tasks = scored.group_by("family").agg(pl.col("task_id").n_unique().alias("n"))
    keys = ["encoder_id", "modality"]
    names = ("value", "low", "high")
    weight = task_weight(scored["task_id"], profile)
    families = (
        scored.group_by("family", *keys)
        .agg(pl.len().alias("found"), *(weighted_mean(name, weight) for name in names))
        .join(n_tasks, on="family")
        .filter(pl.col("found") == pl.col("n"))
    )
    overall = (
        families.filter(is_in_overall())
        .group_by(keys)
        .agg(pl.len().alias("found"), *(pl.col(name).mean() for name in names))
        .filter(pl.col("found") == n_tasks.filter(is_in_overall()).height)
        .with_columns(pl.lit(OVERALL).alias("family"))
    )
    columns = [pl.col("family").alias("scope"), *keys, "value", "low", "high"]
    whole = pl.concat([families.select(columns), overall.select(columns)])
    order = [pl.col("scope") == OVERALL, "scope", "value", "encoder_id"]
    return whole.sort(order, descending=[False, False, True, False])


def _n_minority(one: ScoredTask) -> int:
    """Number of held-out samples; of the minority class if the task is binary."""
    held_out = np.unique(np.concatenate([output.rows for output in one.evaluation.outputs]))
    if one.problem.kind != "binary":
        return len(held_out)
    positives = int(one.problem.targets[held_out].sum())
    return min(positives, len(held_out) - positives)

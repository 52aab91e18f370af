"""Computes the leaderboard of a release from its scores, and reads the stored one."""

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from genebench.evaluation.statistics.means import OVERALL, rank_encoders, task_means, task_weights
from genebench.tasks.declaration import is_subtask
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.catalogue import table
from lakehouse.tables.names import did_you_mean, require_known
from lakehouse.tables.time_travel import Tables


def leaderboard_rows(tables: Tables, release: str) -> pl.DataFrame:
    """Compute the rows of `gold.leaderboard` of a release from its whole tasks, not sub-tasks.

    Raises:
        LakeError: The release does not exist.
    """
    items = read_release(tables, release)
    leaves = items.filter(~is_subtask())
    scores = read_scores(tables, release=release).filter(pl.col("label") == "")
    kept = scores.join(leaves.lazy(), on="task_id", how="semi").collect()
    # Sums of floats depend on their order; equal scores give equal rows.
    means = task_means(kept.sort("evaluation_key", "metric", "fold"))
    ranked = rank_encoders(leaves.join(task_weights(items), on="task_id"), means)
    schema = table("gold.leaderboard").schema
    return ranked.select(
        [
            (pl.lit(release).alias(name) if name == "release_id" else pl.col(name)).cast(dtype)
            for name, dtype in schema.items()
        ]
    ).sort("protocol_id", "probe_id", "metric", "scope", "rank", "encoder_id")


def stored_leaderboard(tables: Tables, release: str = "current") -> pl.DataFrame:
    """Read a release's rows of `gold.leaderboard`, in long form and in order."""
    rows = tables.table("gold.leaderboard").filter(pl.col("release_id") == release)
    return rows.sort("protocol_id", "probe_id", "metric", "scope", "rank", "encoder_id").collect()


def read_leaderboard(
    tables: Tables, release: str = "current", by: str = "family", metric: str = "roc_auc"
) -> pl.DataFrame:
    """Read the leaderboard as one row for each encoder and probe, best first.

    Args:
        tables: The tables of the lake.
        release: The release.
        by: `family` for one column per family and the overall mean; `task` for one column per
            task, with encoders sorted by their mean over the tasks that each was scored on.
        metric: The metric.

    Returns:
        encoder_id, modality (`control` for encoders whose result is known in advance), probe_id
        and one f64 column for each family or task, in the metric's unit; null where nothing was
        scored.

    Raises:
        LakeError: The release has no leaderboard, or none for this metric.
    """
    require_known(metric, METRICS, "metric")
    if by == "task":
        scores = read_scores(tables, release=release, metric=metric, label="")
        encoder = ["encoder_id", "modality", "probe_id"]
        wide = task_means(scores.collect()).pivot(on="task_id", index=encoder, values="mean")
        return wide.sort(
            pl.mean_horizontal(pl.exclude(encoder)),
            "encoder_id",
            "probe_id",
            descending=[METRICS[metric].is_greater_better, False, False],
        )
    if by != "family":
        raise LakeError(f"by={by!r}: choose family or task{did_you_mean(by, ['family', 'task'])}")
    rows = stored_leaderboard(tables, release)
    if not rows.height:
        read_release(tables, release)
        raise LakeError(f"release {release!r} has no leaderboard yet; run `genebench report`")
    chosen = rows.filter(pl.col("metric") == metric)
    if not chosen.height:
        raise LakeError(
            f"release {release!r} has no scores by {metric!r}; it has "
            + ", ".join(rows["metric"].unique().sort())
        )
    wide = chosen.sort(pl.col("scope") == OVERALL, "scope").pivot(
        on="scope", index=["encoder_id", "modality", "probe_id"], values="mean"
    )
    if OVERALL not in wide.columns:
        # A release of temporal tasks alone has no mean over families.
        wide = wide.with_columns(pl.lit(None, pl.Float64).alias(OVERALL))
    # An encoder that lacks a family has no overall mean and comes last.
    descending = [METRICS[metric].is_greater_better, False, False]
    return wide.sort(OVERALL, "encoder_id", "probe_id", descending=descending, nulls_last=True)

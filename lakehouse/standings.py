"""The leaderboard of a release, computed from its scores."""

import polars as pl

from genebench.leaderboard import rank_encoders, task_means, weigh_tasks
from genebench.tasks import is_subtask
from lakehouse.queries import Lake
from lakehouse.tables import table


def leaderboard_rows(lake: Lake, release: str) -> pl.DataFrame:
    """Rows of `gold.leaderboard` of a release, from its leaf tasks; sub-tasks are left out.

    Raises:
        LakeError: The release does not exist.
    """
    items = lake.release(release)
    leaves = items.filter(~is_subtask())
    scores = lake.scores(release=release).filter(pl.col("label") == "")
    mine = scores.join(leaves.lazy(), on="task_id", how="semi").collect()
    # Sums of floats depend on their order; equal scores give equal rows.
    means = task_means(mine.sort("evaluation_key", "metric", "fold"))
    ranked = rank_encoders(leaves.join(weigh_tasks(items), on="task_id"), means)
    schema = table("gold.leaderboard").schema
    return ranked.select(
        [
            (pl.lit(release).alias(name) if name == "release_id" else pl.col(name)).cast(dtype)
            for name, dtype in schema.items()
        ]
    ).sort("protocol_id", "probe_id", "metric", "scope", "rank", "encoder_id")

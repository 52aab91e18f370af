"""A lake with a temporal task, whose encoders may have known the later labels."""

import json

import polars as pl
from blanks import filled

from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.tables.commits import Commit

COMMIT = Commit("test", "test")
TASK = "task_1"
# Of the synthetic lake: one encoder reads texts, one was trained after September 2022.
TEXT, LATE = "e0", "random"


def make_temporal(lake):
    """Turn a task of the synthetic lake into a temporal one; declare what two encoders read."""
    is_task = pl.col("task_id") == TASK
    temporal = pl.when(is_task).then(pl.lit("temporal")).otherwise("family").alias("family")
    tasks = lake.table("silver.tasks").collect().with_columns(
        temporal,
        pl.when(is_task).then(pl.lit("embedded")).otherwise("profile_id").alias("profile_id"),
        pl.when(is_task).then(pl.lit("now_1,past_1")).otherwise("snapshot_id").alias("snapshot_id"),
    )  # fmt: skip
    lake.delta.replace("silver.tasks", tasks, COMMIT)
    snapshots = [
        {"snapshot_id": "now_1", "source": "bioconductor", "version": "3.23.1"},
        {"snapshot_id": "past_1", "source": "bioconductor_2022", "version": "3.16.0"},
    ]
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", snapshots), COMMIT)
    for encoder_id, declared in (
        (TEXT, {"loader": "sentence_transformer", "trained": "2021-08"}),
        (LATE, {"loader": "random", "trained": "2022-10"}),
    ):
        row = lake.encoders().filter(encoder_id=encoder_id)
        row = row.with_columns(declaration=pl.lit(json.dumps(declared)))
        row = row.select(lake.table("silver.encoders").collect_schema().names())
        lake.delta.replace("silver.encoders", row, COMMIT, {"encoder_id": encoder_id})
    where = {"release_id": "current"}
    lake.delta.replace("gold.releases", lake.release().with_columns(temporal), COMMIT, where)
    lake.delta.replace("gold.leaderboard", leaderboard_rows(lake, "current"), COMMIT, where)

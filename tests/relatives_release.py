"""A second release of a lake, under the protocol `relatives`, whose scores are lower."""

import polars as pl

from lakehouse.tables.commits import Commit

COMMIT = Commit("test", "test")
LOST = 0.05
RELATIVES = "current_relatives"


def add_relatives(lake, other_vectors=()):
    """Write `current_relatives`: the scores of `current` less `LOST`, under other keys.

    Args:
        lake: A lake with the release `current`.
        other_vectors: Tasks whose evaluations are of other vectors.
    """
    named = (pl.lit("relatives").alias("protocol_id"), pl.col("evaluation_key") + "_relatives")
    tables = ("gold.evaluations", "gold.scores")
    for name, changed in zip(tables, ([], [pl.col("value") - LOST]), strict=True):
        rows = lake.table(name).collect().with_columns(*named, *changed)
        lake.delta.append(name, rows, COMMIT)
    vectors = pl.when(pl.col("task_id").is_in(list(other_vectors))).then(pl.lit("others"))
    items = lake.release("current").with_columns(
        *named, pl.lit(RELATIVES).alias("release_id"),
        vectors.otherwise("feature_digest").alias("feature_digest"),
    )  # fmt: skip
    lake.delta.replace("gold.releases", items, COMMIT, {"release_id": RELATIVES})

"""Reads evidence: the evaluations on record, and the rows that belong to them.

A run appends the scores, intervals and predictions of a batch first and its evaluations last. Rows
without their evaluation belong to a run that was interrupted or has not finished the batch, so
readers leave them out; nothing has to be deleted. If two runs evaluated the same key, one of the
two evaluations counts, with the rows of its own run and batch.
"""

import polars as pl

from lakehouse.tables.time_travel import Tables

# The tables whose rows belong to an evaluation.
EVIDENCE = ("gold.scores", "gold.intervals", "gold.predictions")
_BATCH = ["run_id", "batch_id"]


def read_evaluations(tables: Tables) -> pl.LazyFrame:
    """Read the evaluations, one row of `gold.evaluations` for each key.

    The first evaluation that did not fail counts, so later runs do not change the scores of a key;
    the last failure counts where all have failed.
    """
    return _choose_one(tables.table("gold.evaluations"))


def _choose_one(evaluations: pl.LazyFrame) -> pl.LazyFrame:
    has_failed = pl.col("status") == "failed"
    time = pl.col("evaluated_at").dt.timestamp("us")
    return (
        evaluations.sort(has_failed, pl.when(has_failed).then(-time).otherwise(time), *_BATCH)
        .unique("evaluation_key", keep="first", maintain_order=True)
        .sort("evaluation_key")
    )


def read_evidence(
    tables: Tables, name: str, items: pl.DataFrame, version: int | None = None
) -> pl.LazyFrame:
    """Read the rows of an evidence table that belong to evaluations on record.

    Args:
        tables: The tables of the lake.
        name: One of `EVIDENCE`.
        items: Rows with the `evaluation_key` of the evaluations.
        version: A version of the table; the newest by default.

    Returns:
        The columns of the table.
    """
    keys = items.lazy().select("evaluation_key")
    evaluations = tables.table("gold.evaluations").join(keys, on="evaluation_key", how="semi")
    stored = (
        _choose_one(evaluations).select("evaluation_key", "family", "encoder_id", *_BATCH).collect()
    )
    rows = tables.table(name, version)
    columns = rows.collect_schema().names()
    # Family and encoder_id are the partition columns, so filtering on them skips whole folders.
    # Tasks or encoders with equal content share an evaluation, which is stored under the names of
    # the first.
    return (
        rows.filter(
            pl.col("family").is_in(stored["family"].unique().to_list()),
            pl.col("encoder_id").is_in(stored["encoder_id"].unique().to_list()),
        )
        .join(
            stored.lazy().select("evaluation_key", *_BATCH), on="evaluation_key", suffix="_recorded"
        )
        # Rows and evaluations that were written before the column existed have no batch_id.
        .filter(
            pl.col("run_id") == pl.col("run_id_recorded"),
            pl.col("batch_id").eq_missing(pl.col("batch_id_recorded")),
        )
        .select(columns)
    )


def find_unrecorded(tables: Tables, name: str) -> pl.DataFrame:
    """Count the rows of an evidence table whose evaluation is not on record, by run and batch.

    Returns:
        family, encoder_id, run_id, batch_id, keys (their evaluation keys, sorted) and n_rows.
    """
    recorded = tables.table("gold.evaluations").select("evaluation_key", *_BATCH)
    return (
        tables.table(name)
        .join(recorded, on=["evaluation_key", *_BATCH], how="anti", nulls_equal=True)
        .group_by("family", "encoder_id", *_BATCH)
        .agg(pl.col("evaluation_key").unique().sort().alias("keys"), pl.len().alias("n_rows"))
        .sort("family", "encoder_id", *_BATCH)
        .collect()
    )

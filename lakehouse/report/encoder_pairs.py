"""Compares two encoders fold by fold on the tasks that both were scored on."""

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables

# Sums of floats depend on their order, so equal differences may differ by this much.
_DIFFERENCE_TOLERANCE = 1e-9


def is_main_metric() -> pl.Expr:
    """Return an expression that is true where a score's metric is its task kind's main metric."""
    return pl.col("metric") == pl.col("kind").replace_strict(dict(MAIN_METRICS))


def compare_encoders(
    tables: Tables, encoder_a: str, encoder_b: str, release: str, metric: str | None, probe: str
) -> pl.DataFrame:
    """Compare two encoders on the same folds; see `lakehouse.query.lake.Lake.compare`."""
    items = read_release(tables, release)
    for encoder in (encoder_a, encoder_b):
        require_known(encoder, items["encoder_id"], f"encoder in release {release!r} named")
    # Folds are paired by number; equal numbers are equal folds only if the samples are the same.
    same = ["family", "task_id", "kind", "metric", "protocol_id", "label_digest", "fold"]
    samples = items.lazy().select("evaluation_key", "label_digest").unique()

    def read_side(encoder: str) -> pl.LazyFrame:
        rows = read_scores(
            tables, encoder=encoder, release=release, metric=metric, probe=probe, label=""
        )
        chosen = rows if metric else rows.filter(is_main_metric())
        return chosen.join(samples, on="evaluation_key").select(*same, "value")

    side_a, side_b = read_side(encoder_a), read_side(encoder_b)
    lower = [name for name, one in METRICS.items() if not one.is_greater_better]
    sign = pl.when(pl.col("metric").is_in(lower)).then(-1.0).otherwise(1.0)
    gain = pl.col("value") - pl.col("value_b")
    tests = _stored_tests(tables, encoder_a, encoder_b, release, probe)
    # Stored tests of an older difference are dropped: the scores changed after `genebench report`.
    is_stale = (pl.col("difference") - pl.col("tested")).abs() > _DIFFERENCE_TOLERANCE
    results = ("low", "high", "p_adjusted", "is_established")
    found = (
        side_a.join(side_b, on=same, suffix="_b")
        .group_by("family", "task_id", "kind", "metric")
        .agg(
            pl.col("value").mean().alias("mean_a"),
            pl.col("value_b").mean().alias("mean_b"),
            gain.mean().alias("difference"),
            gain.std(ddof=0).alias("sd"),
            pl.len().alias("n_folds"),
            (gain * sign > 0).sum().alias("n_folds_won"),
        )
        .sort(pl.col("difference") * sign, "task_id", descending=[True, False])
        .join(tests, on=["task_id", "metric"], how="left", maintain_order="left")
        .with_columns(pl.when(~is_stale).then(pl.col(name)).alias(name) for name in results)
        .drop("tested")
        .collect()
    )
    if not found.height:
        raise LakeError(
            f"{encoder_a} and {encoder_b} have no task that was scored on the same samples in "
            f"release {release!r}" + (f" by {metric}" if metric else "")
        )
    return found


def _stored_tests(
    tables: Tables, encoder_a: str, encoder_b: str, release: str, probe: str
) -> pl.LazyFrame:
    """Read the rows of `gold.comparisons` of two encoders, with the difference as a minus b."""
    both = [encoder_a, encoder_b]
    pair = pl.col("encoder_a").is_in(both) & pl.col("encoder_b").is_in(both)
    is_swapped = pl.col("encoder_a") != encoder_a
    return (
        tables.table("gold.comparisons")
        .filter((pl.col("release_id") == release) & (pl.col("probe_id") == probe) & pair)
        .select(
            "task_id",
            "metric",
            pl.when(is_swapped).then(-pl.col("difference")).otherwise("difference").alias("tested"),
            pl.when(is_swapped).then(-pl.col("high")).otherwise("low").alias("low"),
            pl.when(is_swapped).then(-pl.col("low")).otherwise("high").alias("high"),
            "p_adjusted",
            "is_established",
        )
    )

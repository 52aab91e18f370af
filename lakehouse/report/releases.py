"""Freezes a release under a permanent name, and lists the differences between two releases."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.statistics.means import task_means
from lakehouse.report.encoder_pairs import is_main_metric
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.significance import comparison_rows, stored_rows, verdict_rows
from lakehouse.score.plan import CURRENT, require_release_name
from lakehouse.score.scores import list_releases, read_release, read_scores
from lakehouse.tables.time_travel import Tables

_ITEM_KEY = ["family", "task_id", "kind", "encoder_id", "probe_id"]
_DIGEST_REASONS = {"label_digest": "labels", "feature_digest": "vectors"}


@dataclass(frozen=True)
class FrozenRelease:
    """The rows that a frozen release adds.

    Attributes:
        rows: Table to its rows, in the order of writing. `gold.releases` comes last, so that a
            release exists only when all its other rows do.
        n_pending: Number of the release's evaluations that are not finished.
    """

    rows: Mapping[str, pl.DataFrame]
    n_pending: int


def freeze_release(
    tables: Tables, name: str, source: str = CURRENT, *, allow_pending: bool = False
) -> FrozenRelease:
    """Copy a release under a permanent name.

    Args:
        tables: The tables of the lake.
        name: The new release: lower case letters, digits and . _ -.
        source: The release that is frozen.
        allow_pending: Freeze even if evaluations are pending.

    Returns:
        The rows to write. They are computed from the current scores, not copied from the last
        `genebench report`.

    Raises:
        LakeError: The name is not valid, is taken by a release with other evaluations, or is
            reserved for `genebench score`; the source does not exist or has pending evaluations.
    """
    require_release_name(name)
    known = list_releases(tables)
    items = read_release(tables, source)
    taken = known.filter(pl.col("release_id") == name)
    if taken.height and taken["is_foreign"][0]:
        raise LakeError(f"{name!r} is an imported release; choose another name")
    if taken.height:
        before = set(read_release(tables, name)["evaluation_key"])
        n_other = len(before ^ set(items["evaluation_key"]))
        if n_other:
            raise LakeError(
                f"release {name!r} is frozen and {source!r} differs from it by {n_other:,} "
                f"evaluations; choose another name. `genebench diff {name} {source}` lists the "
                "differences"
            )
    finished = tables.table("gold.evaluations").filter(pl.col("status") != "failed")
    pending = items.lazy().join(finished, on="evaluation_key", how="anti").collect()
    if pending.height and not allow_pending:
        raise LakeError(
            f"release {source!r} has {pending.height:,} evaluations that are not finished; run "
            "`genebench score`, or freeze it without them with --allow-pending"
        )
    # Computed anew: the scores may have changed after the last `genebench report`.
    comparisons = comparison_rows(tables, source)
    rows = {
        "gold.universes": stored_rows(tables, "gold.universes", source),
        "gold.leaderboard": leaderboard_rows(tables, source),
        "gold.comparisons": comparisons,
        "gold.verdicts": verdict_rows(tables, source, comparisons),
        "gold.releases": items,
    }
    renamed = pl.lit(name).alias("release_id")
    return FrozenRelease(
        {table: found.with_columns(renamed) for table, found in rows.items()}, pending.height
    )


def diff_releases(
    tables: Tables, before: str, after: str, metric: str | None = None
) -> pl.DataFrame:
    """List the scores that differ between two releases, with the reason.

    Args:
        tables: The tables of the lake.
        before: A release.
        after: Another.
        metric: One metric; the main one of each kind of task by default.

    Returns:
        family, task_id, kind, encoder_id, probe_id, metric, mean_before, mean_after (over folds),
        change (after minus before, in the metric's unit) and why: the changed inputs of the
        evaluation key (`labels`, `vectors`, `probe`, `protocol`, joined by " and "), `added` or
        `removed`. Evaluations that both releases share are left out.

    Raises:
        LakeError: A release does not exist.
    """
    old, new = (_release_means(tables, release, metric) for release in (before, after))
    both = old.join(new, on=[*_ITEM_KEY, "metric"], how="full", suffix="_after", coalesce=True)
    changed = [
        pl.when(pl.col(digest) != pl.col(f"{digest}_after")).then(pl.lit(word))
        for digest, word in _DIGEST_REASONS.items()
    ]
    has_other_protocol = pl.col("protocol_id") != pl.col("protocol_id_after")
    changed += [
        pl.when(has_other_protocol).then(pl.lit("protocol")),
        pl.when(
            (pl.col("probe_digest") != pl.col("probe_digest_after")) & ~has_other_protocol
        ).then(pl.lit("probe")),
    ]
    why = (
        pl.when(pl.col("evaluation_key").is_null())
        .then(pl.lit("added"))
        .when(pl.col("evaluation_key_after").is_null())
        .then(pl.lit("removed"))
        .otherwise(pl.concat_list(changed).list.drop_nulls().list.join(" and "))
    )
    return (
        both.filter(~pl.col("evaluation_key").eq_missing(pl.col("evaluation_key_after")))
        .select(
            *_ITEM_KEY,
            "metric",
            pl.col("mean").alias("mean_before"),
            pl.col("mean_after"),
            (pl.col("mean_after") - pl.col("mean")).alias("change"),
            why.alias("why"),
        )
        .sort(
            pl.col("change").abs(), "task_id", "encoder_id", descending=[True, False, False],
            nulls_last=True,
        )
    )  # fmt: skip


def _release_means(tables: Tables, release: str, metric: str | None) -> pl.DataFrame:
    """Return a release's items with their means; an item without scores has a null mean."""
    items = read_release(tables, release)
    scores = read_scores(tables, release=release, metric=metric, label="")
    chosen = scores if metric else scores.filter(is_main_metric())
    means = task_means(chosen.collect()).select(
        "task_id", "encoder_id", "probe_id", "protocol_id", "metric", "mean"
    )
    digests = [*_DIGEST_REASONS, "probe_digest", "evaluation_key"]
    key = ["task_id", "encoder_id", "probe_id", "protocol_id"]
    named = items.select(*_ITEM_KEY, "protocol_id", *digests)
    return named.join(means, on=key, how="left").with_columns(pl.col("metric").fill_null(""))

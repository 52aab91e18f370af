"""Releases: freezing what `score` keeps current, and what moved between two of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.statistics.means import task_means
from lakehouse.report.encoder_pairs import is_main
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.significance import comparison_rows, stored_rows, verdict_rows
from lakehouse.score.scores import list_releases, read_release, read_scores
from lakehouse.tables.time_travel import Tables

CURRENT = "current"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_WHO = ["family", "task_id", "kind", "encoder_id", "probe_id"]
_WHY = {"label_digest": "labels", "feature_digest": "vectors"}


@dataclass(frozen=True)
class Frozen:
    """The rows that a frozen release adds.

    Attributes:
        rows: Table to its rows, in the order to write them: the release itself comes last, so that
            it exists once everything that belongs to it does.
        n_pending: Evaluations that it names but that were never finished.
    """

    rows: Mapping[str, pl.DataFrame]
    n_pending: int


def freeze_release(
    lake: Tables, name: str, source: str = CURRENT, *, allow_pending: bool = False
) -> Frozen:
    """Name the evaluations of a release for good.

    Args:
        lake: The lake.
        name: The new release: lower case letters, digits and . _ -.
        source: The release that is frozen.
        allow_pending: Even where evaluations are pending.

    Raises:
        LakeError: The name is none, is taken by other evaluations, or belongs to `score`; the
            source does not exist or is not whole.
    """
    if not _NAME.fullmatch(name):
        raise LakeError(
            f"{name!r} cannot name a release: lower case letters, digits and . _ - are allowed, "
            "such as 2026.1"
        )
    if name.startswith(CURRENT):
        raise LakeError(f"{name!r} is rewritten by each `genebench score`; choose another name")
    known = list_releases(lake)
    items = read_release(lake, source)
    taken = known.filter(pl.col("release_id") == name)
    if taken.height and taken["is_foreign"][0]:
        raise LakeError(f"{name!r} is an imported release; choose another name")
    if taken.height:
        before = set(read_release(lake, name)["evaluation_key"])
        n_other = len(before ^ set(items["evaluation_key"]))
        if n_other:
            raise LakeError(
                f"release {name!r} is frozen and {source!r} differs from it by {n_other:,} "
                f"evaluations; choose another name (`genebench diff {name} {source}` tells what "
                "moved)"
            )
    finished = lake.table("gold.evaluations").filter(pl.col("status") != "failed")
    pending = items.lazy().join(finished, on="evaluation_key", how="anti").collect()
    if pending.height and not allow_pending:
        raise LakeError(
            f"release {source!r} has {pending.height:,} evaluations that are not finished; run "
            "`genebench score`, or freeze it as it is with --allow-pending"
        )
    # Computed like the leaderboard: `genebench report` may last have seen other scores.
    comparisons = comparison_rows(lake, source)
    rows = {
        "gold.universes": stored_rows(lake, "gold.universes", source),
        "gold.leaderboard": leaderboard_rows(lake, source),
        "gold.comparisons": comparisons,
        "gold.verdicts": verdict_rows(lake, source, comparisons),
        "gold.releases": items,
    }
    renamed = pl.lit(name).alias("release_id")
    return Frozen(
        {table: found.with_columns(renamed) for table, found in rows.items()}, pending.height
    )


def diff_releases(lake: Tables, before: str, after: str, metric: str | None = None) -> pl.DataFrame:
    """What moved from one release to another, and why.

    Args:
        lake: The lake.
        before: A release.
        after: Another.
        metric: One metric; the main one of each kind of task by default.

    Returns:
        family, task_id, kind, encoder_id, probe_id, metric, mean_before, mean_after (over folds),
        change (after minus before, in the metric's unit) and why: `labels`, `vectors`, `probe`
        and `protocol` (what the evaluation key was made from and has changed, joined by " and "),
        `added` or `removed`. What both releases share is left out.

    Raises:
        LakeError: A release does not exist.
    """
    old, new = (_side(lake, release, metric) for release in (before, after))
    both = old.join(new, on=[*_WHO, "metric"], how="full", suffix="_after", coalesce=True)
    changed = [
        pl.when(pl.col(digest) != pl.col(f"{digest}_after")).then(pl.lit(word))
        for digest, word in _WHY.items()
    ]
    has_other_rules = pl.col("protocol_id") != pl.col("protocol_id_after")
    changed += [
        pl.when(has_other_rules).then(pl.lit("protocol")),
        pl.when((pl.col("probe_digest") != pl.col("probe_digest_after")) & ~has_other_rules).then(
            pl.lit("probe")
        ),
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
            *_WHO,
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


def _side(lake: Tables, release: str, metric: str | None) -> pl.DataFrame:
    """A release's items with their means; an item by no metric keeps its place without a mean."""
    items = read_release(lake, release)
    scores = read_scores(lake, release=release, metric=metric, label="")
    chosen = scores if metric else scores.filter(is_main())
    means = task_means(chosen.collect()).select(
        "task_id", "encoder_id", "probe_id", "protocol_id", "metric", "mean"
    )
    digests = [*_WHY, "probe_digest", "evaluation_key"]
    who = ["task_id", "encoder_id", "probe_id", "protocol_id"]
    named = items.select(*_WHO, "protocol_id", *digests)
    return named.join(means, on=who, how="left").with_columns(pl.col("metric").fill_null(""))

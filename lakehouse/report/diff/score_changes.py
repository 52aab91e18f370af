"""Lists the evaluations of two states: kept, computed anew, added, removed, and why."""

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.statistics.means import task_means
from lakehouse.report.diff.lake_states import LakeState
from lakehouse.report.diff.score_causes import find_causes
from lakehouse.report.encoder_pairs import is_main_metric
from lakehouse.score.evidence import read_evidence
from lakehouse.score.scores import read_scores

ITEM = ["family", "task_id", "kind", "encoder_id", "probe_id"]
KEPT, ADDED, REMOVED, UNEXPLAINED = "kept", "added", "removed", "unexplained"
SCORED = "scored since"
SCORE_CHANGES_SCHEMA = pl.Schema(
    dict.fromkeys([*ITEM, "metric"], pl.String())
    | dict.fromkeys(["mean_before", "mean_after", "change", "noise"], pl.Float64())
    | dict.fromkeys(["keys", "why"], pl.String())
)
# The 97.5 % quantile of the normal distribution.
Z_95 = 1.959964
_DIGESTS = ["label_digest", "feature_digest", "probe_digest", "evaluation_key"]
_CHANGED_DIGESTS = {"label_digest": "labels", "feature_digest": "vectors"}


def compare_scores(before: LakeState, after: LakeState, metric: str | None = None) -> pl.DataFrame:
    """Compare all evaluations of two states.

    Args:
        before: The earlier state.
        after: The later state.
        metric: One metric; the main one of each kind of task by default.

    Returns:
        `SCORE_CHANGES_SCHEMA`, one row for each evaluation of either state: mean_before and
        mean_after are over folds, null where it is not scored; change (after
        minus before, in the metric's unit), `noise` (half-width of the 95 % interval of the
        change, from the standard errors of both as if they were independent; null where one has
        none), `keys` (the digests that differ: labels, vectors,
        probe, protocol, joined by " and ") and `why`: kept (the evaluation of both), scored since
        (it was pending), added, removed, or the causes of another key (`score_causes.CAUSES`,
        joined by " and "). A score that moved under an equal key is unexplained.
    """
    old, new = (_read_means(state, metric) for state in (before, after))
    both = old.join(new, on=[*ITEM, "metric"], how="full", suffix="_after", coalesce=True)
    has_both = pl.col("evaluation_key").is_not_null() & pl.col("evaluation_key_after").is_not_null()
    is_changed = has_both & (pl.col("evaluation_key") != pl.col("evaluation_key_after"))
    key = ["task_id", "encoder_id", "probe_id"]
    causes = find_causes(before, after, both.filter(is_changed)).select(
        *key, pl.col("causes").list.join(" and ").alias("causes")
    )
    change = pl.col("mean_after") - pl.col("mean")
    why = (
        pl.when(pl.col("evaluation_key").is_null())
        .then(pl.lit(ADDED))
        .when(pl.col("evaluation_key_after").is_null())
        .then(pl.lit(REMOVED))
        .when(is_changed)
        .then("causes")
        .when(change != 0)
        .then(pl.lit(UNEXPLAINED))
        .when(pl.col("mean").is_null() & pl.col("mean_after").is_not_null())
        .then(pl.lit(SCORED))
        .otherwise(pl.lit(KEPT))
    )
    return (
        both.join(causes.unique(key), on=key, how="left")
        .select(
            *ITEM,
            "metric",
            pl.col("mean").alias("mean_before"),
            "mean_after",
            change.alias("change"),
            (Z_95 * (pl.col("error").pow(2) + pl.col("error_after").pow(2)).sqrt()).alias("noise"),
            pl.when(is_changed).then(_changed_keys()).otherwise(pl.lit("")).alias("keys"),
            why.alias("why"),
        )
        .sort(
            pl.col("change").abs(),
            "task_id",
            "encoder_id",
            descending=[True, False, False],
            nulls_last=True,
        )
    )


def _changed_keys() -> pl.Expr:
    """The digests that differ, by their names, joined by " and "."""
    words = [
        pl.when(pl.col(digest) != pl.col(f"{digest}_after")).then(pl.lit(word))
        for digest, word in _CHANGED_DIGESTS.items()
    ]
    has_other_protocol = pl.col("protocol_id") != pl.col("protocol_id_after")
    has_other_probe = pl.col("probe_digest") != pl.col("probe_digest_after")
    words += [
        pl.when(has_other_protocol).then(pl.lit("protocol")),
        pl.when(has_other_probe & ~has_other_protocol).then(pl.lit("probe")),
    ]
    return pl.concat_list(words).list.drop_nulls().list.join(" and ")


def _read_means(state: LakeState, metric: str | None) -> pl.DataFrame:
    """Read the items of a state with their means; an item without scores has a null mean."""
    items = state.items()
    key = ["task_id", "encoder_id", "probe_id", "protocol_id"]
    named = items.select(*ITEM, "protocol_id", *_DIGESTS)
    empty = pl.DataFrame(schema=dict.fromkeys([*key, "metric"], pl.String) | {"mean": pl.Float64})
    means = empty
    if items.height:
        scores = read_scores(state.tables, release=state.release_id, metric=metric, label="")
        chosen = scores if metric else scores.filter(is_main_metric())
        means = task_means(chosen.collect()).select(empty.columns)
    main = pl.col("kind").replace_strict(MAIN_METRICS, return_dtype=pl.String)
    default = main if metric is None else pl.lit(metric)
    errors = read_evidence(state.tables, "gold.intervals", items).select(
        "evaluation_key", "metric", pl.col("standard_error").alias("error")
    )
    return (
        named.join(means, on=key, how="left")
        .with_columns(pl.coalesce("metric", default))
        .join(errors.collect(), on=["evaluation_key", "metric"], how="left")
    )


def select_changed(scores: pl.DataFrame) -> pl.DataFrame:
    """Select the evaluations that were not kept."""
    return scores.filter(pl.col("why") != KEPT)


def count_by_fate(scores: pl.DataFrame) -> dict[str, int]:
    """Count the evaluations of two states by what became of them.

    Args:
        scores: The result of `compare_scores`.

    Returns:
        kept, computed and without_score, which together are the evaluations of the later state;
        removed; and, of those that both states scored, moved (another score), unchanged (another
        key, the same score) and unexplained (another score, the same key).
    """
    is_scored, was_scored = pl.col("mean_after").is_not_null(), pl.col("mean_before").is_not_null()
    has_same_key = pl.col("why").is_in([KEPT, UNEXPLAINED, SCORED])
    is_removed = pl.col("why") == REMOVED
    counts = {
        "kept": has_same_key & was_scored & is_scored,
        "computed": ~is_removed & is_scored & ~(has_same_key & was_scored),
        "without_score": ~is_removed & ~is_scored,
        "removed": is_removed,
        "moved": pl.col("change") != 0,
        "unchanged": ~has_same_key & (pl.col("change") == 0),
        "unexplained": pl.col("why") == UNEXPLAINED,
    }
    row = scores.select(is_fate.sum().alias(name) for name, is_fate in counts.items())
    return {name: int(n) for name, n in row.row(0, named=True).items()}

"""Means, standard deviations and ranks of encoders; missing scores are counted."""

import polars as pl
import pytest

from genebench.evaluation.statistics.means import rank_encoders, task_means

WHO = {"modality": "text", "probe_id": "linear", "protocol_id": "standard"}


def release_of(*items):
    return pl.DataFrame(
        [{"family": f, "task_id": t, "kind": k, "encoder_id": e, **WHO} for f, t, k, e in items]
    )


def scores_of(*rows):
    """(family, task, kind, encoder, metric, values of the folds)."""
    return pl.DataFrame(
        [
            {
                "family": f,
                "task_id": t,
                "kind": k,
                "encoder_id": e,
                "metric": m,
                "label": "",
                "fold": fold,
                "value": value,
                **WHO,
            }
            for f, t, k, e, m, values in rows
            for fold, value in enumerate(values)
        ]
    )


def test_task_means_average_folds_with_the_population_deviation():
    scores = scores_of(("genomic", "t", "binary", "a", "roc_auc", [0.5, 0.7, 0.9]))
    row = task_means(scores).row(0, named=True)
    assert row["mean"] == pytest.approx(0.7)
    assert row["sd"] == pytest.approx(0.1633, abs=1e-4)
    assert row["n_folds"] == 3


def test_scores_of_single_labels_do_not_enter():
    whole = scores_of(("genomic", "t", "multilabel", "a", "roc_auc", [0.5]))
    label = whole.with_columns(pl.lit("x").alias("label"), pl.lit(0.9).alias("value"))
    assert task_means(pl.concat([whole, label]))["mean"].to_list() == [0.5]


def test_overall_is_the_mean_of_family_means():
    items = [("genomic", f"g{i}", "binary", "a") for i in range(3)]
    items.append(("protein", "p", "binary", "a"))
    scores = scores_of(
        *((f, t, k, e, "roc_auc", [0.6]) for f, t, k, e in items[:3]),
        ("protein", "p", "binary", "a", "roc_auc", [0.8]),
    )
    ranked = rank_encoders(release_of(*items), task_means(scores))
    overall = ranked.filter(pl.col("scope") == "overall").row(0, named=True)
    assert overall["mean"] == pytest.approx(0.7)
    assert overall["n_tasks"] == 4


def test_a_task_without_a_score_is_missing_and_not_zero():
    items = [("genomic", "t", "binary", "a"), ("genomic", "u", "binary", "a")]
    scores = scores_of(("genomic", "t", "binary", "a", "roc_auc", [0.6]))
    row = rank_encoders(release_of(*items), task_means(scores)).row(0, named=True)
    assert (row["mean"], row["n_tasks"], row["n_missing"]) == (0.6, 1, 1)


@pytest.mark.parametrize(("metric", "best"), [("roc_auc", "high"), ("log_loss", "low")])
def test_ranks_follow_the_direction_of_the_metric(metric, best):
    items = [("genomic", "t", "binary", e) for e in ("low", "high")]
    scores = scores_of(
        ("genomic", "t", "binary", "low", metric, [0.1]),
        ("genomic", "t", "binary", "high", metric, [0.9]),
    )
    ranked = rank_encoders(release_of(*items), task_means(scores))
    assert set(ranked.filter(pl.col("rank") == 1)["encoder_id"]) == {best}


def test_equal_means_share_a_rank():
    items = [("genomic", "t", "binary", e) for e in "abc"]
    scores = scores_of(
        *(
            ("genomic", "t", "binary", encoder, "roc_auc", [value])
            for encoder, value in zip("abc", (0.7, 0.7, 0.6), strict=True)
        )
    )
    ranked = rank_encoders(release_of(*items), task_means(scores))
    ranks = dict(
        ranked.filter(pl.col("scope") == "genomic").select("encoder_id", "rank").iter_rows()
    )
    assert ranks == {"a": 1, "b": 1, "c": 3}

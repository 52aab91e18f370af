"""The means of `genebench evaluate` weigh tasks as the leaderboard of a lake does."""

import polars as pl
import pytest

from genebench.reference.score_table import scope_means
from genebench.reference.task_weights import task_weight, weighted_mean


def test_tasks_of_one_recipe_and_source_share_the_weight_of_one():
    wanted = {"hla_class": 0.5, "omim_phenotype": 0.5, "chromosome": 1.0, "of another profile": 1.0}
    tasks = pl.DataFrame({"task_id": list(wanted)})
    found = tasks.select("task_id", task_weight(tasks["task_id"], "embedded").alias("weight"))
    assert dict(found.iter_rows()) == wanted
    alone = tasks.tail(1)
    assert alone.select(task_weight(alone["task_id"], "embedded")).item() == 1.0


def test_tasks_of_one_group_count_once_in_the_mean_of_their_family():
    values = {"hla_class": 1.0, "omim_phenotype": 0.6, "biological_process": 0.7}
    scores = pl.DataFrame(
        [
            {
                "task_id": task_id,
                "family": "biological",
                "metric": "roc_auc",
                "encoder_id": "mine",
                "modality": "mine",
                "value": value,
                "low": value - 0.1,
                "high": value + 0.1,
            }
            for task_id, value in values.items()
        ]
    )
    means = scope_means(scores, "roc_auc", "embedded")
    (family,) = means.filter(scope="biological").iter_rows(named=True)
    assert family["value"] == pytest.approx(((1.0 + 0.6) / 2 + 0.7) / 2)
    assert (family["low"], family["high"]) == pytest.approx((0.65, 0.85))


def test_a_mean_with_a_score_that_has_no_interval_has_none():
    scores = pl.DataFrame({"value": [0.5, 0.7], "low": [0.4, None], "high": [None, None]})
    weighted = scores.cast(pl.Float64).with_columns(weight=pl.lit(1.0))
    found = weighted.select(weighted_mean(n, pl.col("weight")) for n in scores.columns).row(0)
    assert found == (pytest.approx(0.6), None, None)

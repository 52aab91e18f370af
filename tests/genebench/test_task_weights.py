"""The means of `genebench evaluate` weigh tasks as the leaderboard of a lake does."""

import polars as pl
import pytest

from genebench.evaluation.statistics.means import task_group, task_weights
from genebench.reference.score_table import scope_means
from genebench.reference.task_weights import task_weight
from genebench.registry.loading import load_registry


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_the_weights_are_those_of_a_release_of_all_tasks(profile):
    tasks = [one for one in load_registry(profile).tasks.values() if not one.superseded_by]
    rows = pl.DataFrame(
        [
            {
                "task_id": one.id,
                "family": one.family,
                "source": ",".join(one.source),
                "recipe": one.recipe,
                "kind": one.kind,
                "parent_task_id": None,
            }
            for one in tasks
        ]
    )
    wanted = task_weights(rows.with_columns(task_group()))
    found = rows.select("task_id", task_weight(rows["task_id"], profile).alias("weight"))
    assert found.sort("task_id").equals(wanted.sort("task_id"))
    assert found["weight"].min() < 1


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

"""Comparisons, verdicts and ranks of a release, from scores with known differences."""

import numpy as np
import polars as pl
import pytest
from blanks import filled

from genebench.errors import LakeError
from genebench.evaluation.evaluate import Evaluation
from genebench.evaluation.predictions import PREDICTIONS_SCHEMA
from lakehouse import open_lake
from lakehouse.report.significance import comparison_rows, rank_release, verdict_rows
from lakehouse.score.result_rows import prediction_rows
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.schema import conform

pytestmark = pytest.mark.slow

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
# Means by task and encoder: good beats fair, a control solves the second task, noise the third.
MEANS = {
    "clear": {"good": 0.9, "fair": 0.7, "noise": 0.5, "degree": 0.55, "oracle": 1.0},
    "solved": {"good": 0.8, "fair": 0.7, "noise": 0.5, "degree": 0.97, "oracle": 1.0},
    "empty": {"good": 0.49, "fair": 0.5, "noise": 0.52, "degree": 0.5, "oracle": 1.0},
}
CONTROLS = ("noise", "degree", "oracle")


def write(delta, name, frame):
    declared = table(name)
    if declared.mode == "append-only":
        delta.append(name, frame, COMMIT)
    elif declared.partition:
        (column,) = declared.partition
        for value in frame[column].unique():
            delta.replace(name, frame.filter(pl.col(column) == value), COMMIT, {column: value})
    else:
        delta.replace(name, frame, COMMIT)


@pytest.fixture
def lake(tmp_path):
    return lake_of(tmp_path, MEANS)


def lake_of(folder, means_by_task, n_train=80, n_test=20, n_samples=100):
    opened = open_lake(folder / "lake")
    rng = np.random.default_rng(0)
    tasks = [
        {"task_id": t, "family": "genomic", "kind": "binary", "source": t, "recipe": "column"}
        for t in means_by_task
    ]
    encoders = [
        {
            "encoder_id": e,
            "modality": "control" if e in CONTROLS else "text",
            "is_control": e in CONTROLS,
            "declaration": f'{{"loader": "{"oracle" if e == "oracle" else "random"}"}}',
        }
        for e in next(iter(means_by_task.values()))
    ]
    items, scores, intervals = [], [], []
    for number, (task_id, means) in enumerate(means_by_task.items()):
        for place, (encoder_id, mean) in enumerate(means.items()):
            key = f"{number:016x}{place:016x}"
            who = {
                "evaluation_key": key, "task_id": task_id, "encoder_id": encoder_id,
                "family": "genomic", "kind": "binary", "probe_id": "linear",
                "protocol_id": "standard", "metric": "roc_auc", "run_id": "r1",
                "modality": "control" if encoder_id in CONTROLS else "text",
            }  # fmt: skip
            items.append(who | {"release_id": "current"})
            wiggle = np.array([-0.01, 0.01, 0.0, 0.005, -0.005]) * rng.permutation([1, 1, 1, 1, 2])
            scores += [
                who
                | {"label": "", "fold": k, "value": mean + w, "n_train": n_train, "n_test": n_test}
                for k, w in enumerate(wiggle - wiggle.mean())
            ]
            intervals.append(
                who
                | {
                    "value": mean, "low": mean - 0.04, "high": mean + 0.04, "level": 0.95,
                    "replicates": (mean + 0.01 * rng.normal(size=200)).tolist(),
                }
            )  # fmt: skip
    for name, rows in (
        ("silver.tasks", tasks),
        ("silver.encoders", encoders),
        ("gold.releases", items),
        ("gold.evaluations", [i | {"status": "ok", "n_samples": n_samples} for i in items]),
        ("gold.scores", scores),
        ("gold.intervals", intervals),
    ):
        write(opened.delta, name, filled(name, rows))
    return opened


def test_every_pair_is_compared_and_only_real_differences_are_established(lake):
    rows = comparison_rows(lake, "current")
    # Four encoders without the oracle: six pairs on three tasks.
    assert rows.height == 18
    assert not set(rows["encoder_a"]) & {"oracle"}
    assert (rows["encoder_a"] < rows["encoder_b"]).all()
    (pair,) = rows.filter(task_id="clear", encoder_a="fair", encoder_b="good").to_dicts()
    assert pair["difference"] == pytest.approx(-0.2)
    assert pair["low"] < -0.2 < pair["high"] < 0
    assert pair["is_established"]
    assert not rows.filter(task_id="empty")["is_established"].any()
    assert (rows["p_adjusted"] >= rows["p_rows"]).all()


def test_a_task_that_a_control_wins_is_marked_solved_unless_it_is_at_chance(lake):
    rows = verdict_rows(lake, "current", comparison_rows(lake, "current"))
    found = {row["task_id"]: row for row in rows.iter_rows(named=True)}
    assert (found["solved"]["verdict"], found["solved"]["solved_by"]) == (
        "solved by a control",
        "degree",
    )
    assert (found["empty"]["verdict"], found["empty"]["solved_by"]) == ("at chance", None)
    assert found["clear"]["verdict"] == "encoders differ"
    assert found["clear"]["best_encoder_id"] == "good"
    assert found["clear"]["control_id"] == "degree"
    assert found["clear"]["spread"] == pytest.approx(0.2)
    assert found["clear"]["noise"] == pytest.approx(0.04)
    assert (found["clear"]["n_pairs"], found["clear"]["n_established"]) == (1, 1)


def test_a_task_with_one_encoder_has_its_own_verdict(lake):
    alone = lake.table("gold.releases").filter(pl.col("encoder_id").is_in(["good", "noise"]))
    lake.delta.replace("gold.releases", alone.collect(), COMMIT, {"release_id": "current"})
    rows = verdict_rows(lake, "current", comparison_rows(lake, "current"))
    assert dict(rows.select("task_id", "verdict").iter_rows()) == {
        "clear": "one encoder",
        "solved": "one encoder",
        "empty": "at chance",
    }


def change(lake, name, **columns):
    """Rewrite columns of a table of one partition, or of none."""
    rows = lake.table(name).with_columns(**columns).collect()
    partition = {"release_id": "current"} if name == "gold.releases" else None
    lake.delta.replace(name, rows, COMMIT, partition)


def test_encoders_with_different_numbers_of_replicates_are_not_compared(lake):
    # Protocols with different numbers of replicates share evaluation keys.
    key = lake.release().filter(task_id="clear", encoder_id="good")["evaluation_key"][0]
    other = pl.lit("f" * 32).alias("evaluation_key")
    for name in ("gold.intervals", "gold.evaluations", "gold.scores"):
        rows = lake.table(name).filter(pl.col("evaluation_key") == key).collect()
        if name == "gold.intervals":
            rows = rows.with_columns(pl.col("replicates").list.head(150))
        lake.delta.append(name, rows.with_columns(other), COMMIT)
    renamed = pl.col("evaluation_key").replace(key, "f" * 32)
    change(lake, "gold.releases", evaluation_key=renamed)
    found = comparison_rows(lake, "current")
    assert found.filter(task_id="clear").height == 3
    assert found.height == 15


def test_the_test_on_folds_counts_entities_where_pairs_are_held_out_by_entity(lake, tmp_path):
    # A fifth of the entities has a twenty-fifth of the pairs, the others have sixteen.
    pairs = lake_of(tmp_path / "pairs", MEANS, n_train=400, n_test=25, n_samples=625)
    by_rows, by_pairs = (comparison_rows(one, "current")["p_folds"] for one in (lake, pairs))
    assert by_pairs.to_list() == pytest.approx(by_rows.to_list())


def test_a_control_that_is_worse_than_chance_solves_nothing(tmp_path):
    lake = lake_of(tmp_path, {"low": {"good": 0.35, "fair": 0.3, "degree": 0.37}})
    (found,) = verdict_rows(lake, "current", comparison_rows(lake, "current")).to_dicts()
    assert (found["control_id"], found["verdict"]) == ("degree", "at chance")
    assert found["solved_by"] is None


def test_encoders_with_different_samples_are_not_compared(lake):
    is_alone = (pl.col("encoder_id") == "good") & (pl.col("task_id") != "empty")
    other = pl.when(is_alone).then(pl.lit("other")).otherwise("label_digest")
    change(lake, "gold.releases", label_digest=other)
    rows = comparison_rows(lake, "current")
    apart = rows.filter(pl.col("task_id") != "empty")
    assert not set(apart["encoder_a"]) & {"good"}
    assert not set(apart["encoder_b"]) & {"good"}
    assert rows.filter(task_id="empty").height == 6
    verdicts = verdict_rows(lake, "current", rows)
    assert verdicts.filter(task_id="clear")["verdict"].item() == "not compared"
    assert lake.compare("good", "fair")["task_id"].to_list() == ["empty"]


def test_encoders_with_different_numbers_of_folds_are_not_compared(lake):
    is_alone = pl.col("encoder_id") == "good"
    other = pl.when(is_alone).then(pl.lit("other")).otherwise("label_digest")
    change(lake, "gold.releases", label_digest=other)
    more = lake.table("gold.scores").filter(is_alone).collect()
    lake.delta.append("gold.scores", more.with_columns(pl.col("fold") + 5), COMMIT)
    rows = comparison_rows(lake, "current")
    assert rows.height == 9
    assert not {"good"} & {*rows["encoder_a"], *rows["encoder_b"]}
    with pytest.raises(LakeError, match="no task that was scored on the same samples"):
        lake.compare("good", "fair")


def test_ranks_over_tasks_leave_controls_out(lake):
    encoders, ranking = rank_release(lake, "current")
    assert encoders == ["fair", "good"]
    assert ranking.mean_ranks[1] < ranking.mean_ranks[0]
    with pytest.raises(LakeError, match="needs two of each"):
        rank_release(lake, "current", metric="r2")


def test_predictions_are_stored_by_the_ids_of_their_samples():
    frame = pl.DataFrame(
        {"sample": [2, 0], "fold": [0, 1], "label": ["yes"] * 2, "score": [1.5, -2.0],
         "truth": [1.0, 0.0]},
        schema=PREDICTIONS_SCHEMA,
    )  # fmt: skip
    done = Evaluation("k", "ok", "", 0.1, 3, 2, 1, "x", 0.0, pl.DataFrame(), frame, None)
    who = {
        "evaluation_key": "a" * 32, "family": "genomic", "task_id": "t", "encoder_id": "good",
        "probe_id": "linear", "protocol_id": "standard",
    }  # fmt: skip
    ids = {"t": ["hgnc:1", "hgnc:2", "hgnc:3"]}
    rows = conform(table("gold.predictions"), prediction_rows({"k": who}, [done], ids, "r1"))
    assert rows.select("sample_id", "fold", "value", "truth").rows() == [
        ("hgnc:3", 0, 1.5, 1.0),
        ("hgnc:1", 1, -2.0, 0.0),
    ]

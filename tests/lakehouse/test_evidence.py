"""Scores, intervals and predictions count with the evaluation of their run and batch only."""

import datetime as dt
import itertools
import multiprocessing

import pytest
from blanks import NOW, filled

from lakehouse import open_lake
from lakehouse.report.intervals import read_intervals
from lakehouse.score.evidence import find_unrecorded, read_evaluations, read_evidence
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")
KEYS = [f"{number:032x}" for number in range(3)]
# The two writers are alike, so writer a begins.
ORDERS = sorted(one for one in set(itertools.permutations("aaabbb")) if one[0] == "a")
STEPS = ("gold.scores", "gold.intervals", "gold.predictions", "gold.evaluations")


def rows(name, run, batch, keys=KEYS, **more):
    who = {"family": "genomic", "encoder_id": "e", "probe_id": "linear", "release_id": "current"}
    who |= {"kind": "binary", "modality": "text", "protocol_id": "standard", "metric": "roc_auc"}
    who |= {"status": "ok", "label": "", "value": 0.7, "low": 0.6, "high": 0.8}
    who |= {"run_id": run, "batch_id": batch, **more}
    return filled(name, [who | {"evaluation_key": key, "task_id": f"t{key}"} for key in keys])


@pytest.fixture
def lake(tmp_path):
    opened = open_lake(tmp_path / "lake")
    opened.delta.replace(
        "gold.releases", rows("gold.releases", "", ""), COMMIT, {"release_id": "current"}
    )
    return opened


def commit_step(lake, name, run, batch, keys=KEYS, **more):
    lake.delta.append(name, rows(name, run, batch, keys, **more), COMMIT)


@pytest.mark.parametrize("order", ORDERS)
def test_two_writers_interleaved_at_their_commits_lose_nothing_and_double_nothing(lake, order):
    left = {"a": list(STEPS[:2] + STEPS[3:]), "b": list(STEPS[:2] + STEPS[3:])}
    finished = set()
    for run in order:
        step = left[run].pop(0)
        commit_step(lake, step, run, f"batch {run}")
        finished |= {run} if step == "gold.evaluations" else set()
        found = lake.scores().collect()
        # A reader between any two commits sees whole evaluations, each once.
        assert sorted(found["evaluation_key"]) == (KEYS if finished else [])
        assert found["run_id"].n_unique() == bool(finished)
    intervals = read_intervals(lake, lake.release())
    assert sorted(intervals["evaluation_key"]) == KEYS
    assert read_evidence(lake, "gold.intervals", lake.release()).collect().height == len(KEYS)


def test_a_task_run_that_is_repeated_in_its_run_doubles_nothing(lake):
    commit_step(lake, "gold.scores", "a", "lost")
    for batch in ("first", "second"):
        for step in STEPS:
            commit_step(lake, step, "a", batch)
    assert lake.scores().collect().height == len(KEYS)
    unrecorded = find_unrecorded(lake, "gold.scores")
    assert unrecorded.rows() == [("genomic", "e", "a", "lost", KEYS, len(KEYS))]


def test_the_first_finished_evaluation_of_a_key_counts_before_any_failed_one(lake):
    later, last = NOW + dt.timedelta(hours=1), NOW + dt.timedelta(hours=2)
    for run, status, when in (("x", "failed", NOW), ("y", "ok", later), ("z", "ok", last)):
        commit_step(lake, "gold.evaluations", run, None, status=status, evaluated_at=when)
    assert set(read_evaluations(lake).collect()["run_id"]) == {"y"}


def test_of_failed_evaluations_the_last_counts(lake):
    for run, when in (("x", NOW), ("y", NOW + dt.timedelta(hours=1))):
        commit_step(lake, "gold.evaluations", run, None, status="failed", evaluated_at=when)
    assert set(read_evaluations(lake).collect()["run_id"]) == {"y"}


def test_scores_of_an_earlier_version_without_batches_count(lake):
    for step in STEPS:
        commit_step(lake, step, "old", None)
    assert lake.scores().collect().height == len(KEYS)
    assert find_unrecorded(lake, "gold.scores").is_empty()


def write_all(root, run):
    for number in range(4):
        for step in STEPS:
            commit_step(open_lake(root), step, run, f"{run}{number}", keys=[f"{number:032x}"])


@pytest.mark.slow
def test_two_processes_without_a_lock_write_the_same_evaluations_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    root = str(tmp_path / "lake")
    writers = [context.Process(target=write_all, args=(root, run)) for run in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    lake = open_lake(root)
    evaluations = read_evaluations(lake).collect()
    wanted = [f"{number:032x}" for number in range(4)]
    assert evaluations["evaluation_key"].to_list() == wanted
    assert lake.table("gold.evaluations").collect().height == 8
    for name in STEPS[:3]:
        found = read_evidence(lake, name, evaluations).collect()
        assert sorted(found["evaluation_key"]) == wanted, name
        assert find_unrecorded(lake, name).is_empty()

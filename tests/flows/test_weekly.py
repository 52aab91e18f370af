"""Runs of deployments on a real server: one that is cancelled, and the weekly one after it."""

import shutil

import pytest
from local_stacks import ENCODERS, VERBS, keys, until

from lakehouse import open_lake

pytestmark = pytest.mark.soak


def test_a_due_weekly_run_does_all_verbs_and_embeds_on_the_gpu_pool(stack, weekly):
    assert weekly.run["auto_scheduled"]
    assert weekly.run["state_type"] == "COMPLETED"
    assert set(stack.artifacts(weekly.run["id"])) >= {*VERBS, "leaderboard"} - {"embed"}
    (child,) = stack.runs("embed")
    assert (child["state_type"], child["work_pool_name"]) == ("COMPLETED", "gpu")
    assert child["parent_task_run_id"]
    board = open_lake(stack.lake).leaderboard_rows("current_paper")
    assert set(board["encoder_id"]) == set(ENCODERS)
    assert "Bag of words" in stack.artifacts(weekly.run["id"])["leaderboard"]


def test_a_cancelled_run_leaves_the_lake_whole_and_the_next_does_the_rest(stack, weekly):
    assert stack.state(weekly.cancelled)["type"] == "CANCELLED"
    found = keys(stack.lake)
    assert set(weekly.before) <= set(found)
    assert len(found) == len(set(found))
    lake = open_lake(stack.lake)
    for table, key in (
        ("bronze.snapshots", ["snapshot_id"]),
        ("silver.embeddings", ["encoder_id", "entity_type", "entity_id"]),
        ("gold.scores", ["evaluation_key", "label", "fold", "metric"]),
    ):
        assert lake.table(table).select(key).collect().is_unique().all(), table


def test_a_run_with_nothing_new_builds_what_was_lost_and_writes_nothing_else(stack, weekly):
    board = open_lake(stack.lake).leaderboard_rows("current_paper")
    # As if a run had been killed between refresh and curate.
    shutil.rmtree(stack.lake / "silver" / "tasks")
    before = {run["id"] for run in stack.runs("benchmark")}
    stack.schedule_benchmark()
    until(lambda: {one["id"] for one in stack.runs("benchmark")} - before, 120, stack.tail)
    (run,) = {one["id"] for one in stack.runs("benchmark")} - before
    assert stack.wait(run)["type"] == "COMPLETED"
    told = stack.artifacts(run)
    assert "refresh: 0 done, 4 already there" in told["refresh"]
    assert "score: 0 done, 2 already there" in told["score"]
    assert open_lake(stack.lake).leaderboard_rows("current_paper").equals(board)

"""Tidying removes what interrupted runs left, and nothing that a reader could read."""

import datetime as dt
import shutil

import polars as pl
import pytest

from lakehouse import open_lake
from lakehouse.score.evidence import find_unrecorded
from lakehouse.score.tidy import DEAD_AFTER, find_dead_runs, tidy_lake
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import MAX_FILES, count_files
from lakehouse.tables.manifest import run_rows

pytestmark = pytest.mark.slow

COMMIT = Commit("tidy", "test")


@pytest.fixture
def lake(synthetic_root, tmp_path):
    """A lake with scores of a finished run, and of three runs that have no evaluations."""
    shutil.copytree(synthetic_root, tmp_path / "lake")
    opened = open_lake(tmp_path / "lake")
    for run, batch, age in (("old", "b", 30), ("older", None, 30), ("now", "b", 0)):
        when = dt.datetime.now(dt.UTC) - dt.timedelta(hours=age)
        rows = opened.table("gold.scores").filter(task_id="task_3", encoder_id="e0").collect()
        left = rows.with_columns(
            pl.lit(run).alias("run_id"),
            pl.lit(batch, pl.String).alias("batch_id"),
            pl.lit(when).alias("evaluated_at"),
        )
        opened.delta.append("gold.scores", left.head(7), COMMIT)
    return opened


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(lake):
    before = lake.delta.version("gold.scores")
    told = tidy_lake(lake, COMMIT, is_dry=True)
    assert told == {"gold.scores": "14 rows of interrupted runs"}
    assert lake.delta.version("gold.scores") == before


def test_rows_of_dead_runs_go_and_those_of_a_run_at_work_and_on_record_stay(lake):
    recorded = lake.scores().collect().sort(pl.all())
    tidy_lake(lake, COMMIT, is_dry=False)
    assert find_unrecorded(lake, "gold.scores")["run_id"].to_list() == ["now"]
    assert lake.scores().collect().sort(pl.all()).equals(recorded)
    assert tidy_lake(lake, COMMIT, is_dry=True) == {}


def test_a_run_is_dead_when_it_is_recorded_as_finished_or_silent_for_a_day(lake):
    now = dt.datetime.now(dt.UTC)
    assert "now" not in find_dead_runs(lake, now)
    assert "now" in find_dead_runs(lake, now + DEAD_AFTER * 2)
    finished = Commit("now", "test")
    lake.delta.append("audit.runs", run_rows("score", {"gold.scores": 1}, finished), finished)
    assert "now" in find_dead_runs(lake, now)


def test_a_recorded_batch_stays_where_another_batch_of_its_run_and_key_goes(lake):
    rows = lake.table("gold.scores").filter(run_id="old").collect()
    kept = rows.with_columns(pl.lit("recorded").alias("batch_id"))
    tried = lake.table("gold.evaluations").filter(evaluation_key=rows["evaluation_key"][0])
    names = {"run_id": pl.lit("old"), "batch_id": pl.lit("recorded")}
    lake.delta.append("gold.scores", kept, COMMIT)
    lake.delta.append("gold.evaluations", tried.collect().with_columns(**names), COMMIT)
    tidy_lake(lake, COMMIT, is_dry=False)
    left = lake.table("gold.scores").filter(run_id="old").collect()
    assert left["batch_id"].to_list() == ["recorded"] * rows.height


def test_small_files_are_merged_and_every_day_stays_readable(lake):
    row = lake.table("gold.scores").filter(run_id="now").head(1).collect()
    for _ in range(MAX_FILES + 1):
        lake.delta.append("gold.scores", row, COMMIT)
    today = dt.datetime.now(dt.UTC)
    n_rows = lake.table("gold.scores").collect().height
    assert "small files to merge" in tidy_lake(lake, COMMIT, is_dry=False)["gold.scores"]
    assert count_files(lake.delta, "gold.scores") <= MAX_FILES
    assert lake.at(today).table("gold.scores").collect().height == n_rows

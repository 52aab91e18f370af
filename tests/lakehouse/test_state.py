"""A curation counts when it is recorded: its tables are read together."""

import datetime as dt
import multiprocessing
import os
import shutil

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from genebench.errors import LakeError
from lakehouse.curate.state import (
    CURATED_TABLES,
    Curation,
    failed_tasks,
    is_curated,
    record_curation,
    record_earlier_curation,
    require_curated,
    user_task_paths,
)
from lakehouse.query.lake import Lake
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import compact_table, vacuum_table
from lakehouse.tables.manifest import run_rows

pytestmark = pytest.mark.slow

CURATE = Commit("run1", "0", profile="paper", extra={"curation_key": "k1"})
UPKEEP = Commit("run2", "0")


def labels(family: str, label: str) -> pl.DataFrame:
    values = [[family], ["t"], ["hgnc:1"], [label], [1.0], [None]]
    return pl.DataFrame(values, schema=table("silver.labels").schema)


@pytest.fixture
def curated(tmp_path) -> Lake:
    """A lake of an earlier version, whose curation is known from the metadata of its commits.

    The table of labels has two files to join.
    """
    lake = Lake(tmp_path / "lake")
    for name in CURATED_TABLES:
        whole = {} if table(name).partition else None
        lake.delta.replace(name, table(name).empty(), CURATE, whole)
    for label in ("yes", "no"):
        lake.delta.append("silver.labels", labels("genomic", label), CURATE)
    return lake


def newest_operation(lake: Lake, name: str) -> str:
    return lake.delta.history(name, 1)[0]["operation"]


def test_compacted_and_vacuumed_tables_still_count_as_curated(curated, tmp_path):
    assert compact_table(curated.delta, "silver.labels", UPKEEP, max_files=1) == 2
    assert newest_operation(curated, "silver.labels") == "OPTIMIZE"
    for number in range(5):
        left = tmp_path / "lake" / "silver" / "tasks" / f"part-{number}.parquet"
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        assert vacuum_table(curated.delta, "silver.tasks") == 1
    assert newest_operation(curated, "silver.tasks") == "VACUUM END"
    assert is_curated(curated, "k1")
    assert not is_curated(curated, "k2")
    require_curated(curated)


def test_rows_that_no_curation_wrote_count_as_not_curated_also_after_a_compaction(curated):
    curated.delta.append("silver.labels", labels("genomic", "perhaps"), UPKEEP)
    compact_table(curated.delta, "silver.labels", UPKEEP, max_files=1)
    assert newest_operation(curated, "silver.labels") == "OPTIMIZE"
    assert not is_curated(curated, "k1")
    with pytest.raises(LakeError, match="by different curations"):
        require_curated(curated)


def test_a_lake_keeps_its_profile_when_its_snapshots_are_compacted(tmp_path):
    lake = Lake(tmp_path / "lake")
    row = {
        "snapshot_id": "hpa_23_0_proteinatlas_a1b2c3d4",
        "source": "hpa",
        "version": "23.0",
        "file": "proteinatlas",
        "url": "https://example.org/a",
        "sha256": "a1b2c3d4" * 8,
        "size_bytes": 1,
        "retrieved_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "license": "CC0",
        "is_complete": True,
        "is_composite": False,
        "run_id": "run1",
    }
    assert lake.profile() is None
    for day in (2, 3):
        row["retrieved_at"] = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
        frame = pl.DataFrame([row], schema=table("bronze.snapshots").schema)
        lake.delta.append("bronze.snapshots", frame, CURATE)
    assert compact_table(lake.delta, "bronze.snapshots", UPKEEP, max_files=1) == 2
    assert lake.profile() == "paper"


def curate(lake: Lake, key: str, names=CURATED_TABLES, user_tasks=(), failed=None) -> None:
    """Write some of the six tables; record the curation where all are written."""
    commit = Commit(f"run {key}", "0", profile="paper", extra={"curation_key": key})
    versions = {}
    for name in names:
        frame = labels("genomic", key) if name == "silver.labels" else table(name).empty()
        whole = {} if table(name).partition else None
        versions[name] = lake.delta.replace(name, frame, commit, whole)
    if len(names) == len(CURATED_TABLES):
        curation = Curation(key, user_tasks, failed or {})
        record_curation(lake.delta, curation, {"a.b": "s"}, versions, commit)


def known_labels(lake: Lake) -> list[str]:
    return lake.table("silver.labels").collect()["label"].to_list()


def test_a_curation_that_is_interrupted_after_any_of_its_tables_is_not_read(tmp_path):
    lake = Lake(tmp_path / "lake")
    curate(lake, "k1", user_tasks=("/a",), failed={"t": "why"})
    for n_written in range(len(CURATED_TABLES) + 1):
        curate(Lake(tmp_path / "lake"), "k2", CURATED_TABLES[:n_written] or ("silver.labels",))
        if n_written == len(CURATED_TABLES):
            break
        assert known_labels(lake) == ["k1"], n_written
        assert lake.query("select label from labels")["label"].to_list() == ["k1"]
        assert is_curated(lake, "k1")
        require_curated(lake)
        assert (user_task_paths(lake), failed_tasks(lake)) == (["/a"], {"t": "why"})
    assert known_labels(lake) == ["k2"]
    assert is_curated(lake, "k2")
    assert (user_task_paths(lake), failed_tasks(lake)) == ([], {})


@pytest.mark.parametrize("change", ["restore", "properties", "append"])
def test_what_another_tool_commits_to_a_silver_table_changes_nothing(tmp_path, change):
    lake = Lake(tmp_path / "lake")
    curate(lake, "k1")
    curate(lake, "k2")
    found = DeltaTable(lake.delta.storage.uri("silver", "labels"))
    if change == "restore":
        found.restore(1)
    elif change == "properties":
        found.alter.set_table_properties({"delta.checkpointInterval": "5"})
    else:
        write_deltalake(found, labels("genomic", "other"), mode="append")
    assert found.version() > lake.delta.version("silver.labels")
    assert known_labels(lake) == ["k2"]
    assert is_curated(lake, "k2")


def test_a_curation_that_lost_a_table_is_to_be_built_again(tmp_path):
    lake = Lake(tmp_path / "lake")
    curate(lake, "k1")
    shutil.rmtree(tmp_path / "lake" / "silver" / "tasks")
    assert lake.table("silver.tasks").collect().height == 0
    assert not is_curated(lake, "k1")
    with pytest.raises(LakeError, match=r"has lost silver\.tasks; run `genebench curate`"):
        require_curated(lake)
    curate(lake, "k1")
    assert is_curated(lake, "k1")
    require_curated(lake)


def test_a_time_within_a_curation_reads_the_curation_before(tmp_path):
    lake = Lake(tmp_path / "lake")
    start = dt.datetime.now(dt.UTC)
    curate(lake, "k1")
    between = dt.datetime.now(dt.UTC)
    curate(lake, "k2", CURATED_TABLES[:5])
    during = dt.datetime.now(dt.UTC)
    curate(lake, "k2")
    assert known_labels(lake.at(start)) == []
    assert known_labels(lake.at(between)) == known_labels(lake.at(during)) == ["k1"]
    assert known_labels(lake.at(dt.datetime.now(dt.UTC))) == ["k2"]


def test_a_curation_after_the_clock_was_set_back_is_the_current_one(tmp_path):
    lake = Lake(tmp_path / "lake")
    curate(lake, "k1")
    (first,) = lake.delta.curations()
    late = first.finished_at + dt.timedelta(hours=1)
    row = run_rows("curate", first.versions, Commit("run k1", "0"))
    lake.delta.append("audit.runs", row.with_columns(pl.lit(late).alias("finished_at")), CURATE)
    curate(lake, "k2")
    assert known_labels(lake) == ["k2"]
    assert is_curated(lake, "k2")


def curate_often(root: str, name: str) -> None:
    for number in range(3):
        curate(Lake(root), f"{name}{number}")


@pytest.mark.slow
def test_two_processes_that_curate_at_once_leave_the_tables_of_one_curation(tmp_path):
    context = multiprocessing.get_context("spawn")
    root = str(tmp_path / "lake")
    writers = [context.Process(target=curate_often, args=(root, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    lake = Lake(root)
    finished = lake.delta.curations()
    assert len(finished) == 6
    for run in finished:
        rows = lake.table("silver.labels", version=run.versions["silver.labels"]).collect()
        assert [f"run {label}" for label in rows["label"]] == [run.run_id]
    assert known_labels(lake) == [finished[-1].run_id.removeprefix("run ")]


def test_the_curation_of_an_earlier_version_is_recorded_as_it_is(curated):
    record_earlier_curation(curated, {}, UPKEEP)
    record_earlier_curation(curated, {}, UPKEEP)
    assert len(curated.delta.curations()) == 1
    curated.delta.append("silver.labels", labels("genomic", "perhaps"), UPKEEP)
    assert sorted(known_labels(curated)) == ["no", "yes"]
    assert is_curated(curated, "k1")

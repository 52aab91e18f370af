"""`genebench doctor` finds each fault that is planted in a lake, and names what mends it."""

import datetime as dt
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from faults.lakes import lost_and_doubled
from faults.verbs import RELEASE, run
from typer.testing import CliRunner

from flows.cli.app import app
from genebench.settings import get_settings
from lakehouse.query.lake import Lake
from lakehouse.score.tidy import tidy_lake
from lakehouse.tables.commits import Commit
from lakehouse.tables.lake_lock import open_lock
from lakehouse.upkeep.doctor import examine_lake
from lakehouse.upkeep.findings import FaultsFound
from lakehouse.upkeep.row_checks import (
    check_evidence,
    check_releases,
    check_source_files,
    check_vectors,
)
from lakehouse.upkeep.table_checks import check_declarations, check_files, check_manifest

COMMIT = Commit("test", "test")


@pytest.fixture
def folder(copied):
    """A folder with a finished lake."""
    return copied("release")


@pytest.fixture
def lake(folder):
    return Lake(folder / "lake")


def faults(lake, check=examine_lake, **options):
    return {one.where: (one.what, one.mend) for one in check(lake, **options) if one.is_fault}


def notes(lake, check=examine_lake):
    return {one.where: (one.what, one.mend) for one in check(lake) if not one.is_fault}


def a_file(lake, name):
    """A data file of the current version of a table."""
    return next(iter(DeltaTable(lake.delta.storage.uri(*name.split("."))).file_uris()))


def test_a_finished_lake_has_nothing_to_tell(lake, monkeypatch):
    assert examine_lake(lake, has_digests=True) == []
    monkeypatch.setenv("GENEBENCH_LAKE", lake.delta.storage.root)
    get_settings.cache_clear()
    told = CliRunner().invoke(app, ["doctor", "--digests"])
    get_settings.cache_clear()
    assert told.exit_code == 0
    assert "has no faults" in told.output


def test_faults_are_printed_with_their_commands_and_end_with_exit_code_2(lake, monkeypatch):
    Path(a_file(lake, "silver.labels")).unlink()
    monkeypatch.setenv("GENEBENCH_LAKE", lake.delta.storage.root)
    get_settings.cache_clear()
    told = CliRunner().invoke(app, ["doctor"])
    get_settings.cache_clear()
    assert isinstance(told.exception, FaultsFound)
    assert told.exception.exit_code == 2
    assert "fault: silver.labels: 1 data files are missing or truncated" in told.output
    assert "then `genebench curate`" in told.output


def test_a_table_that_is_not_as_declared_is_named(lake):
    shutil.rmtree(lake.delta.storage.uri("gold", "leaderboard"))
    other = pl.DataFrame({"a": [1]}).to_arrow()
    write_deltalake(lake.delta.storage.uri("gold", "leaderboard"), other)
    what, mend = faults(lake, check_declarations)["gold.leaderboard"]
    assert "is not gold.leaderboard as declared" in what
    assert mend.endswith("then `genebench report`")


def test_a_table_that_lost_append_only_is_mended_by_tidy(lake):
    found = DeltaTable(lake.delta.storage.uri("gold", "scores"))
    found.alter.set_table_properties({"delta.appendOnly": "false"})
    assert "delta.appendOnly is off" in faults(lake, check_declarations)["gold.scores"][0]
    assert "tidy --apply" in faults(lake, check_declarations)["gold.scores"][1]
    assert "delta.appendOnly was off" in tidy_lake(lake, COMMIT, is_dry=True)["gold.scores"]
    tidy_lake(lake, COMMIT, is_dry=False)
    assert faults(lake, check_declarations) == {}


@pytest.mark.parametrize("change", ["missing", "truncated"])
@pytest.mark.parametrize("is_mended", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_data_file_that_a_log_names_is_missed_and_its_table_computed_again(
    folder, lake, stages, change, is_mended
):
    path = a_file(lake, "silver.embeddings")
    if change == "missing":
        Path(path).unlink()
    else:
        os.truncate(path, 100)
    what, mend = faults(lake, check_files)["silver.embeddings"]
    assert "1 data files are missing or truncated" in what
    assert mend.endswith("then `genebench embed`")
    if not is_mended:
        return
    shutil.rmtree(lake.delta.storage.uri("silver", "embeddings"))
    assert run("embed", folder).code == 0
    assert faults(lake, check_files) == {}
    assert lost_and_doubled(folder, stages("release")) == (0, 0)


def test_a_lost_curated_table_is_named_with_the_version_on_record(lake):
    version = lake.delta.version("silver.tasks")
    shutil.rmtree(lake.delta.storage.uri("silver", "tasks"))
    what, mend = faults(lake, check_manifest)["silver.tasks"]
    assert f"the last curation wrote version {version}" in what
    assert mend == "`genebench curate`"


def test_an_interrupted_curation_is_told_and_is_no_fault(lake):
    lake.delta.replace("silver.tasks", lake.table("silver.tasks").collect(), COMMIT)
    assert faults(lake, check_manifest) == {}
    assert "1 versions after version" in notes(lake, check_manifest)["silver.tasks"][0]


def test_a_run_that_is_not_on_record_is_told_with_what_it_wrote(lake):
    row = lake.table("gold.folds").head(1).collect()
    lake.delta.append("gold.folds", row.with_columns(pl.lit("x").alias("split_key")), COMMIT)
    assert faults(lake, check_manifest) == {}
    assert "wrote gold.folds" in notes(lake, check_manifest)["run test"][0]


@pytest.mark.parametrize("is_mended", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_rows_without_evaluations_are_counted_and_evaluations_without_scores_are_scored_again(
    folder, lake, stages, is_mended
):
    scores = lake.table("gold.scores").collect()
    keys = scores["evaluation_key"].unique().sort().head(2).to_list()
    found = DeltaTable(lake.delta.storage.uri("gold", "scores"))
    found.alter.set_table_properties({"delta.appendOnly": "false"})
    found.delete("evaluation_key in ('{}', '{}')".format(*keys))
    found.alter.set_table_properties({"delta.appendOnly": "true"})
    left = scores.head(3).with_columns(pl.lit("dead").alias("run_id"))
    lake.delta.append("gold.scores", left, COMMIT)
    assert "3 rows of 1 runs have no evaluation" in notes(lake, check_evidence)["gold.scores"][0]
    what, mend = faults(lake, check_evidence)["gold.evaluations"]
    assert what == "2 evaluations on record have no scores"
    assert mend.startswith("`genebench tidy --apply`, then `genebench score`")
    if not is_mended:
        return
    tidy_lake(lake, COMMIT, is_dry=False)
    assert run("score", folder).code == 0
    assert faults(lake, check_evidence) == {}
    assert lost_and_doubled(folder, stages("release")) == (0, 0)


def test_rows_that_are_read_twice_are_a_fault(lake):
    lake.delta.append("gold.scores", lake.table("gold.scores").head(3).collect(), COMMIT)
    assert faults(lake, check_evidence)["gold.scores"][0] == "3 rows are read twice"


@pytest.mark.parametrize("is_mended", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_lost_or_changed_source_file_is_fetched_again_by_refresh(folder, lake, is_mended):
    first, second = (
        lake.table("bronze.snapshots").collect().sort("snapshot_id").rows(named=True)[:2]
    )
    Path(lake.delta.storage.uri("snapshots", first["sha256"])).unlink()
    path = Path(lake.delta.storage.uri("snapshots", second["sha256"]))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert set(faults(lake, check_source_files, has_digests=False)) == {
        f"snapshot {first['snapshot_id']}"
    }
    found = faults(lake, check_source_files, has_digests=True)
    for one, word in ((first, "is missing or truncated"), (second, "has changed")):
        what, mend = found[f"snapshot {one['snapshot_id']}"]
        assert word in what
        assert mend == f"`genebench refresh {one['source']}`"
    if not is_mended:
        return
    assert run("refresh", folder).code == 0
    assert faults(lake, check_source_files, has_digests=True) == {}


def test_a_bronze_table_that_is_gone_is_parsed_again_by_refresh(folder, lake, stages):
    (name, *_) = [
        one
        for one in lake.delta.list_tables()
        if one.startswith("bronze.") and one not in ("bronze.snapshots", "bronze.readings")
    ]
    shutil.rmtree(lake.delta.storage.uri(*name.split(".")))
    (found,) = [
        text
        for where, text in faults(lake, check_source_files, has_digests=False).items()
        if where.startswith("snapshot ")
    ]
    assert found[0] == "its rows are gone from the bronze tables"
    assert "`genebench refresh " in found[1]
    assert run("refresh", folder).code == 0
    assert faults(lake, check_source_files, has_digests=False) == {}
    assert lost_and_doubled(folder, stages("release")) == (0, 0)


@pytest.mark.parametrize("is_mended", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_missing_and_double_vectors_are_told_by_encoder(folder, lake, is_mended):
    found = DeltaTable(lake.delta.storage.uri("silver", "embeddings"))
    rows = lake.embeddings("random").collect()
    lake.delta.append("silver.embeddings", rows.head(2), COMMIT)
    assert "2 vectors are stored twice" in notes(lake, check_vectors)["encoder random"][0]
    found.update_incremental()
    entity = rows["entity_id"][0]
    found.delete(f"encoder_id = 'random' and entity_id = '{entity}'")
    what, mend = faults(lake, check_vectors)["encoder random"]
    assert what == f"{rows.height - 1:,} vectors are stored, {rows.height:,} are on record"
    assert mend == "`genebench embed random`"
    if not is_mended:
        return
    assert run("embed", folder).code == 0
    assert faults(lake, check_vectors) == {}


def test_vector_files_of_two_layouts_are_told(lake):
    rows = lake.embeddings("random").head(1).collect()
    short = rows.with_columns(
        pl.col("vector").list.head(8), pl.lit("hgnc:0").alias("entity_id"), dimension=8
    )
    lake.delta.append(
        "silver.embeddings", short.with_columns(pl.col("dimension").cast(pl.Int32)), COMMIT
    )
    told = [one.what for one in examine_lake(lake) if one.where == "encoder random"]
    assert "its files have 2 layouts of vectors, which are read slowly" in told


def test_a_release_whose_rows_are_missing_is_named(lake):
    lake.delta.delete("gold.universes", {"release_id": RELEASE}, COMMIT)
    lake.delta.delete("gold.leaderboard", {"release_id": "current_paper"}, COMMIT)
    what, mend = faults(lake, check_releases)[f"release {RELEASE}"]
    assert what == "it has no rows in gold.universes"
    assert "`genebench restore" in mend
    assert notes(lake, check_releases)["release current_paper"][1] == "`genebench report`"


@pytest.mark.slow
def test_temporary_files_of_interrupted_writers_are_counted(lake, folder):
    left = [
        folder / "lake" / "snapshots" / ".parts" / "x.part",
        folder / "lake" / "gold" / "scores" / "_delta_log" / "_commit_1.json.tmp",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert examine_lake(lake) == []
    for path in left:
        os.utime(path, (0, 0))
    assert "2 temporary files" in notes(lake)["temporary files"][0]


def test_small_files_are_told_with_the_command_that_merges_them(lake):
    row = lake.table("audit.validations").head(1).collect()
    for number in range(21):
        when = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=number)
        lake.delta.append("audit.validations", row.with_columns(validated_at=when), COMMIT)
    assert notes(lake)["audit.validations"] == (
        "small files to merge",
        "`genebench tidy --apply`",
    )


@pytest.mark.slow
def test_the_holder_of_the_writer_lock_is_named_while_it_is_alive(lake):
    lock = open_lock(lake.delta.storage)
    assert lock.inspect() is None
    assert lock.try_acquire()
    assert f"process {os.getpid()} on" in notes(lake)["writer lock"][0]
    # The file names a process that has ended: a child of it holds the lock.
    lock.path.write_text(lock.holder().replace(str(os.getpid()), str(2**22 + 1)))
    assert "has ended" in faults(lake)["writer lock"][0]
    lock.release()
    assert examine_lake(lake) == []

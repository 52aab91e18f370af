"""Tables that are opened again: what was read is kept while the log of the table is unchanged."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from blanks import filled
from deltalake import DeltaTable

from lakehouse.tables import delta as delta_module
from lakehouse.tables import delta_table
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.delta_table import open_table, open_to_read
from lakehouse.tables.storage import Storage

NAME = "audit.validations"


@pytest.fixture
def delta(tmp_path) -> Delta:
    return Delta(tmp_path / "lake")


def rows(run_id: str) -> pl.DataFrame:
    return filled(NAME, [{"run_id": run_id}])


def write(delta: Delta, run_id: str) -> None:
    delta.append(NAME, rows(run_id), Commit(run_id, "test"))


def runs(delta: Delta, version: int | None = None) -> set[str]:
    return set(delta.scan(NAME, version).collect()["run_id"])


def test_an_unchanged_table_is_opened_once(delta):
    write(delta, "one")
    assert open_to_read(delta.storage, TABLES[NAME]) is open_to_read(delta.storage, TABLES[NAME])


def test_a_commit_of_another_writer_is_read_at_once(delta, tmp_path):
    write(delta, "one")
    assert runs(delta) == {"one"}
    write(Delta(tmp_path / "lake"), "two")
    assert runs(delta) == {"one", "two"}
    found = DeltaTable(delta.storage.uri(TABLES[NAME].path))
    found.alter.set_table_properties({"delta.appendOnly": "false"})
    found.delete("run_id = 'one'")
    assert runs(delta) == {"two"}
    assert runs(delta, 1) == {"one"}


def test_a_written_table_is_read_without_opening_it_again(delta, monkeypatch):
    write(delta, "one")
    opened = []
    monkeypatch.setattr(delta_table, "open_table", lambda *given: opened.append(given))
    assert runs(delta) == {"one"}
    assert not opened


def test_a_commit_of_another_writer_just_after_a_write_is_read(delta, tmp_path, monkeypatch):
    write(delta, "one")
    keep = delta_module.keep_written

    def keep_after_another(*written):
        monkeypatch.undo()
        write(Delta(tmp_path / "lake"), "two")
        keep(*written)

    monkeypatch.setattr(delta_module, "keep_written", keep_after_another)
    write(delta, "three")
    assert runs(delta) == {"one", "two", "three"}


def test_a_table_written_after_commits_of_others_is_kept_with_their_rows(delta, monkeypatch):
    write(delta, "one")
    opened = open_table(delta.storage, TABLES[NAME])
    write(delta, "two")
    with monkeypatch.context() as patch:
        patch.setattr(delta_module, "open_table", lambda *_: opened)
        write(delta, "three")
    assert open_to_read(delta.storage, TABLES[NAME]) is opened
    assert runs(delta) == {"one", "two", "three"}


def test_another_lake_at_the_same_place_is_read_anew(delta, tmp_path):
    write(delta, "one")
    assert (runs(delta), runs(delta, 1)) == ({"one"}, {"one"})
    shutil.rmtree(tmp_path / "lake")
    assert delta.scan(NAME).collect().is_empty()
    write(delta, "two")
    assert (runs(delta), runs(delta, 1)) == ({"two"}, {"two"})


def test_a_table_whose_log_is_cleaned_up_is_read_on(delta):
    for number in range(3):
        write(delta, f"run {number}")
    assert len(runs(delta)) == 3
    found = DeltaTable(delta.storage.uri(TABLES[NAME].path))
    found.create_checkpoint()
    for commit in Path(found.table_uri.removeprefix("file://"), "_delta_log").glob("*.json"):
        commit.unlink()
    assert len(runs(delta)) == 3


def test_a_reader_keeps_the_state_that_it_opened(delta):
    write(delta, "one")
    before = delta.scan(NAME)
    write(delta, "two")
    assert set(before.collect()["run_id"]) == {"one"}
    assert runs(delta) == {"one", "two"}


def test_few_tables_are_kept(delta, monkeypatch):
    monkeypatch.setattr(delta_table, "N_KEPT", 2)
    for number in range(4):
        write(delta, f"run {number}")
    for version in range(1, 5):
        assert len(runs(delta, version)) == version
    assert len(delta_table._KEPT) <= 2


def test_an_object_store_is_asked_each_time(bucket):
    delta = Delta("s3://lakes/open_tables", bucket)
    write(delta, "one")
    assert runs(delta) == {"one"}
    write(Delta(Storage("s3://lakes/open_tables", bucket).root, bucket), "two")
    assert runs(delta) == {"one", "two"}

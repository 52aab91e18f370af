"""A backup is a verified copy of a lake; what is half written passes for nothing."""

import shutil
from pathlib import Path

import pytest

from flows.run.writer_lock import hold_writer_lock
from genebench.errors import LakeError
from genebench.settings import get_settings
from lakehouse.query.lake import Lake
from lakehouse.tables.commits import Commit
from lakehouse.tables.lake_lock import open_lock
from lakehouse.tables.storage import Storage
from lakehouse.tables.table_files import list_files
from lakehouse.upkeep import backup as module
from lakehouse.upkeep.backup import back_up, restore_lake
from lakehouse.upkeep.doctor import examine_lake

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")


@pytest.fixture
def lake(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    (tmp_path / "lake" / "snapshots" / ".parts").mkdir(parents=True)
    (tmp_path / "lake" / "snapshots" / ".parts" / "x.part").write_text("half")
    return Lake(tmp_path / "lake")


def content(root):
    lake = Lake(root)
    return {name: lake.table(name).collect() for name in lake.delta.list_tables()}


def assert_same(root, other):
    mine, theirs = content(root), content(other)
    assert mine.keys() == theirs.keys()
    for name, rows in mine.items():
        assert rows.sort(rows.columns[:3]).equals(theirs[name].sort(rows.columns[:3])), name


def test_a_backup_and_what_is_restored_from_it_are_the_lake_with_its_earlier_versions(
    lake, tmp_path
):
    rows = lake.table("gold.scores").head(1).collect()
    lake.delta.append("gold.scores", rows, COMMIT)
    done = back_up(lake, Storage(tmp_path / "backup"), "test")
    assert done.n_files == len(list_files(Storage(tmp_path / "backup"))) - 1
    assert_same(tmp_path / "lake", tmp_path / "backup")
    restored = restore_lake(Storage(tmp_path / "backup"), Storage(tmp_path / "new" / "lake"))
    assert restored == done
    assert_same(tmp_path / "lake", tmp_path / "new" / "lake")
    again = Lake(tmp_path / "new" / "lake")
    version = again.delta.version("gold.scores") - 1
    n_rows = lake.table("gold.scores").collect().height
    assert again.table("gold.scores", version).collect().height == n_rows - 1
    assert not list_files(again.delta.storage, "snapshots")
    assert not [one for one in examine_lake(again) if one.where == "restore"]


def test_a_lake_in_an_object_store_is_backed_up_and_restored(lake, tmp_path, bucket):
    address = f"s3://lakes/{tmp_path.name}"
    store, folder = Storage(address, bucket), Storage(tmp_path / "backup")
    back_up(lake, folder, "test")
    restore_lake(folder, store)
    there = Lake(address, bucket)
    found, wanted = there.scores().collect(), lake.scores().collect()
    assert found.sort(found.columns).equals(wanted.sort(found.columns))
    back_up(there, Storage(f"{address}_backup", bucket), "test")
    restore_lake(Storage(f"{address}_backup", bucket), Storage(tmp_path / "again"))
    assert_same(tmp_path / "lake", tmp_path / "again")


@pytest.mark.parametrize("n_copied", [0, 3])
def test_an_interrupted_backup_is_no_backup_and_is_completed_by_the_same_call(
    lake, tmp_path, monkeypatch, n_copied
):
    target = Storage(tmp_path / "backup")
    stop_after(monkeypatch, n_copied)
    with pytest.raises(KeyboardInterrupt):
        back_up(lake, target, "test")
    monkeypatch.undo()
    with pytest.raises(LakeError, match=r"was interrupted; `genebench backup .*` completes it"):
        restore_lake(target, Storage(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    # The lake has changed meanwhile; what the copy has too much is deleted.
    (tmp_path / "backup" / "gold").mkdir(exist_ok=True)
    (tmp_path / "backup" / "gold" / "vacuumed.parquet").write_text("x")
    lake.delta.append("gold.scores", lake.table("gold.scores").head(1).collect(), COMMIT)
    back_up(lake, target, "test")
    restore_lake(target, Storage(tmp_path / "new"))
    assert_same(tmp_path / "lake", tmp_path / "new")
    assert "gold/vacuumed.parquet" not in list_files(Storage(tmp_path / "new"))


def test_an_interrupted_restore_refuses_writers_and_is_completed_by_the_same_call(
    lake, tmp_path, monkeypatch
):
    folder, target = Storage(tmp_path / "backup"), Storage(tmp_path / "new")
    back_up(lake, folder, "test")
    stop_after(monkeypatch, 30)
    with pytest.raises(KeyboardInterrupt):
        restore_lake(folder, target)
    monkeypatch.undo()
    monkeypatch.setenv("GENEBENCH_LAKE", target.root)
    get_settings.cache_clear()
    try:
        with pytest.raises(LakeError, match="is restored in part"), hold_writer_lock():
            pass
        (fault,) = [one for one in examine_lake(Lake(target.root)) if one.where == "restore"]
        assert f"`genebench restore {folder.root}` completes it" in fault.what
        restore_lake(folder, target)
        with hold_writer_lock():
            pass
    finally:
        get_settings.cache_clear()
    assert_same(tmp_path / "lake", tmp_path / "new")


def stop_after(monkeypatch, n_copied):
    """Interrupt a copy in the middle of a file, after some whole ones."""
    copy, n = module._copy, 0

    def stop(source, target, path):
        nonlocal n
        n += 1
        if n <= n_copied:
            return copy(source, target, path)
        Path(f"{target.uri(path)}.part").parent.mkdir(parents=True, exist_ok=True)
        Path(f"{target.uri(path)}.part").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_copy", stop)


def test_places_that_are_not_empty_are_refused(lake, tmp_path):
    folder = Storage(tmp_path / "backup")
    back_up(lake, folder, "test")
    with pytest.raises(LakeError, match="it holds a finished backup"):
        back_up(lake, folder, "test")
    with pytest.raises(LakeError, match="it is not empty"):
        restore_lake(folder, lake.delta.storage)
    with pytest.raises(LakeError, match="cannot be in the lake"):
        back_up(lake, Storage(tmp_path / "lake" / "backup"), "test")
    with pytest.raises(LakeError, match="holds no backup"):
        restore_lake(lake.delta.storage, Storage(tmp_path / "new"))
    with pytest.raises(LakeError, match="nothing to back up"):
        back_up(Lake(tmp_path / "none"), Storage(tmp_path / "other"), "test")


def test_a_lake_that_is_being_written_to_or_is_damaged_is_not_backed_up(lake, tmp_path):
    lock = open_lock(lake.delta.storage)
    assert lock.try_acquire()
    with pytest.raises(LakeError, match="is writing to the lake"):
        back_up(lake, Storage(tmp_path / "backup"), "test")
    lock.release()
    next((tmp_path / "lake" / "gold" / "scores").rglob("*.parquet")).unlink()
    with pytest.raises(LakeError, match=r"damaged tables \(gold.scores"):
        back_up(lake, Storage(tmp_path / "backup"), "test")
    assert not (tmp_path / "backup" / "backup.json").exists()


@pytest.mark.parametrize("change", ["truncated", "changed"])
def test_a_backup_that_lost_or_changed_a_file_is_not_restored(lake, tmp_path, change):
    back_up(lake, Storage(tmp_path / "backup"), "test")
    path = next((tmp_path / "backup" / "gold" / "scores").rglob("*.parquet"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change == "truncated" else bytes([data[0] ^ 1]) + data[1:])
    match = "missing or truncated" if change == "truncated" else "has changed since"
    with pytest.raises(LakeError, match=match):
        restore_lake(Storage(tmp_path / "backup"), Storage(tmp_path / "new"))
    if change == "changed":
        names = {one.where for one in examine_lake(Lake(tmp_path / "new")) if one.is_fault}
        assert "restore" in names

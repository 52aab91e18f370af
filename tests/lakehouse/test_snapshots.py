"""Source files are fetched once, kept under their hashes and recorded with their versions."""

import datetime as dt
import hashlib
import os
import resource
import warnings
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from threading import Event, Thread

import polars as pl
import pytest
import yaml
from file_server import BODY, FAST, answer, keeper, list_files, list_parts, make_source, serve_range

from genebench.errors import ChecksumMismatch, LakeError, SnapshotDrift, SourceError
from genebench.registry.loading import declarations_folder
from genebench.sources.declaration import Source
from genebench.sources.readers.dispatch import read_source_file
from lakehouse.refresh.blobs import Blobs
from lakehouse.refresh.http import FetchError
from lakehouse.refresh.locate import find_newest_version
from lakehouse.refresh.pins import lock_snapshots, read_lock, write_lock
from lakehouse.refresh.snapshot_rows import to_bronze_rows, to_snapshot_rows
from lakehouse.refresh.snapshots import Snapshots
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.storage import Storage


def test_a_file_is_kept_under_its_hash_and_on_record(server, storage):
    server.answers["/23.0/a.tsv"] = lambda h, _: answer(
        h, ETag='"e1"', Last_Modified="Mon, 19 Jun 2023 10:00:00 GMT"
    )
    seen = []
    source = make_source(server.url + "/{version}/a.tsv")
    snapshots = keeper(storage, on_progress=lambda n, total: seen.append((n, total)))
    found = snapshots.fetch(source, "proteinatlas")
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert found.snapshot_id == f"hpa_23_0_proteinatlas_{sha256[:8]}"
    assert (found.sha256, found.size_bytes, found.is_new) == (sha256, len(BODY), True)
    assert (found.etag, found.published_on) == ('"e1"', "2023-06-19")
    assert list_files(storage) == [sha256]
    assert snapshots.path(found).read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    rows = to_snapshot_rows([found], "run1")
    assert rows.schema == table("bronze.snapshots").schema
    assert rows["url"].to_list() == [server.url + "/23.0/a.tsv"]
    assert rows["is_complete"].to_list() == [True]
    assert list_parts(storage) == []


def test_rows_are_numbered_under_their_snapshot(storage, tmp_path):
    (tmp_path / "a.tsv").write_bytes(BODY)
    (tmp_path / "sources.yaml").write_text("hpa.proteinatlas: [{version: '1', path: a.tsv}]")
    found = keeper(storage, mirror=str(tmp_path)).fetch(
        make_source("https://x.org/a"), "proteinatlas"
    )
    rows = to_bronze_rows(pl.DataFrame({"Gene": ["a", "b"]}), found)
    assert rows.select("row_number", "snapshot_id").rows() == [
        (0, found.snapshot_id),
        (1, found.snapshot_id),
    ]


def test_the_same_bytes_again_are_no_new_snapshot_and_cost_no_transfer(server, storage):
    def behave(handler, _):
        if handler.headers.get("If-None-Match") == '"e1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            answer(handler, ETag='"e1"')

    server.answers["/a"] = behave
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    again = keeper(storage, first).fetch(source, "proteinatlas")
    assert again.snapshot_id == first.snapshot_id
    assert not again.is_new
    assert to_snapshot_rows([again], "r2").is_empty()
    assert server.requests[1][1]["If-None-Match"] == '"e1"'


def test_a_server_without_etags_is_asked_by_date(server, storage):
    server.answers["/a"] = lambda h, _: answer(h)
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    again = keeper(storage, first).fetch(source, "proteinatlas")
    assert server.requests[1][1]["If-Modified-Since"].endswith("GMT")
    assert not again.is_new


def test_a_file_made_earlier_but_put_up_later_is_seen(server, storage):
    made = [dt.datetime(2026, 1, day, 10, tzinfo=dt.UTC) for day in (1, 3)]

    def behave(handler, n):
        since = handler.headers.get("If-Modified-Since")
        if since and parsedate_to_datetime(since) >= made[n - 1]:
            answer(handler, b"", 304)
        else:
            answer(handler, BODY[: -8 * n], Last_Modified=format_datetime(made[n - 1], usegmt=True))

    server.answers["/a"] = behave
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    with pytest.warns(SnapshotDrift):
        second = keeper(storage, first).fetch(source, "proteinatlas")
    assert second.is_new


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(BODY[:1000])])
def test_a_file_that_was_lost_from_the_lake_is_fetched_whole_again(server, storage, lose):
    server.answers["/a"] = lambda h, _: answer(h, ETag='"e1"')
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    lose(Path(storage.uri("snapshots", first.sha256)))
    again = keeper(storage, first)
    found = again.fetch(source, "proteinatlas")
    assert "If-None-Match" not in server.requests[1][1]
    assert again.path(found).read_bytes() == BODY


def test_new_bytes_under_one_version_are_kept_beside_the_old_with_a_warning(server, storage):
    server.answers["/a"] = lambda h, n: answer(h, BODY if n == 1 else BODY + b"\nG\t1")
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    with pytest.warns(SnapshotDrift, match=f"has new bytes; .* stored beside {first.snapshot_id}"):
        second = keeper(storage, first).fetch(source, "proteinatlas")
    assert second.snapshot_id != first.snapshot_id
    assert len(list_files(storage)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = keeper(storage, first, second).fetch(source, "proteinatlas")
    assert third.snapshot_id == second.snapshot_id


def test_bytes_that_come_back_after_a_cut_are_current_again(server, storage):
    server.answers["/a"] = lambda h, n: answer(h, BODY[:50_000] if n == 2 else BODY)
    source = make_source(server.url + "/a")
    whole = keeper(storage).fetch(source, "proteinatlas")
    with pytest.warns(SnapshotDrift, match="has new bytes"):
        cut = keeper(storage, whole).fetch(source, "proteinatlas")
    words = f"has earlier bytes again; {whole.snapshot_id} is current in place of {cut.snapshot_id}"
    with pytest.warns(SnapshotDrift, match=words):
        back = keeper(storage, whole, cut).fetch(source, "proteinatlas")
    assert back.is_new
    assert back.snapshot_id == whole.snapshot_id
    assert back.retrieved_at > cut.retrieved_at
    assert to_snapshot_rows([back], "r3")["snapshot_id"].to_list() == [whole.snapshot_id]
    again = keeper(storage, whole, cut, back).fetch(source, "proteinatlas")
    assert not again.is_new
    assert again.retrieved_at == back.retrieved_at


def test_what_is_fetched_after_the_clock_was_set_back_is_current(server, storage):
    server.answers["/a"] = lambda handler, n: answer(handler, BODY if n == 1 else BODY[:-8])
    source = make_source(server.url + "/a")
    first = keeper(storage).fetch(source, "proteinatlas")
    tomorrow = first.retrieved_at + dt.timedelta(days=1)
    ahead = replace(first, retrieved_at=tomorrow)
    with pytest.warns(SnapshotDrift):
        second = keeper(storage, ahead).fetch(source, "proteinatlas")
    assert second.snapshot_id != first.snapshot_id
    assert second.retrieved_at > tomorrow
    again = keeper(storage, ahead, second).fetch(source, "proteinatlas")
    assert (again.snapshot_id, again.is_new) == (second.snapshot_id, False)


def test_an_older_version_fetched_by_name_is_current_again_and_no_drift(server, storage):
    for version in ("23.0", "24.0"):
        server.answers[f"/{version}"] = lambda h, _, v=version: answer(h, BODY + v.encode())
    source = make_source(server.url + "/{version}", version="24.0")
    older = keeper(storage).fetch(source, "proteinatlas", "23.0")
    newer = keeper(storage, older).fetch(source, "proteinatlas")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = keeper(storage, older, newer).fetch(source, "proteinatlas", "23.0")
    assert back.is_new
    assert back.snapshot_id == older.snapshot_id
    assert not keeper(storage, older, newer, back).fetch(source, "proteinatlas", "23.0").is_new


def test_a_pinned_file_with_other_bytes_stops_the_run(server, storage, tmp_path):
    server.answers["/23.0"] = lambda h, n: answer(h, BODY if n == 1 else BODY + b"x")
    source = make_source(server.url + "/{version}", version="24.0")
    lock = tmp_path / "snapshots.lock.yaml"
    first = keeper(storage).fetch(source, "proteinatlas", "23.0")
    lock_snapshots([first], lock)
    assert read_lock(lock) == {
        "hpa.proteinatlas": {
            "version": "23.0",
            "sha256": first.sha256,
            "size_bytes": first.size_bytes,
        }
    }
    with pytest.raises(ChecksumMismatch, match="the lock file pins") as caught:
        keeper(storage, lock=lock).fetch(source, "proteinatlas", is_pinned=True)
    assert first.sha256 in str(caught.value)
    assert server.requests[-1][0] == "/23.0"


def test_a_pinned_file_that_the_lock_does_not_name_is_refused(server, storage):
    with pytest.raises(SourceError, match="the lock file does not pin it"):
        keeper(storage).fetch(make_source(server.url), "proteinatlas", is_pinned=True)
    assert server.requests == []


def test_the_lock_file_keeps_its_other_entries(tmp_path):
    lock = tmp_path / "snapshots.lock.yaml"
    one = {"version": "1", "sha256": "a", "size_bytes": 1}
    write_lock({"hpa.a": one, "hpa.b": one}, lock)
    write_lock({"hpa.b": one | {"version": "2"}}, lock)
    assert {name: entry["version"] for name, entry in read_lock(lock).items()} == {
        "hpa.a": "1",
        "hpa.b": "2",
    }
    lock.write_text("hpa.a: {version: 1}")
    with pytest.raises(SourceError, match=r"the lock file is damaged: .*hpa\.a"):
        read_lock(lock)


def test_kept_bytes_that_changed_on_disk_are_not_trusted(storage, server):
    server.answers["/a"] = lambda h, _: answer(h)
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    kept = Path(storage.uri("snapshots", found.sha256))
    kept.write_bytes(BODY[:-1])
    with pytest.raises(ChecksumMismatch, match=r"has changed \(its SHA-256 is now"):
        snapshots.path(found)
    with pytest.raises(SourceError, match="genebench refresh"):
        snapshots.path(found)


def test_an_unknown_file_is_refused_with_a_suggestion(storage):
    with pytest.raises(SourceError, match="did you mean 'proteinatlas'"):
        keeper(storage).fetch(make_source("https://x.org/a"), "protein_atlas")


def test_an_address_that_is_not_http_is_refused(storage):
    with pytest.raises(SourceError, match="only http and https"):
        keeper(storage).fetch(make_source("ftp://example.org/a"), "proteinatlas")


def test_the_message_about_a_full_disk_names_the_file_and_the_next_run_resumes(server, storage):
    server.answers["/a"] = lambda handler, _: serve_range(handler, BODY, '"e"')
    source, snapshots = make_source(server.url + "/a"), keeper(storage)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            SourceError, match=r"hpa, file proteinatlas, version 23\.0 .*cannot be read or stored"
        ):
            snapshots.fetch(source, "proteinatlas")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert snapshots.path(snapshots.fetch(source, "proteinatlas")).read_bytes() == BODY
    assert "Range" in server.requests[-1][1]


def test_a_lake_that_is_not_writable_is_an_error_before_anything_is_fetched(server):
    with pytest.raises(LakeError, match="GENEBENCH_LAKE"):
        keeper(Storage("/proc/lake")).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert server.requests == []


def test_the_newest_version_is_read_from_the_discovery_page(server):
    server.answers["/about"] = lambda h, _: answer(h, b"<html>v9.1 and v23.0 and v10.0</html>")
    discover = {"page": server.url + "/about", "pattern": r"v(\d+\.\d)"}
    source = make_source("https://x.org/{version}").model_dump() | {"discover": discover}
    assert find_newest_version(Source.model_validate(source), FAST) == "23.0"
    assert find_newest_version(make_source("https://x.org/a"), FAST) == "23.0"
    server.answers["/about"] = lambda h, _: answer(h, b"<html>nothing</html>")
    with pytest.raises(FetchError, match=r"no version on .* matches"):
        find_newest_version(Source.model_validate(source), FAST)


def test_leftovers_of_killed_runs_go_after_a_week(server, storage):
    server.answers["/a"] = lambda h, _: answer(h)
    source = make_source(server.url + "/a")
    keeper(storage).fetch(source, "proteinatlas")
    parts = Path(storage.uri("snapshots", ".parts"))
    for name, days in (("old.part", 8), ("young.part", 1)):
        (parts / name).write_bytes(b"half")
        then = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).timestamp()
        os.utime(parts / name, (then, then))
    keeper(storage).fetch(source, "proteinatlas")
    assert [path.name for path in list_parts(storage)] == ["young.part"]


def test_files_that_another_run_moves_away_meanwhile_are_no_fault_of_the_folder(tmp_path):
    blobs = Blobs(Storage(str(tmp_path / "lake")))
    folder = blobs.work_folder()
    is_over = Event()

    def come_and_go():
        names = [folder / f"{number}.part" for number in range(50)]
        while not is_over.is_set():
            for name in names:
                name.touch()
            for name in names:
                name.unlink()

    other = Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(1000):
            assert blobs.work_folder() == folder
    finally:
        is_over.set()
        other.join()


def test_users_of_one_machine_have_temporary_folders_of_their_own(
    bucket, server, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "genebench-snapshots").write_text("another user's")
    server.answers["/a"] = lambda h, _: answer(h)
    snapshots = keeper(Storage("s3://lakes/users", bucket))
    path = snapshots.path(snapshots.fetch(make_source(server.url + "/a"), "proteinatlas"))
    assert path.read_bytes() == BODY
    assert path.parent.name.endswith(f"-{os.getuid()}")
    assert path.parent.stat().st_mode & 0o777 == 0o700


def read_declared(source_id: str) -> Source:
    path = declarations_folder("sources") / f"{source_id}.yaml"
    return Source.model_validate({"id": source_id} | yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("source_id", "name", "version"),
    [
        ("hpa", "proteinatlas", "18.1"),
        ("hpa", "proteinatlas", "23.0"),
        ("gene2vec", "pairs_valid", None),
        ("humantfs", "database_extract", None),
    ],
)
def test_real_files_go_into_the_lake_and_come_out_the_same(
    shared, storage, source_id, name, version
):
    source = read_declared(source_id)
    snapshots = keeper(storage, mirror=str(shared / "data"))
    found = snapshots.fetch(source, name, version)
    companions = {role: snapshots.path(one) for role, one in found.companions.items()}
    rows = to_bronze_rows(
        read_source_file(
            snapshots.path(found), source.files[name], source, found.version, companions
        ),
        found,
    )
    lake = Delta(storage.root)
    bronze = f"bronze.{source.table_of(name)}"
    lake.replace(bronze, rows, Commit("r1", "0"), {"snapshot_id": found.snapshot_id})
    back = lake.scan(bronze).sort("row_number").select(rows.columns).collect()
    assert back.equals(rows)
    lake.append("bronze.snapshots", to_snapshot_rows([found], "r1"), Commit("r1", "0"))
    known = lake.scan("bronze.snapshots").collect()
    again = Snapshots(storage, known, mirror=str(shared / "data")).fetch(source, name, version)
    assert not again.is_new

"""Source files are fetched and stored correctly from servers that fail in every common way."""

import contextlib
import datetime as dt
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import polars as pl
import pytest
import yaml

from expectations import check_frame
from genebench.errors import ChecksumMismatch, LakeError, SnapshotDrift, SourceError
from genebench.registry.loading import declarations_folder
from genebench.sources.declaration import EMBEDDED_FOLDER, Source
from genebench.sources.readers.dispatch import read_source_file
from lakehouse.refresh.blobs import Blobs
from lakehouse.refresh.http import FetchError, RetryPolicy
from lakehouse.refresh.locate import find_newest_version
from lakehouse.refresh.pins import lock_snapshots, read_lock, write_lock
from lakehouse.refresh.snapshot_rows import Snapshot, to_bronze_rows, to_snapshot_rows
from lakehouse.refresh.snapshots import Snapshots
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.storage import Storage

FAST = RetryPolicy(timeout_seconds=0.5, pauses_seconds=(0.01, 0.02, 0.03))
BODY = b"Gene\tValue\n" + b"\n".join(b"G%d\t%d" % (n, n) for n in range(20_000))


class Server:
    """A local HTTP server whose answers a test writes."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                n = sum(path == self.path for path, _ in outer.requests)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.answers[self.path](self, n)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


def answer(
    handler: BaseHTTPRequestHandler,
    body: bytes = BODY,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def serve_range(handler: BaseHTTPRequestHandler, body: bytes, etag: str) -> None:
    """Answer as a server that can resume does."""
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range") == etag:
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        stated = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        answer(handler, body[begin:], 206, ETag=etag, Content_Range=stated)
    else:
        answer(handler, body, ETag=etag)


def cut_short(handler: BaseHTTPRequestHandler, body: bytes, n: int, **headers: str) -> None:
    answer(handler, body[:n], length=len(body), **headers)
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "lake")


def make_source(url: str, version: str = "23.0", **rest: object) -> Source:
    file = {"url": url, "format": "tsv", **rest}
    return Source.model_validate(
        {
            "id": "hpa",
            "title": "Atlas",
            "license": "CC BY-SA 3.0",
            "cite": "uhlen2015",
            "homepage": "https://example.org",
            "version": version,
            "files": {"proteinatlas": file},
        }
    )


def keeper(storage: Storage, *found: Snapshot, **rest) -> Snapshots:
    rest.setdefault("lock", Path("/nonexistent/lock.yaml"))
    rest.setdefault("policy", FAST)
    return Snapshots(storage, to_snapshot_rows(found, "r1"), **rest)


def list_files(storage: Storage) -> list[str]:
    folder = Path(storage.uri("snapshots"))
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def list_parts(storage: Storage) -> list[Path]:
    return sorted(Path(storage.uri("snapshots", ".parts")).glob("*.part"))


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
    write_mirror(tmp_path, "hpa.proteinatlas: [{version: '1', path: a.tsv}]")
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


def test_redirects_are_followed(server, storage):
    server.answers["/a"] = lambda h, _: answer(h, b"", 302, Location="/b")
    server.answers["/b"] = lambda h, _: answer(h)
    found = keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert found.size_bytes == len(BODY)
    assert found.url == server.url + "/a"


def test_a_redirect_from_https_to_http_is_refused(storage, monkeypatch):
    def redirect(_transport, request):
        return httpx.Response(302, headers={"Location": "http://127.0.0.1:9/b"}, request=request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", redirect)
    with pytest.raises(
        SourceError, match=r"redirects to http://127\.0\.0\.1:9/b, which is not enc"
    ):
        keeper(storage).fetch(make_source("https://127.0.0.1/a"), "proteinatlas")


def test_a_work_folder_that_others_can_write_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    blobs = Blobs(Storage("s3://bucket/lake", {"AWS_REGION": "us-east-1"}))
    work = blobs.work_folder()
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    work.chmod(0o770)
    with pytest.raises(LakeError, match="only its owner can use"):
        blobs.work_folder()
    work.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    work.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LakeError, match="only its owner can use"):
        blobs.work_folder()


def test_a_circle_of_redirects_is_a_clear_error(server, storage):
    server.answers["/a"] = lambda h, _: answer(h, b"", 302, Location="/a")
    with pytest.raises(SourceError, match="too many redirects"):
        keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(server, storage, status):
    server.answers["/a"] = lambda h, n: answer(h, b"busy", status) if n < 4 else answer(h)
    found = keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert found.size_bytes == len(BODY)
    assert len(server.requests) == 4


def test_a_server_that_stays_busy_is_given_up_after_three_more_tries(server, storage):
    server.answers["/a"] = lambda h, _: answer(h, b"busy", 503, Retry_After="0")
    with pytest.raises(SourceError, match=r"answered 503 .* in each of 4 tries"):
        keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert len(server.requests) == 4


@pytest.mark.parametrize("asked", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_pause_that_the_server_asks_for_is_kept_within_bounds(server, storage, asked):
    server.answers["/a"] = lambda h, n: (
        answer(h, b"", 429, Retry_After=asked) if n == 1 else answer(h)
    )
    patient = RetryPolicy(timeout_seconds=5, pauses_seconds=(0.01,), max_pause_seconds=0.3)
    begun = time.perf_counter()
    keeper(storage, policy=patient).fetch(make_source(server.url + "/a"), "proteinatlas")
    # The server asks for an hour or more; the policy allows 0.3 s.
    assert 0.3 <= time.perf_counter() - begun < 600


@pytest.mark.parametrize("asked", ["Thu, 01 Jan 1970 00:00:00 GMT", "-0000", "soon", "²"])
def test_a_pause_that_cannot_be_kept_is_our_own(server, storage, asked):
    server.answers["/a"] = lambda h, n: (
        answer(h, b"", 503, Retry_After=asked) if n == 1 else answer(h)
    )
    keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert len(server.requests) == 2


def misbehave_404(handler, _):
    answer(handler, b"nothing here", 404)


def misbehave_403(handler, _):
    answer(handler, b"no", 403)


def misbehave_page(handler, _):
    answer(handler, b"\n<!DOCTYPE html><html>moved</html>", Content_Type="text/html")


def misbehave_empty(handler, _):
    answer(handler, b"")


def misbehave_stall(handler, _):
    answer(handler, BODY[:100], length=len(BODY))
    time.sleep(1.5)


def misbehave_truncate(handler, _):
    cut_short(handler, BODY, 1000)


def misbehave_large(handler, _):
    answer(handler, b"x" * 10, length=10**12)


@pytest.mark.parametrize(
    ("misbehave", "words", "n_tries"),
    [
        (misbehave_404, "404 Not Found: there is no such file", 1),
        (misbehave_403, "403 Forbidden: the server refuses it", 1),
        (misbehave_page, "web page", 1),
        (misbehave_empty, "empty", 1),
        (misbehave_stall, "the server sent nothing for 0.5 s", 4),
        (misbehave_truncate, "connection broke before the download was complete", 4),
        (misbehave_large, "larger than the .* bytes declared", 1),
    ],
)
def test_a_bad_delivery_names_source_version_address_and_the_last_good_snapshot(
    server, storage, misbehave, words, n_tries
):
    server.answers["/22.0"] = lambda h, _: answer(h)
    server.answers["/23.0"] = misbehave
    source = make_source(server.url + "/{version}")
    good = keeper(storage).fetch(source, "proteinatlas", "22.0")
    with pytest.raises(SourceError, match=words) as caught:
        keeper(storage, good).fetch(source, "proteinatlas")
    message = str(caught.value)
    for part in ("source hpa", "proteinatlas", "version 23.0", server.url + "/23.0"):
        assert part in message
    assert f"last good snapshot, {good.snapshot_id}" in message
    assert "stays current" in message
    assert list_files(storage) == [good.sha256]
    assert sum(path == "/23.0" for path, _ in server.requests) == n_tries


def test_a_first_delivery_that_fails_says_that_nothing_is_kept(server, storage):
    server.answers["/a"] = misbehave_404
    with pytest.raises(SourceError, match="there is no earlier snapshot"):
        keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")


def test_a_server_that_is_not_there_is_a_clear_error(storage):
    with pytest.raises(SourceError, match=r"cannot be reached .* in each of 4 tries"):
        keeper(storage).fetch(make_source("http://127.0.0.1:9/a"), "proteinatlas")


def test_a_broken_transfer_goes_on_where_it_stopped(server, storage):
    def behave(handler, n):
        if n <= 2:
            begin = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")
            rest = BODY[int(begin) :]
            status = 206 if int(begin) else 200
            stated = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
            headers = {"Content_Range": stated} if status == 206 else {}
            answer(handler, rest[:70_000], status, len(rest), ETag='"e"', **headers)
            handler.close_connection = True
        else:
            serve_range(handler, BODY, '"e"')

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY
    assert [seen.get("Range") for _, seen in server.requests] == [
        None,
        "bytes=70000-",
        "bytes=140000-",
    ]


def test_a_file_that_changed_meanwhile_is_not_joined_from_two_halves(server, storage):
    other = b"Y" * len(BODY)

    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='"e1"')
        else:
            serve_range(handler, other, '"e2"')

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert server.requests[1][1]["If-Range"] == '"e1"'
    assert snapshots.path(found).read_bytes() == other


def test_a_server_that_cannot_resume_is_asked_for_the_whole(server, storage):
    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='"e"')
        elif handler.headers.get("Range"):
            answer(handler, b"", 416)
        else:
            answer(handler, ETag='"e"')

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY
    assert len(server.requests) == 3


def test_a_server_that_resumes_at_another_place_is_not_believed(server, storage):
    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='"e"')
        elif handler.headers.get("Range"):
            answer(handler, BODY[5:], 206, ETag='"e"', Content_Range=f"bytes 5-9/{len(BODY)}")
        else:
            answer(handler, ETag='"e"')

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY


def test_a_server_that_sends_less_than_was_asked_for_is_asked_for_the_rest(server, storage):
    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='"e"')
            return
        begin = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        piece = BODY[begin : begin + 80_000]
        stated = f"bytes {begin}-{begin + len(piece) - 1}/{len(BODY)}"
        answer(handler, piece, 206, ETag='"e"', Content_Range=stated)

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY


def test_a_download_that_breaks_often_is_not_given_up_while_it_goes_on(server, storage):
    def behave(handler, n):
        begin = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        stated = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        headers = {"ETag": '"e"'} | ({"Content_Range": stated} if begin else {})
        rest = BODY[begin:]
        answer(handler, rest[:30_000], 206 if begin else 200, len(rest), **headers)
        handler.close_connection = True

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY
    assert len(server.requests) == len(BODY) // 30_000 + 1 > 4


def test_a_server_that_resumes_another_file_is_not_believed(server, storage):
    other = b"Y" * len(BODY)

    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='"e1"')
        elif handler.headers.get("Range"):
            stated = f"bytes 70000-{len(other) - 1}/{len(other)}"
            answer(handler, other[70_000:], 206, ETag='"e2"', Content_Range=stated)
        else:
            answer(handler, other, ETag='"e2"')

    server.answers["/a"] = behave
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == other


def test_a_download_killed_before_the_old_half_is_gone_joins_no_halves(
    server, storage, monkeypatch
):
    other = b"Y" * len(BODY)

    def behave(handler, n):
        if n <= 4:
            cut_short(handler, BODY, 70_000, ETag='"e1"')
        else:
            serve_range(handler, other, '"e2"')

    server.answers["/a"] = behave
    source, snapshots = make_source(server.url + "/a"), keeper(storage)
    with pytest.raises(SourceError, match=r"ended at|broke"):
        snapshots.fetch(source, "proteinatlas")
    opened = Path.open

    def stop(path, mode="r", *rest, **named):
        if path.suffix == ".part" and mode == "wb":
            raise KeyboardInterrupt
        return opened(path, mode, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", stop)
        with pytest.raises(KeyboardInterrupt):
            snapshots.fetch(source, "proteinatlas")
    found = snapshots.fetch(source, "proteinatlas")
    assert snapshots.path(found).read_bytes() == other


def test_a_weak_etag_joins_no_halves(server, storage):
    def behave(handler, n):
        if n == 1:
            cut_short(handler, BODY, 70_000, ETag='W/"e"')
        else:
            answer(handler, ETag='W/"e"')

    server.answers["/a"] = behave
    keeper(storage).fetch(make_source(server.url + "/a"), "proteinatlas")
    assert "Range" not in server.requests[1][1]


KILLED = """
import sys
sys.path.insert(0, sys.argv[3])
from test_snapshots import keeper, make_source
from lakehouse.tables.storage import Storage
keeper(Storage(sys.argv[1])).fetch(make_source(sys.argv[2]), "proteinatlas")
"""


def test_a_killed_download_keeps_nothing_half_and_the_next_goes_on(server, storage):
    is_held = threading.Event()

    def behave(handler, n):
        if n == 1:
            handler.send_response(200)
            handler.send_header("ETag", '"e"')
            handler.send_header("Content-Length", str(len(big)))
            handler.end_headers()
            handler.wfile.write(big[:2_000_000])
            handler.wfile.flush()
            is_held.set()
            time.sleep(0.4)
        else:
            serve_range(handler, big, '"e"')

    big = os.urandom(3_000_000)
    server.answers["/a"] = behave
    command = [sys.executable, "-c", KILLED, storage.root, server.url + "/a"]
    with subprocess.Popen([*command, str(Path(__file__).parent)]) as fetching:
        assert is_held.wait(30)
        time.sleep(0.2)
        fetching.send_signal(signal.SIGKILL)
    assert list_files(storage) == []
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == big
    assert int(server.requests[1][1]["Range"].removeprefix("bytes=").rstrip("-")) > 1_000_000
    assert list_parts(storage) == []


def test_two_that_fetch_the_same_at_once_both_get_it_whole(server, storage):
    def behave(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        for begin in range(0, len(BODY), 50_000):
            handler.wfile.write(BODY[begin : begin + 50_000])
            time.sleep(0.05)

    server.answers["/a"] = behave
    found: list[Snapshot] = []
    source = make_source(server.url + "/a")
    workers = [
        threading.Thread(target=lambda: found.append(keeper(storage).fetch(source, "proteinatlas")))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [one.sha256 for one in found] == [hashlib.sha256(BODY).hexdigest()] * 2


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


def write_mirror(folder: Path, text: str) -> None:
    (folder / "sources.yaml").write_text(text)


MIRROR = """
hpa.proteinatlas:
  - {version: "18.1", path: old.tsv}
  - {version: "23.0", path: new.tsv, complete: false}
  - {version: "23.0-composite", path: mixed.tsv, complete: false, composite: true}
hpa.pathology:
  - {version: "1", path: missing.tsv}
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    write_mirror(folder, MIRROR)
    for name in ("old", "new", "mixed"):
        (folder / f"{name}.tsv").write_text(f"Gene\n{name}")
    return folder


def test_a_mirror_gives_its_last_version_that_is_not_composite(storage, mirror):
    snapshots = keeper(storage, mirror=str(mirror))
    source = make_source("https://example.org/{version}")
    found = snapshots.fetch(source, "proteinatlas")
    assert (found.version, found.is_complete, found.is_composite) == ("23.0", False, False)
    assert snapshots.path(found).read_text() == "Gene\nnew"
    assert found.url == (mirror / "new.tsv").as_uri()
    mixed = snapshots.fetch(source, "proteinatlas", "23.0-composite")
    assert mixed.is_composite
    assert mixed.snapshot_id.startswith("hpa_23_0_composite_proteinatlas_")
    assert snapshots.fetch(source, "proteinatlas", "18.1").is_complete


def test_a_mirror_over_http_is_the_same(server, storage, mirror):
    for name in ("sources.yaml", "new.tsv"):
        server.answers[f"/m/{name}"] = lambda h, _, name=name: answer(
            h, (mirror / name).read_bytes()
        )
    snapshots = keeper(storage, mirror=server.url + "/m")
    found = snapshots.fetch(make_source("https://example.org/{version}"), "proteinatlas")
    assert (found.version, found.url) == ("23.0", server.url + "/m/new.tsv")


def test_names_with_blanks_in_a_mirror_make_addresses_without(server, storage):
    listed = b"hpa.proteinatlas:\n  - {version: '23.0', path: all genes/new file.tsv}\n"
    server.answers["/m/sources.yaml"] = lambda h, _: answer(h, listed)
    server.answers["/m/all%20genes/new%20file.tsv"] = lambda h, _: answer(h)
    snapshots = keeper(storage, mirror=server.url + "/m")
    found = snapshots.fetch(make_source("https://example.org/{version}"), "proteinatlas")
    assert found.url == server.url + "/m/all%20genes/new%20file.tsv"
    assert check_frame("bronze.snapshots", to_snapshot_rows([found], "r")).is_met


@pytest.mark.parametrize(
    ("file", "version", "words"),
    [
        ("proteinatlas", "22.0", r"not list version '22\.0' .*, but 18\.1, 23\.0, 23\.0-composite"),
        ("pathology", None, "there is no such file"),
        ("tissue", None, r"does not list the file hpa\.tissue"),
    ],
)
def test_what_a_mirror_does_not_hold_is_a_clear_error(storage, mirror, file, version, words):
    source = make_source("https://example.org/{version}")
    files = dict.fromkeys(("proteinatlas", "pathology", "tissue"), source.files["proteinatlas"])
    source = source.model_copy(update={"files": files})
    with pytest.raises(SourceError, match=words) as caught:
        keeper(storage, mirror=str(mirror)).fetch(source, file, version)
    assert "source hpa" in str(caught.value)


def test_a_version_that_yaml_reads_as_a_fraction_is_refused(storage, tmp_path):
    text = "hpa.proteinatlas:\n  - {version: 22.10, path: a.tsv}\n"
    (tmp_path / "sources.yaml").write_text(text)
    (tmp_path / "a.tsv").write_bytes(BODY)
    source = make_source("https://example.org/{version}")
    with pytest.raises(SourceError, match=r"version 22\.1 .*write it in quotes"):
        keeper(storage, mirror=str(tmp_path)).fetch(source, "proteinatlas")


def test_a_mirror_without_its_list_is_a_clear_error(storage, tmp_path):
    with pytest.raises(SourceError, match=r"mirror cannot be used: .*sources\.yaml: no such file"):
        keeper(storage, mirror=str(tmp_path)).fetch(make_source("https://x.org/a"), "proteinatlas")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"  <html>login</html>", "web page")]
)
def test_a_bad_file_in_a_mirror_is_refused(storage, mirror, content, words):
    (mirror / "new.tsv").write_bytes(content)
    with pytest.raises(SourceError, match=words):
        keeper(storage, mirror=str(mirror)).fetch(make_source("https://x.org/a"), "proteinatlas")


def test_a_file_with_a_companion_changes_when_the_companion_does(storage, tmp_path):
    (tmp_path / "pairs.txt").write_text("A B\nC D\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n0\n")
    write_mirror(
        tmp_path, "hpa.proteinatlas: [{version: '1', path: pairs.txt, labels: labels.txt}]"
    )
    source = make_source(
        "https://example.org/pairs", companions={"labels": "https://example.org/labels"}
    )
    place = str(tmp_path)
    first = keeper(storage, mirror=place).fetch(source, "proteinatlas")
    assert first.companions["labels"].size_bytes == 4
    assert to_snapshot_rows([first], "r1")["file"].to_list() == [
        "proteinatlas_labels",
        "proteinatlas",
    ]
    labels.write_text("0\n0\n")
    known = [first, *first.companions.values()]
    with pytest.warns(SnapshotDrift):
        second = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert second.snapshot_id != first.snapshot_id
    assert second.sha256 == first.sha256
    assert second.is_new
    labels.write_text("1\n0\n")
    known += [second, second.companions["labels"]]
    with pytest.warns(SnapshotDrift):
        back = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert back.snapshot_id == first.snapshot_id
    assert back.is_new
    assert back.companions["labels"].snapshot_id == first.companions["labels"].snapshot_id
    known += [back, back.companions["labels"]]
    again = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert to_snapshot_rows([again], "r4").is_empty()


def test_a_folder_of_parts_is_kept_as_one_file_always_the_same(server, storage, mirror):
    folder = mirror / "parts"
    folder.mkdir()
    for name in ("part-1.tsv", "part-0.tsv", "readme.txt"):
        (folder / name).write_text(name)
    write_mirror(mirror, "hpa.proteinatlas: [{version: '1', path: parts}]")
    source = make_source(server.url + "/x/", options={"parts": "part-*.tsv"})
    snapshots = keeper(storage, mirror=str(mirror))
    local = snapshots.fetch(source, "proteinatlas")
    with zipfile.ZipFile(snapshots.path(local)) as archive:
        assert archive.namelist() == ["part-0.tsv", "part-1.tsv"]
        assert archive.read("part-1.tsv") == b"part-1.tsv"
    page = b"".join(
        b'<a href="%s">%s</a>' % (link, link)
        for link in (b"../", b"readme.txt", b"part-1.tsv", b"part-0.tsv")
    )
    server.answers["/x/"] = lambda h, _: answer(h, b"<html>" + page)
    for name in ("part-0.tsv", "part-1.tsv"):
        server.answers[f"/x/{name}"] = lambda h, _, name=name: answer(h, name.encode())
    remote = keeper(storage).fetch(source, "proteinatlas")
    assert remote.sha256 == local.sha256


def test_a_folder_without_parts_is_a_clear_error(server, storage):
    server.answers["/x/"] = lambda h, _: answer(h, b"<html>empty</html>")
    source = make_source(server.url + "/x/", options={"parts": "*.parquet"})
    with pytest.raises(SourceError, match="no file that matches"):
        keeper(storage).fetch(source, "proteinatlas")


def test_a_copy_in_a_mirror_goes_before_the_embedded_file(storage, mirror):
    source = make_source("embedded:3.16.0/go_terms.tsv.gz", version="3.16.0")
    snapshots = keeper(storage, mirror=str(mirror))
    assert snapshots.fetch(source, "proteinatlas").url.endswith("new.tsv")
    write_mirror(mirror, "hpa.pathology: [{version: '1', path: old.tsv}]")
    snapshots = keeper(storage, mirror=str(mirror))
    assert snapshots.fetch(source, "proteinatlas").url == "embedded:3.16.0/go_terms.tsv.gz"


def test_an_embedded_file_is_held_to_the_lock(storage, tmp_path):
    source = make_source("embedded:3.16.0/go_terms.tsv.gz", version="3.16.0")
    found = keeper(storage).fetch(source, "proteinatlas")
    assert (
        found.sha256
        == hashlib.sha256((EMBEDDED_FOLDER / "3.16.0" / "go_terms.tsv.gz").read_bytes()).hexdigest()
    )
    assert found.url == "embedded:3.16.0/go_terms.tsv.gz"
    lock = tmp_path / "snapshots.lock.yaml"
    lock_snapshots([found], lock)
    assert keeper(storage, lock=lock).fetch(source, "proteinatlas").sha256 == found.sha256
    write_lock({"hpa.proteinatlas": {"version": "3.16.0", "sha256": "0", "size_bytes": 1}}, lock)
    with pytest.raises(ChecksumMismatch):
        keeper(storage, lock=lock).fetch(source, "proteinatlas")
    with pytest.raises(SourceError, match=r"contains version 3\.16\.0, not 2"):
        keeper(storage).fetch(source, "proteinatlas", "2")


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


def test_files_are_kept_in_an_object_store_too(bucket, server):
    server.answers["/a"] = lambda h, _: answer(h, ETag='"e"')
    storage = Storage("s3://lakes/snapshots", bucket)
    snapshots = keeper(storage)
    found = snapshots.fetch(make_source(server.url + "/a"), "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY
    snapshots.path(found).unlink()
    assert keeper(storage).path(found).read_bytes() == BODY
    snapshots.path(found).write_bytes(b"changed in the cache")
    assert snapshots.path(found).read_bytes() == BODY
    assert not keeper(storage, found).fetch(make_source(server.url + "/a"), "proteinatlas").is_new


def test_an_object_that_changed_in_its_store_is_not_trusted_and_fetched_again(
    bucket, server, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.answers["/a"] = lambda h, _: answer(h)
    storage = Storage("s3://lakes/damaged", bucket)
    source = make_source(server.url + "/a")
    snapshots = keeper(storage)
    found = snapshots.fetch(source, "proteinatlas")
    files, root = storage.open_filesystem()
    with files.open_output_stream(f"{root}/snapshots/{found.sha256}") as out:
        out.write(b"Y" * len(BODY))
    with pytest.raises(ChecksumMismatch, match=rf"s3://lakes/damaged/snapshots/{found.sha256}"):
        snapshots.path(found)
    keeper(storage, found).fetch(source, "proteinatlas")
    assert snapshots.path(found).read_bytes() == BODY


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


def test_an_upload_that_was_stopped_halfway_is_done_again(bucket, server, monkeypatch):
    server.answers["/a"] = lambda h, _: answer(h)
    storage = Storage("s3://lakes/stopped", bucket)
    source = make_source(server.url + "/a")

    def stop(stream, out, _):
        out.write(stream.read(1000))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.refresh.blobs.shutil.copyfileobj", stop)
        with pytest.raises(KeyboardInterrupt):
            keeper(storage).fetch(source, "proteinatlas")
    files, root = storage.open_filesystem()
    kept = f"{root}/snapshots/{hashlib.sha256(BODY).hexdigest()}"
    assert files.get_file_info(kept).size == 1000
    keeper(storage).fetch(source, "proteinatlas")
    assert files.get_file_info(kept).size == len(BODY)


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

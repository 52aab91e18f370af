"""A download that breaks goes on where it stopped, and never joins halves of two files."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from file_server import (
    BODY,
    answer,
    cut_short,
    keeper,
    list_files,
    list_parts,
    make_source,
    serve_range,
)

from genebench.errors import SourceError
from lakehouse.refresh.snapshot_rows import Snapshot


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
from file_server import keeper, make_source
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
    with subprocess.Popen([*command, str(Path(__file__).parents[1])]) as fetching:
        assert is_held.wait(120)
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
        worker.join(120)
    assert [one.sha256 for one in found] == [hashlib.sha256(BODY).hexdigest()] * 2

"""Servers that redirect, are busy, refuse or send something else: each gives a clear error."""

import stat
import tempfile
import time

import httpx
import pytest
from file_server import BODY, answer, cut_short, keeper, list_files, make_source

from genebench.errors import LakeError, SourceError
from lakehouse.refresh.blobs import Blobs
from lakehouse.refresh.http import RetryPolicy
from lakehouse.tables.storage import Storage


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

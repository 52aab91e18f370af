"""Source files are kept in an object store as in a folder."""

import hashlib

import pytest
from file_server import BODY, answer, keeper, make_source

from genebench.errors import ChecksumMismatch
from lakehouse.tables.storage import Storage


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

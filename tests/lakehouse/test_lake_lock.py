"""One writer a lake: from any folder, any process and, in an object store, any machine."""

import os
import signal
import subprocess
import sys
import time

import pytest

from genebench.errors import LakeError
from lakehouse.tables.lake_lock import FolderLock, StoreLease, open_lock
from lakehouse.tables.storage import Storage

HOLD = """
import sys, time
from lakehouse.tables.lake_lock import open_lock
from lakehouse.tables.storage import Storage
lock = open_lock(Storage(sys.argv[1]))
print(lock.try_acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def store(bucket, tmp_path):
    return Storage(f"s3://lakes/{tmp_path.name}", bucket)


def test_one_of_two_writers_of_a_folder_holds_its_lock(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    first = open_lock(Storage(tmp_path / "lake"))
    second = open_lock(Storage(tmp_path / "link"))
    other = open_lock(Storage(tmp_path / "other"))
    assert first.try_acquire()
    assert not second.try_acquire()
    assert f"process {os.getpid()} on" in second.holder()
    assert other.try_acquire()
    first.release()
    assert second.try_acquire()


def test_the_lock_of_a_killed_process_in_another_folder_is_free_at_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lake")]
    where = tmp_path / "elsewhere"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=where) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        lock = FolderLock(tmp_path / "lake")
        assert not lock.try_acquire()
        assert f"process {holder.pid} on" in lock.holder()
        holder.send_signal(signal.SIGKILL)
    assert lock.try_acquire()


def test_a_lake_that_cannot_be_written_to_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=r"cannot write to .*\.writer_lock"):
        FolderLock(tmp_path / "file" / "lake").try_acquire()


def test_one_of_two_writers_of_an_object_store_holds_its_lease(store):
    first, second = StoreLease(store), StoreLease(store)
    assert first.try_acquire()
    assert not second.try_acquire()
    assert second.holder().startswith("process ")
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_lease_is_seen_to_be_renewed_or_not_without_acquiring_it(store):
    holder, other = StoreLease(store, renew_seconds=0.2), StoreLease(store, renew_seconds=0.2)
    # It waits for the next renewal, which may be late where other processes are busy.
    patient = StoreLease(store, renew_seconds=30.0)
    assert other.inspect() is None
    assert holder.try_acquire()
    state = patient.inspect()
    assert state is not None
    assert state.is_alive
    assert state.holder.startswith("process ")
    holder._ended.set()
    holder._renewing.join()
    state = other.inspect()
    assert state is not None
    assert not state.is_alive
    holder.release()
    assert other.inspect() is None


def test_a_lease_is_kept_while_it_is_renewed_and_taken_over_when_it_is_not(store):
    first = StoreLease(store, lease_seconds=1.0, renew_seconds=0.1)
    second = StoreLease(store, lease_seconds=1.0, renew_seconds=0.1)
    assert first.try_acquire()
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        assert not second.try_acquire()
        time.sleep(0.2)
    # The holder is gone: nothing renews its lease.
    first._ended.set()
    assert not second.try_acquire()
    deadline = time.monotonic() + 10.0
    while not second.try_acquire():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # A holder that comes back has lost the lease, and does not release that of the other.
    first.release()
    assert not StoreLease(store).try_acquire()
    second.release()

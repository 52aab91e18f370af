"""The lock of a lake: one writer at a time, whichever folder, process or machine it starts from.

In a folder it is a lock of the operating system on the file `.writer_lock` of the lake, which the
system releases when the process ends, also if it is killed. In an object store it is a lease: its
holder renews it by commits to a Delta log, each a conditional write of the store; other processes
take it over if it was not renewed for `LEASE_SECONDS`.

The lock saves double work. The tables are correct without it: see `lakehouse.score.evidence`.
"""

import fcntl
import os
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.schema import PrimitiveType

from genebench.errors import LakeError
from lakehouse.tables.conditional_writes import require_conditional_writes
from lakehouse.tables.storage import Storage

LOCK_FILE = ".writer_lock"
LEASE_TABLE = "_writer_lease"
# A lease is taken over if its log has not changed for this time by the clock of the process that
# waits, so the clocks of the machines need not agree.
LEASE_SECONDS = 20.0
RENEW_SECONDS = 5.0
POLL_SECONDS = 0.5

_HOLDER = "genebench.holder"
_PROPERTIES = {
    "delta.logRetentionDuration": "interval 1 days",
    "delta.enableExpiredLogCleanup": "true",
}


@dataclass(frozen=True)
class LockState:
    """The state of a lock that is held.

    Attributes:
        holder: The process that acquired it: its id and host.
        is_alive: Whether that process is known to be at work. A lock file whose process has ended
            is held by a child process; a lease that is not renewed can be taken over.
    """

    holder: str
    is_alive: bool


class LakeLock(Protocol):
    """The lock of one lake, for one writer."""

    def try_acquire(self) -> bool:
        """Acquire the lock if no other writer holds it; whether it is held now.

        Raises:
            LakeError: The lake cannot be written to.
        """

    def release(self) -> None:
        """Release the lock."""

    def holder(self) -> str:
        """Describe the process that holds the lock: its host and process id."""

    def inspect(self) -> "LockState | None":
        """Find who holds the lock, without acquiring it; None if nobody does."""


def open_lock(storage: Storage) -> LakeLock:
    """Return the lock of the lake at a location; nothing is acquired yet."""
    return FolderLock(Path(storage.root)) if storage.is_local else StoreLease(storage)


class FolderLock:
    """The lock of a lake in a folder.

    Args:
        root: The folder of the lake. It is created when the lock is acquired.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / LOCK_FILE
        self._file: int | None = None

    def try_acquire(self) -> bool:
        """See `LakeLock.try_acquire`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise LakeError(
                f"cannot write to {self.path}: {error}; check that the lake's folder is writable "
                "and its disk is not full, or set GENEBENCH_LAKE to another folder"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.write(file, _describe_process().encode())
        self._file = file
        return True

    def release(self) -> None:
        """See `LakeLock.release`."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def holder(self) -> str:
        """See `LakeLock.holder`."""
        return self.path.read_text(encoding="utf-8") or "another process"

    def inspect(self) -> LockState | None:
        """See `LakeLock.inspect`."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.holder()
            return LockState(holder, is_alive=not _has_ended(holder))
        finally:
            os.close(file)
        return None


class StoreLease:
    """The lock of a lake in an object store.

    Args:
        storage: The location of the lake.
        lease_seconds: The time after which a lease that is not renewed is taken over.
        renew_seconds: The time between two renewals.
    """

    def __init__(
        self,
        storage: Storage,
        lease_seconds: float = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self.storage = storage
        self.lease_seconds = lease_seconds
        self.renew_seconds = renew_seconds
        self._name = f"{_describe_process()} {uuid.uuid4().hex[:8]}"
        self._seen = (-1, 0.0)
        self._version: int | None = None
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def try_acquire(self) -> bool:
        """See `LakeLock.try_acquire`."""
        found = self._open()
        version = found.version()
        if _read_holder(found):
            if version != self._seen[0]:
                self._seen = (version, time.monotonic())
            if time.monotonic() - self._seen[1] < self.lease_seconds:
                return False
        self._version = self._commit(found, self._name)
        if self._version is None:
            return False
        self._ended.clear()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()
        return True

    def release(self) -> None:
        """See `LakeLock.release`."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
        if self._version is not None:
            self._commit(self._open(self._version), "")
            self._version = None

    def holder(self) -> str:
        """See `LakeLock.holder`."""
        return _read_holder(self._open()).rpartition(" ")[0] or "another process"

    def inspect(self) -> LockState | None:
        """See `LakeLock.inspect`. Waits for the next renewal of a lease that is held."""
        uri, options = self.storage.uri(LEASE_TABLE), self.storage.options or None
        try:
            found = DeltaTable(uri, storage_options=options)
        except TableNotFoundError:
            return None
        holder = _read_holder(found).rpartition(" ")[0]
        if not holder:
            return None
        deadline = time.monotonic() + 2 * self.renew_seconds
        version = found.version()
        while found.version() == version and time.monotonic() < deadline:
            time.sleep(min(POLL_SECONDS, self.renew_seconds))
            found.update_incremental()
        return LockState(holder, is_alive=found.version() != version)

    def _renew(self) -> None:
        """Renew the lease until it is released, or until another process has taken it over."""
        while self._version is not None and not self._ended.wait(self.renew_seconds):
            try:
                self._version = self._commit(self._open(self._version), self._name)
            except LakeError:
                # The store did not answer; the next renewal may come in time.
                continue

    def _open(self, version: int | None = None) -> DeltaTable:
        uri, options = self.storage.uri(LEASE_TABLE), self.storage.options or None
        try:
            return DeltaTable(uri, version=version, storage_options=options)
        except TableNotFoundError:
            pass
        except Exception as error:
            raise LakeError(f"cannot write to {uri}: {error}") from error
        # This is the first write to the lake.
        require_conditional_writes(self.storage)
        try:
            return DeltaTable.create(
                uri,
                Schema([Field("unused", PrimitiveType("string"))]),
                mode="ignore",
                configuration=_PROPERTIES,
                storage_options=options,
            )
        # deltalake raises plain Exception too.
        except Exception as error:
            raise LakeError(f"cannot write to {uri}: {error}") from error

    def _commit(self, found: DeltaTable, holder: str) -> int | None:
        """Write the holder as the next version of the log; None if another process was first."""
        try:
            found.alter.set_table_properties(
                {_HOLDER: holder},
                raise_if_not_exists=False,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except CommitFailedError:
            return None
        except Exception as error:
            raise LakeError(f"cannot write to {self.storage.uri(LEASE_TABLE)}: {error}") from error
        return found.version()


def _read_holder(found: DeltaTable) -> str:
    return found.metadata().configuration.get(_HOLDER, "")


def _has_ended(holder: str) -> bool:
    """Whether a process of this host, as `_describe_process` describes it, does not exist."""
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    return bool(found and found[2] == socket.gethostname() and not psutil.pid_exists(int(found[1])))


def _describe_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"

"""Opens a Delta table, describes its commits and retries those that conflict."""

import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from genebench.errors import LakeError
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta_schema import check_schema
from lakehouse.tables.schema import Table
from lakehouse.tables.storage import Storage

N_TRIES = 7
FIRST_PAUSE_SECONDS = 0.05

# How many tables and versions `open_to_read` keeps; a lake has about sixty tables.
N_KEPT = 256

_Result = TypeVar("_Result")
# Name, inode, time of change in ns, and size in bytes.
_LogFile = tuple[str, int, int, int]
# By address and version: the newest file of the log, the declaration, and the table then.
_KEPT: dict[tuple[str, int | None], tuple[_LogFile, Table, DeltaTable]] = {}


class _Table(DeltaTable):
    """A Delta table whose local file paths are not percent-encoded.

    delta-rs (1.6.6) percent-encodes the folder in `file_uris`, and polars (2.1) opens these paths
    as they are, so it would find no file below a folder with a blank or an accent.
    """

    def file_uris(self, *args: Any, **rest: Any) -> list[str]:
        """The addresses of the table's files; local ones as paths."""
        root = self.table_uri.removeprefix("file://")
        named = super().file_uris(*args, **rest)
        if root == self.table_uri:
            return named
        return [unquote(root) + name.removeprefix(root) for name in named]


def open_table(storage: Storage, declared: Table, version: int | None = None) -> DeltaTable | None:
    """Open a table, the newest version by default; None where it does not exist.

    Raises:
        LakeError: The version does not exist, the table is damaged, or its schema differs from
            the declaration.
    """
    # DeltaTable.is_deltatable would hold the GIL while it waits for an object store
    # (deltalake 1.6.6).
    uri = storage.uri(declared.path)
    try:
        found = _Table(uri, version=version, storage_options=storage.options or None)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        what = "" if version is None else f" version {version}"
        raise LakeError(f"{declared.name}: cannot open{what} at {uri}: {error}") from error
    check_schema(declared, found, uri)
    return found


def open_to_read(
    storage: Storage, declared: Table, version: int | None = None
) -> DeltaTable | None:
    """Open a table that is not written through: as `open_table`, but quicker the second time.

    The log of a local table is read again only after a commit, and not after one by `Delta.append`
    or `Delta.replace` in this process (`keep_written`). In an object store it is read each time.

    Raises:
        LakeError: As `open_table`.
    """
    key = (storage.uri(declared.path), version)
    newest = _newest_log_file(key[0]) if storage.is_local else None
    known = _KEPT.get(key)
    if newest is not None and known is not None and known[:2] == (newest, declared):
        return known[2]
    found = open_table(storage, declared, version)
    if newest is not None and found is not None:
        _keep(key, newest, declared, found)
    return found


def keep_written(storage: Storage, declared: Table, written: DeltaTable) -> None:
    """Let `open_to_read` return a table that was just written through, unless it is outdated.

    Nothing may be written through it afterwards: a lazy frame that reads it would change.
    """
    uri = storage.uri(declared.path)
    newest = _newest_log_file(uri) if storage.is_local else None
    if newest is not None and newest[0] == f"{written.version():020}.json":
        _keep((uri, None), newest, declared, written)


def _keep(
    key: tuple[str, int | None], newest: _LogFile, declared: Table, found: DeltaTable
) -> None:
    if len(_KEPT) >= N_KEPT:
        _KEPT.clear()
    _KEPT[key] = (newest, declared, found)


def _newest_log_file(uri: str) -> _LogFile | None:
    """The newest commit or checkpoint of a local table; None where it has none."""
    try:
        with os.scandir(f"{uri}/_delta_log") as log:
            numbered = [entry for entry in log if entry.name[:20].isdigit()]
        newest = max(numbered, key=lambda entry: entry.name)
        status = newest.stat()
    except (OSError, ValueError):
        return None
    return newest.name, status.st_ino, status.st_mtime_ns, status.st_size


def commit_properties(commit: Commit) -> CommitProperties:
    """The commit's metadata, in deltalake's form."""
    return CommitProperties(custom_metadata=dict(commit.to_metadata()), max_commit_retries=15)


def retry_conflicts(action: Callable[[], _Result], declared: Table, storage: Storage) -> _Result:
    """Run an action that commits to a table; after a conflict run it again, with growing pauses.

    Raises:
        LakeError: Every attempt conflicted, or the table cannot be written.
    """
    for attempt in range(N_TRIES):
        try:
            return action()
        except LakeError:
            raise
        except CommitFailedError as error:
            if attempt == N_TRIES - 1:
                raise LakeError(
                    f"{declared.name}: commit conflict in each of {N_TRIES} attempts: another "
                    f"process is writing this partition; run again when it has ended ({error})"
                ) from error
            pause = FIRST_PAUSE_SECONDS * 2**attempt
            time.sleep(pause * random.uniform(0.5, 1.5))
        # deltalake raises plain Exception too.
        except Exception as error:
            raise LakeError(
                f"{declared.name}: cannot write to {storage.uri(declared.path)}: {error}; "
                "check that the lake's folder is writable and its disk is not full, or set "
                "GENEBENCH_LAKE to another folder"
            ) from error
    raise AssertionError("unreachable")

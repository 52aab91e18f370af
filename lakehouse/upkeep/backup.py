"""Backs up a lake into a folder or object store, and restores it from there.

A backup is a copy of all files of a lake, made while the writer lock is held, with the list of the
files and their SHA-256 in `backup.json`. The list is written last, so a folder without it is no
backup. Interrupted backups and restores go on where they stopped. A backup can be opened like a
lake.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from genebench.errors import LakeError
from lakehouse.refresh.blobs import FOLDER
from lakehouse.tables.lake_lock import LEASE_TABLE, LOCK_FILE, open_lock
from lakehouse.tables.manifest import RUNS, finished_runs
from lakehouse.tables.storage import Storage
from lakehouse.tables.table_files import LOG_FOLDER, list_files
from lakehouse.tables.time_travel import Tables
from lakehouse.upkeep.findings import Finding
from lakehouse.upkeep.table_checks import check_declarations, check_files, check_manifest

LIST = "backup.json"
UNFINISHED_BACKUP = "backup_unfinished.json"
UNFINISHED_RESTORE = "restore_unfinished.json"
_CHUNK = 1 << 20
_OWN = (LIST, UNFINISHED_BACKUP, UNFINISHED_RESTORE, LOCK_FILE)


@dataclass(frozen=True)
class Copied:
    """What was copied: the number of files, and their size in bytes."""

    n_files: int
    n_bytes: int


def back_up(tables: Tables, target: Storage, code: str) -> Copied:
    """Copy a lake into an empty folder, as of its newest finished run, and verify the copy.

    Args:
        tables: The tables of the lake.
        target: The folder or address of the backup.
        code: The version of the code, for the list of files.

    Raises:
        LakeError: The lake is empty, has damaged tables or is being written to; the folder is not
            empty, holds another backup, or is in the lake; a copy differs from its original.
    """
    source = tables.delta.storage
    if target.root == source.root or target.root.startswith(f"{source.root}/"):
        raise LakeError(f"the backup cannot be in the lake: {target.root}; name another folder")
    if not tables.delta.list_tables():
        raise LakeError(f"the lake {source.root} is empty: there is nothing to back up")
    origin = {"lake": source.root}
    _require_free(target, UNFINISHED_BACKUP, origin, "back up into", LIST)
    with _locked(source):
        faults = find_table_faults(tables)
        if faults:
            raise LakeError(
                f"the lake {source.root} has damaged tables ({faults[0].where}: {faults[0].what}), "
                "which a backup would keep; `genebench doctor` names what mends them"
            )
        runs = finished_runs(tables.delta.scan(RUNS).collect())
        files = {path: size for path, size in list_files(source).items() if not _is_left_out(path)}
        _write_json(target, UNFINISHED_BACKUP, origin)
        digests = _copy_files(source, target, files)
    listed = {path: [size, digests[path]] for path, size in files.items()}
    entries = {
        **origin,
        "created_at": dt.datetime.now(dt.UTC).isoformat(),
        "code": code,
        "last_run": [runs[-1].run_id, runs[-1].finished_at.isoformat()] if runs else None,
        "files": listed,
    }
    _write_json(target, LIST, entries)
    _delete(target, UNFINISHED_BACKUP)
    return Copied(len(files), sum(files.values()))


def restore_lake(backup: Storage, target: Storage) -> Copied:
    """Copy a backup into an empty or missing lake, and verify every file.

    Raises:
        LakeError: The folder is no finished backup, or has lost or changed a file; the lake is not
            empty.
    """
    entries = read_backup(backup)
    wanted = {path: size for path, (size, _) in entries["files"].items()}
    present = list_files(backup)
    damaged = [path for path, size in wanted.items() if present.get(path) != size]
    if damaged:
        raise LakeError(
            f"the backup {backup.root} has {len(damaged):,} missing or truncated files, such as "
            f"{damaged[0]}; nothing was restored; use another backup"
        )
    origin = {"backup": backup.root, "created_at": entries["created_at"]}
    _require_free(target, UNFINISHED_RESTORE, origin, "restore into", None)
    digests = {path: digest for path, (_, digest) in entries["files"].items()}
    with _locked(target):
        _write_json(target, UNFINISHED_RESTORE, origin)
        _copy_files(backup, target, wanted, digests)
        _delete(target, UNFINISHED_RESTORE)
    return Copied(len(wanted), sum(wanted.values()))


def read_backup(backup: Storage) -> dict[str, Any]:
    """Read the list of a backup.

    Raises:
        LakeError: The folder is no backup, or one that was interrupted.
    """
    entries = _read_json(backup, LIST)
    if entries is not None:
        return entries
    if _read_json(backup, UNFINISHED_BACKUP) is not None:
        raise LakeError(
            f"the backup in {backup.root} was interrupted; `genebench backup {backup.root}` "
            "completes it"
        )
    raise LakeError(f"{backup.root} holds no backup: it has no {LIST}")


def refuse_unfinished_restore(storage: Storage) -> None:
    """Refuse to write to a lake that is restored in part.

    Raises:
        LakeError: A restore of the lake was interrupted.
    """
    entries = _read_json(storage, UNFINISHED_RESTORE)
    if entries is not None:
        raise LakeError(
            f"the lake {storage.root} is restored in part; `genebench restore "
            f"{entries.get('backup', 'FOLDER')}` completes it"
        )


def find_table_faults(tables: Tables) -> list[Finding]:
    """Find tables that cannot be opened, lack data files, or are gone from a curation."""
    checks = (check_declarations, check_files, check_manifest)
    return [one for check in checks for one in check(tables) if one.is_fault]


@contextmanager
def _locked(storage: Storage) -> Iterator[None]:
    lock = open_lock(storage)
    if not lock.try_acquire():
        raise LakeError(
            f"{lock.holder()} is writing to the lake {storage.root}; try again when it has ended"
        )
    try:
        yield
    finally:
        lock.release()


def _require_free(
    target: Storage, marker: str, origin: dict[str, str], what: str, finished: str | None
) -> None:
    """Refuse a target that has files, other than those of the same interrupted copy."""
    names = [path for path in list_files(target) if not _is_left_out(path) or path in _OWN]
    if finished in names:
        raise LakeError(f"cannot {what} {target.root}: it holds a finished backup; name another")
    begun = _read_json(target, marker)
    if begun is not None and begun == origin:
        return
    if begun is not None:
        raise LakeError(
            f"cannot {what} {target.root}: it holds an interrupted copy of "
            f"{begun.get('lake') or begun.get('backup')}; empty it, or name another"
        )
    if [path for path in names if path != LOCK_FILE]:
        raise LakeError(f"cannot {what} {target.root}: it is not empty; name an empty folder")


def _is_left_out(path: str) -> bool:
    """Whether a file is no part of a lake's content: locks, and temporary files of writers."""
    name = path.rpartition("/")[2]
    is_log = path.rpartition("/")[0].endswith(LOG_FOLDER)
    return (
        path in _OWN
        or path.startswith((f"{LEASE_TABLE}/", f"{FOLDER}/.parts/"))
        or name.endswith(".part")
        or (is_log and name.endswith(".tmp"))
    )


def _copy_files(
    source: Storage,
    target: Storage,
    files: dict[str, int],
    digests: dict[str, str] | None = None,
) -> dict[str, str]:
    """Copy files, each verified by reading the copy, and delete other files of the target.

    Args:
        source: Where the files are.
        target: Where they are copied to.
        files: Path to size in bytes.
        digests: Path to the SHA-256 that the files must have.

    Returns:
        Path to SHA-256.

    Raises:
        LakeError: A file has not its SHA-256, or its copy differs.
    """
    present = list_files(target)
    for path in present.keys() - files.keys():
        if not _is_left_out(path):
            _delete(target, path)
    found = {}
    # Logs last, those of the manifest at the very end: a table exists when its files do.
    for path in sorted(
        files, key=lambda one: (LOG_FOLDER in one, RUNS.replace(".", "/") in one, one)
    ):
        # Delta replaces this file; no other changes after it was written.
        is_there = present.get(path) == files[path] and not path.endswith("_last_checkpoint")
        digest = _hash(source, path)
        if digests is not None and digests[path] != digest:
            raise LakeError(
                f"{source.uri(path)} has changed since it was backed up; use another backup"
            )
        if not is_there or _hash(target, path) != digest:
            _copy(source, target, path)
            if _hash(target, path) != digest:
                raise LakeError(f"the copy {target.uri(path)} differs from {source.uri(path)}")
        found[path] = digest
    return found


def _copy(source: Storage, target: Storage, path: str) -> None:
    """Copy a file; the copy is whole or absent."""
    files, root = source.open_filesystem()
    with files.open_input_stream(f"{root}/{path}") as stream, _open_new(target, path) as out:
        while chunk := stream.read(_CHUNK):
            out.write(chunk)


@contextmanager
def _open_new(target: Storage, path: str) -> Iterator[pa.NativeFile]:
    files, root = target.open_filesystem()
    place = f"{root}/{path}"
    if not target.is_local:
        with files.open_output_stream(place) as out:
            yield out
        return
    files.create_dir(place.rpartition("/")[0], recursive=True)
    with files.open_output_stream(f"{place}.part") as out:
        yield out
    files.move(f"{place}.part", place)


def _hash(storage: Storage, path: str) -> str:
    digest = hashlib.sha256()
    files, root = storage.open_filesystem()
    with files.open_input_stream(f"{root}/{path}") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_json(storage: Storage, name: str, entries: dict[str, Any]) -> None:
    with _open_new(storage, name) as out:
        out.write(json.dumps(entries, indent=1).encode())


def _read_json(storage: Storage, name: str) -> dict[str, Any] | None:
    files, root = storage.open_filesystem()
    if files.get_file_info(f"{root}/{name}").type != pafs.FileType.File:
        return None
    with files.open_input_stream(f"{root}/{name}") as stream:
        found = json.loads(stream.read())
    return found if isinstance(found, dict) else None


def _delete(storage: Storage, path: str) -> None:
    files, root = storage.open_filesystem()
    files.delete_file(f"{root}/{path}")

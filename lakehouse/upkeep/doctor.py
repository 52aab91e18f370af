"""Examines a lake: what is wrong, what can be tidied, and which command mends it.

Nothing is written. Works on folders and object stores, without a Prefect server.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import polars as pl

from genebench.errors import LakeError
from lakehouse.refresh.blobs import FOLDER
from lakehouse.score.tidy import tidy_lake
from lakehouse.tables.commits import Commit
from lakehouse.tables.lake_lock import LEASE_SECONDS, LOCK_FILE, open_lock
from lakehouse.tables.table_files import LOG_FOLDER, list_files
from lakehouse.tables.time_travel import Tables
from lakehouse.upkeep.backup import refuse_unfinished_restore
from lakehouse.upkeep.findings import TIDY, Finding
from lakehouse.upkeep.row_checks import (
    check_evidence,
    check_releases,
    check_source_files,
    check_vectors,
)
from lakehouse.upkeep.table_checks import (
    check_declarations,
    check_double_rows,
    check_files,
    check_manifest,
)

# A file that is being written is younger.
LEFTOVER_AFTER = dt.timedelta(hours=1)


def examine_lake(tables: Tables, *, has_digests: bool = False) -> list[Finding]:
    """Run all checks of a lake.

    Args:
        tables: The tables of the lake.
        has_digests: Also read every source file and compare its SHA-256.

    Returns:
        The findings, faults first.
    """
    found = _run_checks(
        {
            "restore": lambda: _check_restore(tables),
            "tables": lambda: check_declarations(tables),
            "data files": lambda: check_files(tables),
            "manifest": lambda: check_manifest(tables),
            "leftover files": lambda: _check_leftovers(tables),
            "writer lock": lambda: _check_lock(tables),
        }
    )
    if any(one.is_fault for one in found):
        # Reading a truncated data file makes polars 2.1 panic.
        what = "they are checked when the faults of tables are mended"
        found.append(Finding("rows", what, "`genebench doctor`", is_fault=False))
    else:
        found += _run_checks(
            {
                "record tables": lambda: check_double_rows(tables),
                "evidence": lambda: check_evidence(tables),
                "vectors": lambda: check_vectors(tables),
                "releases": lambda: check_releases(tables),
                "source files": lambda: check_source_files(tables, has_digests=has_digests),
                "tidying": lambda: _check_tidiness(tables),
            }
        )
    # A fault of a table makes several checks fail; each is named once.
    return sorted(dict.fromkeys(found), key=lambda one: not one.is_fault)


def _run_checks(checks: Mapping[str, Callable[[], Iterable[Finding]]]) -> list[Finding]:
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except (LakeError, OSError, pl.exceptions.PolarsError) as error:
            line = str(error).splitlines()[0]
            found.append(Finding(name, f"cannot be checked: {line}", "see the message"))
    return found


def _check_tidiness(tables: Tables) -> Iterator[Finding]:
    for name, text in tidy_lake(tables, Commit("doctor", ""), is_dry=True).items():
        yield Finding(name, text, TIDY, is_fault=False)


def _check_leftovers(tables: Tables) -> Iterator[Finding]:
    """Find temporary files of interrupted writers: in the logs, and of downloads."""
    storage = tables.delta.storage
    files, root = storage.open_filesystem()
    left = [
        path
        for path in list_files(storage)
        if path.startswith(f"{FOLDER}/.parts/")
        or (f"/{LOG_FOLDER}/" in path and path.rpartition("/")[2].endswith(".tmp"))
    ]
    old = [
        info.path
        for info in files.get_file_info([f"{root}/{path}" for path in left])
        if info.mtime_ns is not None
        and time.time() - info.mtime_ns / 1e9 > LEFTOVER_AFTER.total_seconds()
    ]
    if old:
        what = f"{len(old):,} temporary files of interrupted writers, such as {old[0]}"
        mend = "`genebench refresh` deletes those of downloads after a week; delete the others"
        yield Finding("temporary files", what, mend, is_fault=False)


def _check_restore(tables: Tables) -> Iterator[Finding]:
    try:
        refuse_unfinished_restore(tables.delta.storage)
    except LakeError as error:
        yield Finding("restore", str(error), "the command that is named")


def _check_lock(tables: Tables) -> Iterator[Finding]:
    storage = tables.delta.storage
    state = open_lock(storage).inspect()
    if state is None:
        return
    if state.is_alive:
        what = f"{state.holder} is writing to the lake"
        yield Finding("writer lock", what, "wait until it has ended", is_fault=False)
    elif storage.is_local:
        path = storage.uri(LOCK_FILE)
        what = f"{state.holder} has ended, and a process that it started holds {path}"
        yield Finding("writer lock", what, f"end the process that `fuser {path}` prints")
    else:
        what = f"{state.holder} does not renew its lease"
        mend = f"the next command takes it over after {LEASE_SECONDS:.0f} s"
        yield Finding("writer lock", what, mend, is_fault=False)

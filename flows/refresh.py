"""Sources into snapshots and raw tables."""

import dataclasses
import time
import warnings

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import deployment

from flows.run.context import Context, open_context
from flows.run.gate import append, close, replace
from flows.run.parameters import UNCHOSEN, ProfileId, SourceId, Unset
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from genebench.cancellation import raise_if_cancelled
from genebench.errors import GenebenchError, SnapshotDrift, SourceError
from genebench.sources.readers.dispatch import read_source_file
from lakehouse.curate.state import reader_digest
from lakehouse.refresh.http import Unreachable
from lakehouse.refresh.snapshots import Snapshot, Snapshots, lock_snapshots, to_frame, to_rows

# Pauses before a scheduled run asks an unreachable server again; a person asks again himself.
RETRY_PAUSES_SECONDS = [60.0, 600.0, 3600.0]


@flow(name="refresh", flow_run_name=run_name, **HOOKS)
@one_writer
def refresh(
    sources: list[SourceId] | Unset = UNCHOSEN,
    profile: ProfileId | None = None,
    pinned: bool = False,
    lock: bool = False,
    version: str | None = None,
) -> RunSummary:
    """Fetch source files, keep their bytes, and write what is new as raw tables.

    Args:
        sources: Sources (hpa) or files (hpa.proteinatlas); all of the profile by default.
        profile: embedded or paper; the setting by default.
        pinned: Take exactly the versions and bytes of the lock.
        lock: Write what was found into the lock; for a person to do, never for a schedule.
        version: The version of the named sources, instead of the newest; curate takes the version
            that was fetched last, or the one that the setting GENEBENCH_VERSIONS names.
    """
    if version and not sources:
        raise GenebenchError("name the source that the version is of: refresh hpa --version 23.0")
    context = open_context(profile)
    outcome = RunSummary("refresh")
    failures: dict[str, str] = {}
    snapshots: list[Snapshot] = []
    for file_id, found in refresh_files(context, sources or [], pinned, version).items():
        if isinstance(found, BaseException):
            is_optional = file_id in context.registry.profile.optional and not sources
            (outcome.refused if is_optional else failures)[file_id] = str(found)
            continue
        snapshots.append(found)
        place = outcome.done if found.is_new else outcome.skipped
        place[file_id] = f"{found.snapshot_id} ({found.size_bytes:,} bytes)"
    if lock and not failures:
        lock_snapshots(snapshots)
    return close(outcome, failures)


def refresh_files(
    context: Context, sources: list[str], pinned: bool, version: str | None
) -> dict[str, Snapshot | BaseException]:
    """Fetch each file, then those again whose servers did not answer, after a pause for all.

    A scheduled run pauses a few times; were it to pause for every file by itself, a morning without
    a network would keep the lake from all other runs for a day.

    Returns:
        Each file's snapshot, or why there is none.
    """
    pauses = RETRY_PAUSES_SECONDS if deployment.id else []
    files = context.registry.select_files(sources)
    found: dict[str, Snapshot | BaseException] = {}
    for pause in [*pauses, None]:
        for file_id in files:
            raise_if_cancelled()
            run = refresh_file.with_options(task_run_name=f"refresh {file_id}")
            state = run(file_id, context.registry.profile.id, pinned, version, return_state=True)
            found[file_id] = state.result(raise_on_failure=False)
        files = [file_id for file_id in files if is_unreachable(found[file_id])]
        if not files or pause is None:
            break
        get_run_logger().warning("%s: no answer; asked again in %s s", ", ".join(files), pause)
        time.sleep(pause)
    return found


def is_unreachable(found: Snapshot | BaseException) -> bool:
    """Whether a file failed for a reason that may pass by itself."""
    return isinstance(found, SourceError) and isinstance(found.__cause__, Unreachable)


@task(name="refresh file", cache_policy=NO_CACHE)
def refresh_file(file_id: str, profile: str, pinned: bool, version: str | None = None) -> Snapshot:
    """Fetch one file; parse, check and commit it where its bytes are new."""
    context = open_context(profile)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SnapshotDrift)
        found = fetch_and_commit(context, file_id, pinned, version)
    for warning in caught:
        get_run_logger().warning(str(warning.message))
    return found


def fetch_and_commit(
    context: Context, file_id: str, pinned: bool = False, version: str | None = None
) -> Snapshot:
    """Fetch one file; where its bytes are new, parse, check and commit it.

    Bytes that the lake has are read again where they would give other rows than they did.

    Args:
        context: The run.
        file_id: The file, such as `hpa.proteinatlas`.
        pinned: Take exactly the version and bytes of the lock.
        version: A version; what the settings or the profile name, or the newest, by default.

    Raises:
        SourceError: It cannot be had or read; every table is as it was.
        ExpectationFailed: A critical expectation is not met; every table is as it was.
    """
    source_id, _, name = file_id.partition(".")
    source = context.registry.sources[source_id]
    delta = context.lake.delta
    keeper = Snapshots(
        delta.storage,
        known=context.lake.table("bronze.snapshots").collect(),
        place=context.settings.sources,
    )
    version = version or context.registry.wanted_versions.get(file_id)
    found = keeper.fetch(source, name, version, is_pinned=pinned)
    table = f"bronze.{source.table_of(name)}"
    reading = source.files[name].reading()
    if not found.is_new and reader_digest(context.lake, context.registry, file_id) == reading:
        return found
    companions = {role: keeper.path(one) for role, one in found.companions.items()}
    rows = read_source_file(
        keeper.path(found), source.files[name], source, found.version, companions
    )
    commit = context.commit({file_id: found.snapshot_id}, reading=reading)
    last = context.lake.current_snapshots([file_id]).get(file_id)
    replace(
        context,
        table,
        to_rows(rows, found),
        commit,
        {"snapshot_id": found.snapshot_id},
        previous=context.lake.raw(file_id, last) if last else None,
    )
    if not found.is_new:
        return dataclasses.replace(found, is_new=True)
    append(context, "bronze.snapshots", to_frame([found], context.run_id), commit)
    return found

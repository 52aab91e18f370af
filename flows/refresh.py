"""The refresh flow: fetch source files, and write them as snapshots and bronze tables."""

import dataclasses
import threading
import warnings
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import deployment

from flows.run.context import Context, open_context
from flows.run.gate import append, finish_run, replace, save_artifact
from flows.run.parameters import (
    NO_SELECTION,
    SETTING,
    ProfileId,
    SourceId,
    Unset,
    Version,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.task_runners import THREADS, task_result
from flows.run.writer_lock import hold_writer_lock
from flows.server.hooks import HOOKS, emit_stale
from genebench.cancellation import raise_if_cancelled
from genebench.errors import GenebenchError, SnapshotDrift, SourceError
from genebench.sources.readers.dispatch import read_source_file
from lakehouse.curate.state import reader_digest
from lakehouse.refresh.freshness import STALE as STALE_STATE
from lakehouse.refresh.freshness import freshness_markdown, read_freshness
from lakehouse.refresh.http import Unreachable
from lakehouse.refresh.snapshot_rows import (
    Snapshot,
    to_bronze_rows,
    to_reading_row,
    to_snapshot_rows,
)
from lakehouse.refresh.snapshots import Snapshots

# Pauses before a run of a deployment retries unreachable servers. Commands do not retry.
RETRY_DELAYS_SECONDS = [60.0, 600.0, 3600.0]
# Files are fetched one at a time. Those whose servers did not answer wait for their retry together.
_one_at_a_time = threading.Lock()


@flow(name="refresh", flow_run_name=run_name, task_runner=THREADS, **HOOKS)
def refresh(
    sources: list[SourceId] | Unset = NO_SELECTION,
    profile: ProfileId | Unset = SETTING,
    pinned: bool = False,
    version: Version | Unset = "",
) -> RunSummary:
    """Fetch source files, store them as snapshots, and write new ones to the bronze tables.

    Args:
        sources: Sources (hpa) or single files (hpa.proteinatlas). Default: all of the profile.
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        pinned: Fetch exactly the versions and bytes that the lock file pins.
        version: The version of the named sources. Default: the newest. Later, curate uses the
            version that was fetched last, or the one that the setting GENEBENCH_VERSIONS names.
    """
    if version and not sources:
        raise GenebenchError(
            "no source for the version; name the source: `genebench refresh hpa --version 23.0`"
        )
    context = open_context(profile)
    summary = RunSummary("refresh")
    failures: dict[str, str] = {}
    for file_id, found in refresh_files(context, sources or [], pinned, version).items():
        if isinstance(found, BaseException):
            is_optional = file_id in context.registry.profile.optional and not sources
            (summary.refused if is_optional else failures)[file_id] = str(found)
            continue
        entries = summary.done if found.is_new else summary.skipped
        entries[file_id] = f"{found.snapshot_id} ({found.size_bytes:,} bytes)"
    report_freshness(context)
    return finish_run(context, summary, failures)


def report_freshness(context: Context) -> None:
    """Save the age of all sources as an artifact, and emit an event for each that is stale."""
    registry = context.registry
    rows = read_freshness(
        context.lake, registry.sources, registry.source_files, registry.wanted_versions
    )
    save_artifact("freshness", freshness_markdown(rows))
    for row in rows.iter_rows(named=True):
        if row["state"] == STALE_STATE:
            names = ("source", "version", "age_days", "fresh_within_days")
            emit_stale(*(row[name] for name in names))


def refresh_files(
    context: Context, sources: list[str], pinned: bool, version: str | None
) -> dict[str, Snapshot | BaseException]:
    """Fetch files; in a run of a deployment, retry those whose servers did not answer.

    Returns:
        File id to its snapshot, or to the exception that prevented it.
    """
    delays = RETRY_DELAYS_SECONDS if deployment.id else []
    runs: dict[str, PrefectFuture[Snapshot]] = {}
    for file_id in context.registry.select_files(sources):
        fetching = refresh_file.with_options(
            task_run_name=f"refresh {file_id}",
            retries=len(delays),
            retry_delay_seconds=delays,
            retry_condition_fn=is_unreachable,
        )
        runs[file_id] = fetching.submit(file_id, context.registry.profile.id, pinned, version)
    return {file_id: task_result(run) for file_id, run in runs.items()}


def is_unreachable(_task: "Task[..., Any]", _run: TaskRun, state: "State[Any]") -> bool:
    """Whether a task run failed because a server did not answer."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, SourceError) and isinstance(error.__cause__, Unreachable)


@task(name="refresh file", cache_policy=NO_CACHE)
def refresh_file(file_id: str, profile: str, pinned: bool, version: str | None = None) -> Snapshot:
    """Fetch one file; if its bytes are new, parse, check and commit it."""
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        raise_if_cancelled()
        warnings.simplefilter("always", SnapshotDrift)
        found = fetch_and_commit(open_context(profile), file_id, pinned, version)
    for warning in caught:
        get_run_logger().warning(str(warning.message))
    return found


def fetch_and_commit(
    context: Context, file_id: str, pinned: bool = False, version: str | None = None
) -> Snapshot:
    """Fetch one file; if its bytes are new, parse, check and commit it.

    A stored snapshot is parsed again if the declaration of its reader has changed. The writer lock
    is held while rows are written, not while a server is waited for.

    Args:
        context: The context of the flow run.
        file_id: The file, such as `hpa.proteinatlas`.
        pinned: Fetch exactly the version and bytes that the lock file pins.
        version: The version. Default: the one that the settings or the profile name, else the
            newest.

    Returns:
        The snapshot. Its `is_new` is true if rows were written.

    Raises:
        SourceError: The file cannot be fetched or parsed. All tables are unchanged.
        ExpectationFailed: A critical expectation is not met. All tables are unchanged.
    """
    source_id, _, name = file_id.partition(".")
    source = context.registry.sources[source_id]
    delta = context.lake.delta
    snapshots = Snapshots(
        delta.storage,
        known=context.lake.table("bronze.snapshots").collect(),
        mirror=context.settings.sources,
    )
    version = version or context.registry.wanted_versions.get(file_id)
    found = snapshots.fetch(source, name, version, is_pinned=pinned)
    table = f"bronze.{source.table_of(name)}"
    reading = source.files[name].parsing_digest()
    if not found.is_new and _is_read(context, file_id, found, reading):
        return found
    companions = {role: snapshots.path(one) for role, one in found.companions.items()}
    rows = read_source_file(
        snapshots.path(found), source.files[name], source, found.version, companions
    )
    commit = context.commit({file_id: found.snapshot_id})
    with hold_writer_lock():
        last = context.lake.current_snapshots([file_id]).get(file_id)
        if last == found.snapshot_id and _is_read(context, file_id, found, reading):
            # Another run has committed the same bytes since this one asked the server.
            return dataclasses.replace(found, is_new=False)
        has_previous = last and context.lake.has_raw(file_id, last)
        replace(
            context,
            table,
            to_bronze_rows(rows, found),
            commit,
            {"snapshot_id": found.snapshot_id},
            previous=context.lake.raw(file_id, last) if last and has_previous else None,
        )
        delta.append("bronze.readings", to_reading_row(found, reading, commit), commit)
        if found.is_new:
            append(context, "bronze.snapshots", to_snapshot_rows([found], context.run_id), commit)
    return dataclasses.replace(found, is_new=True)


def _is_read(context: Context, file_id: str, found: Snapshot, reading: str) -> bool:
    """Whether the rows of a snapshot are in their table, as the declared reader parses them."""
    last = reader_digest(context.lake, context.registry, file_id)
    return last == reading and context.lake.has_raw(file_id, found.snapshot_id)

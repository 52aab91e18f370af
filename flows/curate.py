"""The curate flow: build entities, inputs and tasks (silver) from the bronze tables."""

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.run.context import Context, open_context
from flows.run.gate import finish_run, replace_together, save_artifact, save_changes
from flows.run.parameters import (
    NO_SELECTION,
    SETTING,
    FilePath,
    ProfileId,
    Unset,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import with_writer_lock
from flows.server.hooks import HOOKS
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.curate.build import CuratedTables, curate_tables
from lakehouse.curate.changes import changed_samples, describe_changes
from lakehouse.curate.state import (
    Curation,
    choose_snapshots,
    curation_key,
    failed_tasks,
    is_curated,
    merge_user_task_paths,
    missing_files,
    record_curation,
    record_earlier_curation,
    user_task_paths,
)
from lakehouse.report.diff.lake_diff import diff_curations
from lakehouse.report.task_cards import curated_markdown

if TYPE_CHECKING:
    import polars as pl

UNITS = {
    "silver.entities": "entities",
    "silver.xrefs": "identifiers",
    "silver.inputs": "inputs",
    "silver.samples": "slots of samples",
    "silver.labels": "labels",
    "silver.tasks": "tasks and sub-tasks",
}


@flow(name="curate", flow_run_name=run_name, **HOOKS)
@with_writer_lock
def curate(
    profile: ProfileId | Unset = SETTING,
    force: bool = False,
    task_folders: list[FilePath] | Unset = NO_SELECTION,
    task_files: list[FilePath] | Unset = NO_SELECTION,
    forget_own_tasks: bool = False,
) -> RunSummary:
    """Build entities, inputs and tasks from the current snapshots.

    Nothing is written if the silver tables were built from the same snapshots and declarations.
    User tasks are given once; later runs build them again from the same folders and files.

    Args:
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        force: Build the tables even if nothing has changed.
        task_folders: Folders with your own tasks (entities.csv and outcomes.csv).
        task_files: YAML files with your own tasks.
        forget_own_tasks: Remove your own tasks that earlier runs were given.
    """
    lake = open_lake()
    before = user_task_paths(lake)
    given = [*(task_folders or ()), *(task_files or ())]
    kept = [] if forget_own_tasks else before
    user_tasks = tuple(merge_user_task_paths(kept, given, get_settings().own_tasks))
    context = open_context(profile, task_paths=user_tasks)
    summary = RunSummary("curate")
    snapshots = choose_snapshots(context.lake, context.registry)
    key = curation_key(context.lake, context.registry, snapshots)
    if not force and list(user_tasks) == before and is_curated(context.lake, key):
        record_earlier_curation(context.lake, snapshots, context.commit(dict(snapshots)))
        summary.skipped["silver"] = f"built from the same {len(snapshots)} snapshots"
        # Tasks that failed then are still missing, and would fail again.
        return finish_run(context, summary, failed_tasks(context.lake))
    done, left_out, failed = curate_silver(context.registry.profile.id, snapshots, key, user_tasks)
    summary.done |= done
    summary.refused |= left_out
    return finish_run(context, summary, failed)


@task(name="curate silver", cache_policy=NO_CACHE)
def curate_silver(
    profile: str, snapshots: dict[str, str], key: str, user_tasks: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Build, check and write all silver tables, `silver.tasks` last.

    Returns:
        What was written, what was left out for want of data, and what failed, each with a text.
    """
    started = dt.datetime.now(dt.UTC)
    context = open_context(profile, task_paths=user_tasks)
    curated = curate_tables(context.lake, context.registry, snapshots)
    # The key in the commits shows a first curation that was interrupted.
    commit = context.commit(dict(snapshots), curation_key=key)
    before = {name: _stored_rows(context, name) for name in curated.tables}
    versions = replace_together(context, curated.tables, commit, before)
    curation = Curation(key, user_tasks, curated.failed)
    record_curation(context.lake.delta, curation, snapshots, versions, commit)
    save_artifact("tasks", curated_markdown(context.lake, context.registry, curated.not_applicable))
    if earlier := context.lake.at(started).curation():
        then, tasks = context.lake.at(earlier.finished_at), context.registry.tasks.values()
        save_changes(lambda: diff_curations(then, context.lake, tasks))
    changes = describe_changes(
        changed_samples(before, curated.tables), context.lake.table("bronze.snapshots").collect()
    )
    done = {name: f"{frame.height:,} {UNITS[name]}" for name, frame in curated.tables.items()}
    for name, unresolved in curated.unresolved_inputs.items():
        done["silver.inputs"] += f"; {name}: {unresolved}"
    return done | changes, _left_out(context, snapshots, curated), curated.failed


def _left_out(
    context: Context, snapshots: Mapping[str, str], curated: CuratedTables
) -> dict[str, str]:
    files = {
        name: f"not in the lake; `genebench refresh {name}` fetches it"
        for name in missing_files(context.registry, snapshots)
    }
    inputs = {
        f"input {name}": f"the lake has no snapshot of {file_id}"
        for name, file_id in curated.missing_inputs.items()
    }
    return {**files, **inputs, **curated.not_applicable}


def _stored_rows(context: Context, table: str) -> "pl.DataFrame | None":
    """Return the rows of a table before this run, or None if the table does not exist."""
    return context.lake.table(table).collect() if context.lake.delta.exists(table) else None

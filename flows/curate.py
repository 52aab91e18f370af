"""Raw tables into entities, inputs and tasks."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.run.context import Context, open_context
from flows.run.gate import close, replace_together, tell
from flows.run.parameters import UNCHOSEN, FilePath, ProfileId, Unset
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.curate.build import Curated, curate_tables
from lakehouse.curate.changes import changed_samples, describe_changes
from lakehouse.curate.state import (
    add_own_tasks,
    choose_snapshots,
    curation_key,
    failed_tasks,
    is_curated,
    missing_files,
    own_task_paths,
)
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
@one_writer
def curate(
    profile: ProfileId | None = None,
    force: bool = False,
    task_folders: list[FilePath] | Unset = UNCHOSEN,
    task_files: list[FilePath] | Unset = UNCHOSEN,
    forget_own_tasks: bool = False,
) -> RunSummary:
    """Build entities, inputs and tasks from the current snapshots.

    Nothing is done where the silver tables were built from the same bytes and declarations. Tasks
    of your own are given once; later runs build them again from the same folders and files.

    Args:
        profile: embedded or paper; the setting by default.
        force: Build them all the same.
        task_folders: Folders with tasks of your own (entities.csv and outcomes.csv).
        task_files: YAML files with tasks of your own.
        forget_own_tasks: Leave out the tasks of your own that earlier runs were given.
    """
    lake = open_lake()
    before = own_task_paths(lake)
    given = [*(task_folders or ()), *(task_files or ())]
    kept = [] if forget_own_tasks else before
    own = tuple(add_own_tasks(kept, given, get_settings().own_tasks))
    context = open_context(profile, task_paths=own)
    outcome = RunSummary("curate")
    snapshots = choose_snapshots(context.lake, context.registry)
    key = curation_key(context.lake, context.registry, snapshots)
    if not force and list(own) == before and is_curated(context.lake, key):
        outcome.skipped["silver"] = f"curated from these {len(snapshots)} snapshots before"
        # As long as nothing changes they fail again, and are still not in the lake.
        return close(outcome, failed_tasks(context.lake))
    done, left_out, failed = curate_silver(context.registry.profile.id, snapshots, key, own)
    outcome.done |= done
    outcome.refused |= left_out
    return close(outcome, failed)


@task(name="curate silver", cache_policy=NO_CACHE)
def curate_silver(
    profile: str, snapshots: dict[str, str], key: str, own: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Build all silver tables, and write each, `silver.tasks` last.

    Returns:
        What was written, what the sources cannot give, and what failed, each with a word about it.
    """
    context = open_context(profile, task_paths=own)
    curated = curate_tables(context.lake, context.registry, snapshots)
    commit = context.commit(
        dict(snapshots),
        curation_key=key,
        own_tasks=json.dumps(own),
        failed_tasks=json.dumps(curated.failed),
    )
    before = {name: _before(context, name) for name in curated.tables}
    replace_together(context, curated.tables, commit, before)
    tell("tasks", curated_markdown(context.lake, context.registry, curated.not_applicable))
    changes = describe_changes(
        changed_samples(before, curated.tables), context.lake.table("bronze.snapshots").collect()
    )
    done = {name: f"{frame.height:,} {UNITS[name]}" for name, frame in curated.tables.items()}
    for name, lost in curated.lost_inputs.items():
        done["silver.inputs"] += f"; {name}: {lost}"
    return done | changes, _left_out(context, snapshots, curated), curated.failed


def _left_out(context: Context, snapshots: Mapping[str, str], curated: Curated) -> dict[str, str]:
    files = {
        name: f"not in the lake; `genebench refresh {name}` fetches it"
        for name in missing_files(context.registry, snapshots)
    }
    inputs = {
        f"input {name}": f"the lake has no snapshot of {file_id}"
        for name, file_id in curated.absent_inputs.items()
    }
    return {**files, **inputs, **curated.not_applicable}


def _before(context: Context, table: str) -> "pl.DataFrame | None":
    """A table as it is before this run; None where there is none."""
    return context.lake.table(table).collect() if context.lake.delta.exists(table) else None

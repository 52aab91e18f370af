"""Flows for releases: freeze a release of this lake, import published results as a release."""

from pathlib import Path

from prefect import flow

from flows.run.context import open_context
from flows.run.gate import finish_run, replace
from flows.run.parameters import (
    SETTING,
    FilePath,
    NewReleaseId,
    ProfileId,
    ReleaseId,
    Unset,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import with_writer_lock
from flows.server.hooks import HOOKS
from genebench.reference.published_scores import published_file
from lakehouse.report.imports import read_imported, require_free_name
from lakehouse.report.releases import freeze_release
from lakehouse.score.plan import current_release

PUBLISHED = "published"


@flow(name="release", flow_run_name=run_name, **HOOKS)
@with_writer_lock
def release(
    name: NewReleaseId,
    source: ReleaseId | Unset = "",
    allow_pending: bool = False,
    profile: ProfileId | Unset = SETTING,
) -> RunSummary:
    """Freeze a release: copy its rows under a new name that later runs never change.

    Args:
        name: The name of the new release, such as 2026.1.
        source: The release to freeze. Default: the one that score writes.
        allow_pending: Freeze even if evaluations are pending.
        profile: The profile; default is the setting GENEBENCH_PROFILE.
    """
    context = open_context(profile)
    source = source or current_release(context.settings.protocol)
    frozen = freeze_release(context.lake, name, source, allow_pending=allow_pending)
    read = ("gold.releases", "gold.scores", "gold.evaluations", "gold.intervals")
    commit = context.commit({table: context.lake.delta.version(table) for table in read})
    partition = {"release_id": name}
    summary = RunSummary("release")
    for table, rows in frozen.rows.items():
        replace(context, table, rows, commit, partition)
        summary.done[table] = f"{rows.height:,} rows of release {name}"
    if frozen.n_pending:
        summary.refused["pending"] = f"{frozen.n_pending:,} evaluations have no score"
    return finish_run(context, summary)


@flow(name="import", flow_run_name=run_name, **HOOKS)
@with_writer_lock
def import_results(
    file: FilePath,
    name: NewReleaseId,
    sizes: FilePath | Unset = None,
    profile: ProfileId | Unset = SETTING,
) -> RunSummary:
    """Import published results as a release; importing the same name again replaces it.

    Args:
        file: A CSV file: the report of the published package, its long form, a summary (task,
            model, metric, value), or the long form that report writes; `published` for the scores
            of the paper that ship with genebench.
        name: The name of the release.
        sizes: A CSV file with the columns task and n_evaluated. Default: evaluated_sizes.csv in
            the folder of the file.
        profile: embedded or paper: the profile whose tasks the names are matched with. Default:
            the setting GENEBENCH_PROFILE.
    """
    context = open_context(profile)
    require_free_name(context.lake, name)
    rows = read_imported(
        published_file() if file == PUBLISHED else Path(file),
        name,
        context.registry.tasks,
        context.run_id,
        Path(sizes) if sizes else None,
    )
    replace(context, "gold.foreign_scores", rows, context.commit(), {"release_id": name})
    summary = RunSummary("import")
    summary.done["gold.foreign_scores"] = f"{rows.height:,} rows of {file} as {name}"
    for task in sorted(set(rows["task_name"].filter(rows["task_id"].is_null()))):
        summary.skipped[task] = "imported without a task id: no declared task has this name"
    for encoder in sorted(set(rows["encoder_name"].filter(rows["encoder_id"].is_null()))):
        summary.skipped[encoder] = (
            "imported without an encoder id: no declared encoder has this name"
        )
    return finish_run(context, summary)

"""Releases: our own frozen for good, those of others imported under a name."""

from pathlib import Path

from prefect import flow

from flows.run.context import open_context
from flows.run.gate import close, replace
from flows.run.parameters import FilePath, ProfileId, ReleaseId, Unset
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from lakehouse.report.imports import read_imported, require_free_name
from lakehouse.report.releases import freeze_release
from lakehouse.score.plan import release_of


@flow(name="release", flow_run_name=run_name, **HOOKS)
@one_writer
def release(
    name: ReleaseId,
    source: ReleaseId | Unset = None,
    allow_pending: bool = False,
    profile: ProfileId | Unset = None,
) -> RunSummary:
    """Freeze a release: name its evaluations for good.

    Args:
        name: The new release, such as 2026.1.
        source: The release that is frozen; by default the one that score writes.
        allow_pending: Even where evaluations are pending.
        profile: embedded or paper; the setting by default.
    """
    context = open_context(profile)
    source = source or release_of(context.settings.protocol)
    frozen = freeze_release(context.lake, name, source, allow_pending=allow_pending)
    read = ("gold.releases", "gold.scores", "gold.evaluations", "gold.intervals")
    commit = context.commit({table: context.lake.delta.version(table) for table in read})
    partition = {"release_id": name}
    outcome = RunSummary("release")
    for table, rows in frozen.rows.items():
        replace(context, table, rows, commit, partition)
        outcome.done[table] = f"{rows.height:,} rows of release {name}"
    if frozen.n_pending:
        outcome.refused["pending"] = f"{frozen.n_pending:,} evaluations have no score"
    return close(outcome)


@flow(name="import", flow_run_name=run_name, **HOOKS)
@one_writer
def import_results(
    file: FilePath,
    name: ReleaseId,
    sizes: FilePath | Unset = None,
    profile: ProfileId | Unset = None,
) -> RunSummary:
    """Import published results as a release of others; importing again replaces it.

    Args:
        file: A CSV file: the published package's report, its long form, a summary (task, model,
            metric, value), or our own long form.
        name: What the release is to be called.
        sizes: A CSV file of task and n_evaluated; evaluated_sizes.csv beside the file by default.
        profile: embedded or paper, whose task names are known; the setting by default.
    """
    context = open_context(profile)
    require_free_name(context.lake, name)
    rows = read_imported(
        Path(file),
        name,
        context.registry.tasks,
        context.run_id,
        Path(sizes) if sizes else None,
    )
    replace(context, "gold.foreign_scores", rows, context.commit(), {"release_id": name})
    outcome = RunSummary("import")
    outcome.done["gold.foreign_scores"] = f"{rows.height:,} rows of {file} as {name}"
    for task in sorted(set(rows["task_name"].filter(rows["task_id"].is_null()))):
        outcome.skipped[task] = "kept; no declared task has this name"
    for encoder in sorted(set(rows["encoder_name"].filter(rows["encoder_id"].is_null()))):
        outcome.skipped[encoder] = "kept; no declared encoder has this name"
    return close(outcome)

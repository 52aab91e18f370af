"""The report flow: rank the encoders of a release, and write its page and files."""

from pathlib import Path

from prefect import flow
from prefect.runtime import deployment

from flows.run.context import Context, code_version, open_context
from flows.run.gate import finish_run, replace, save_artifact
from flows.run.parameters import (
    SETTING,
    CsvForm,
    OptionalPath,
    ProfileId,
    ReleaseId,
    Unset,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import with_writer_lock
from flows.server.hooks import HOOKS
from genebench.errors import GenebenchError
from lakehouse.report.exports import csv_rows
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.leaderboard_table import leaderboard_markdown
from lakehouse.report.significance import comparison_rows, stored_rows, verdict_rows
from lakehouse.score.plan import current_release
from lakehouse.tables.catalogue import table
from lakehouse.tables.maintenance import compact_table


@flow(name="report", flow_run_name=run_name, **HOOKS)
@with_writer_lock
def report(
    release: ReleaseId | Unset = "",
    profile: ProfileId | Unset = SETTING,
    csv: OptionalPath | Unset = "",
    csv_form: CsvForm = "long",
    folder: OptionalPath | Unset = "",
    figures: bool = True,
) -> RunSummary:
    """Rank the encoders of a release, by family and overall, and optionally write its page.

    Args:
        release: The release. Default: the one that score writes with the setting
            GENEBENCH_PROTOCOL.
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        csv: A CSV file to write the scores to.
        csv_form: Columns of the CSV file: long (one row per score), report (the format of the
            published package) or leaderboard.
        folder: A folder to write the HTML page and its figures to. Default: no page.
        figures: Also write each figure as SVG and PNG.
    """
    csv_path, page_folder = (output_path(name) if name else None for name in (csv, folder))
    context = open_context(profile)
    release = release or current_release(context.settings.protocol)
    summary = RunSummary("report")
    _compact(context)
    rows = leaderboard_rows(context.lake, release)
    before = context.lake.leaderboard_rows(release)
    if rows.equals(before):
        summary.skipped["gold.leaderboard"] = f"release {release} is unchanged"
    else:
        commit = context.commit({"gold.scores": context.lake.delta.version("gold.scores")})
        replace(context, "gold.leaderboard", rows, commit, {"release_id": release})
        summary.done["gold.leaderboard"] = f"{rows.height:,} rows of release {release}"
    summary.done |= _write_comparisons(context, release)
    if csv_path:
        written = csv_rows(context.lake, release, csv_form)
        written.write_csv(csv_path)
        summary.done[str(csv_path)] = f"{written.height:,} rows in {csv_form} form"
    if page_folder:
        _write_page(context, release, page_folder, summary, has_figures=figures)
    save_artifact("leaderboard", leaderboard_markdown(context.lake, release))
    return finish_run(context, summary)


def output_path(name: str) -> Path:
    """Return the path of a file or folder to write.

    Raises:
        GenebenchError: A run of a deployment is to write outside of its working folder. Whoever
            may start a run from the Prefect UI need not be allowed to write files on the worker.
    """
    path = Path(name).expanduser()
    if deployment.id and not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise GenebenchError(
            f"a run of a deployment writes below its working folder {Path.cwd()} only, not to "
            f"{name}; give a relative path, such as report"
        )
    return path


def _compact(context: Context) -> None:
    """Compact append-only tables with many small files in a partition.

    This comes before any table is read, because it creates new versions.
    """
    for name in context.lake.delta.list_tables():
        if table(name).mode == "append-only":
            compact_table(context.lake.delta, name, context.commit())


def _write_comparisons(context: Context, release: str) -> dict[str, str]:
    """Replace the comparisons and verdicts of a release if they have changed."""
    lake, done = context.lake, {}
    comparisons = comparison_rows(lake, release)
    for name, rows in (
        ("gold.comparisons", comparisons),
        ("gold.verdicts", verdict_rows(lake, release, comparisons)),
    ):
        if not rows.equals(stored_rows(lake, name, release)):
            inputs = {"gold.intervals": lake.delta.version("gold.intervals")}
            replace(context, name, rows, context.commit(inputs), {"release_id": release})
            done[name] = f"{len(rows):,} rows of release {release}"
    return done


def _write_page(
    context: Context, release: str, folder: Path, summary: RunSummary, *, has_figures: bool
) -> None:
    """Write the page, unless the one in the folder is up to date."""
    from lakehouse.report.page.write import is_current, write_report

    code = code_version()
    if is_current(context.lake, release, folder, code, with_files=has_figures):
        summary.skipped[str(folder)] = f"page of release {release} is up to date"
        return
    page = write_report(context.lake, release, folder, code=code, with_files=has_figures)
    text = f"page of release {release}, {page.stat().st_size / 1e6:.1f} MB"
    summary.done[str(page)] = text

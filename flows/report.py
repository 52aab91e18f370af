"""A release into its leaderboard, its page and its files."""

from pathlib import Path

from prefect import flow

from flows.run.context import Context, code_version, open_context
from flows.run.gate import close, replace, tell
from flows.run.parameters import CsvForm, FilePath, ProfileId, ReleaseId
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from lakehouse.report.exports import csv_rows
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.leaderboard_table import leaderboard_markdown
from lakehouse.report.significance import comparison_rows, stored_rows, verdict_rows
from lakehouse.score.plan import release_of
from lakehouse.tables.catalogue import table


@flow(name="report", flow_run_name=run_name, **HOOKS)
@one_writer
def report(
    release: ReleaseId | None = None,
    profile: ProfileId | None = None,
    csv: FilePath | None = None,
    csv_form: CsvForm = "long",
    folder: FilePath | None = None,
    figures: bool = True,
) -> RunSummary:
    """Rank the encoders of a release by family and overall; write its page where asked.

    Args:
        release: The release; by default the one that score writes under the setting's protocol.
        profile: embedded or paper; the setting by default.
        csv: File to write the scores to.
        csv_form: long (a row a score), report (the published package's form) or leaderboard.
        folder: Where the page and its figures go; no page is written if empty.
        figures: Write each figure as SVG and PNG too.
    """
    context = open_context(profile)
    release = release or release_of(context.settings.protocol)
    outcome = RunSummary("report")
    _compact(context)
    rows = leaderboard_rows(context.lake, release)
    before = context.lake.leaderboard_rows(release)
    if rows.equals(before):
        outcome.skipped["gold.leaderboard"] = f"release {release} is as it was"
    else:
        commit = context.commit({"gold.scores": context.lake.delta.version("gold.scores")})
        replace(context, "gold.leaderboard", rows, commit, {"release_id": release})
        outcome.done["gold.leaderboard"] = f"{rows.height:,} rows of release {release}"
    outcome.done |= _write_evidence(context, release)
    if csv is not None:
        written = csv_rows(context.lake, release, csv_form)
        written.write_csv(Path(csv))
        outcome.done[csv] = f"{written.height:,} rows in {csv_form} form"
    if folder:
        _write_page(context, release, Path(folder), outcome, has_figures=figures)
    tell("leaderboard", leaderboard_markdown(context.lake, release))
    return close(outcome)


def _compact(context: Context) -> None:
    """Join the small files of evidence; before anything is read, for it makes a new version."""
    for name in context.lake.delta.list_tables():
        if table(name).mode == "append-only":
            context.lake.delta.compact(name, context.commit())


def _write_evidence(context: Context, release: str) -> dict[str, str]:
    """Replace the comparisons and verdicts of a release where they moved."""
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
    context: Context, release: str, folder: Path, outcome: RunSummary, *, has_figures: bool
) -> None:
    """Write the page, unless the one that is there shows the lake as it is."""
    from lakehouse.report.page.write import is_current, write_report

    code = code_version()
    if is_current(context.lake, release, folder, code, with_files=has_figures):
        outcome.skipped[str(folder)] = f"page of release {release} is as it was"
        return
    page = write_report(context.lake, release, folder, code=code, with_files=has_figures)
    words = f"page of release {release}, {page.stat().st_size / 1e6:.1f} MB"
    outcome.done[str(page)] = words

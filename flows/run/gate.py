"""The gate: rows are checked against their expectations before they are committed to a table.

Flows write every bronze, silver and gold table through `append`, `replace`, `append_together` or
`replace_together`. `finish_run` records the run and saves its summary, and raises if part of the
work failed; `save_changes` saves what a run changed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_logger, get_run_logger

from expectations import Outcome, check_frame, related_tables
from expectations.declared import expectations_of
from expectations.outcomes import require_met, validation_rows
from flows.run.context import Context
from flows.run.summary import RunSummary, Unfinished
from genebench.errors import GenebenchError
from lakehouse.report.diff.diff_summary import describe_counts, diff_markdown
from lakehouse.report.diff.lake_diff import LakeDiff
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.catalogue import table as declared
from lakehouse.tables.manifest import CURATE, RUNS, run_rows

N_SHOWN = 3

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.tables.commits import Commit
    from lakehouse.tables.delta import Delta


def append(context: Context, table: str, frame: "pl.DataFrame", commit: "Commit") -> None:
    """Check rows, then append them to a table. See `replace` for the arguments.

    Raises:
        ExpectationFailed: A critical expectation is not met. The table is unchanged.
    """
    append_together(context, {table: frame}, commit)


def append_together(
    context: Context, frames: "Mapping[str, pl.DataFrame]", commit: "Commit"
) -> None:
    """Check rows of several tables together, then append them.

    Args:
        context: The context of the flow run.
        frames: Table to its new rows, in the order of writing.
        commit: The metadata of the commits.

    Raises:
        ExpectationFailed: A critical expectation is not met. All tables are unchanged.
    """
    _check(context, frames, commit)
    for table, frame in frames.items():
        context.lake.delta.append(table, frame, commit)


def replace(
    context: Context,
    table: str,
    frame: "pl.DataFrame",
    commit: "Commit",
    partition: Mapping[str, str] | None = None,
    *,
    previous: "pl.DataFrame | None" = None,
) -> None:
    """Check rows, then replace a table or one of its partitions with them.

    Args:
        context: The context of the flow run.
        table: The table, such as `gold.scores`.
        frame: The new rows.
        commit: The metadata of the commit.
        partition: The partition to replace; see `lakehouse.tables.delta.Delta.replace`.
        previous: The rows before, for expectations that compare the two.

    Raises:
        ExpectationFailed: A critical expectation is not met. The table is unchanged.
    """
    _check(context, {table: frame}, commit, {table: previous})
    context.lake.delta.replace(table, frame, commit, partition)


def replace_together(
    context: Context,
    frames: "Mapping[str, pl.DataFrame]",
    commit: "Commit",
    previous: "Mapping[str, pl.DataFrame | None]",
) -> dict[str, int]:
    """Check several tables together, then replace each of them as a whole.

    Args:
        context: The context of the flow run.
        frames: Table to its new rows, in the order of writing.
        commit: The metadata of the commits.
        previous: Table to the rows before, None for a new table.

    Returns:
        Table to the version that was written.

    Raises:
        ExpectationFailed: A critical expectation is not met. All tables are unchanged.
    """
    _check(context, frames, commit, previous)
    versions = {}
    for table, frame in frames.items():
        partition: dict[str, str] | None = {} if TABLES[table].partition else None
        versions[table] = context.lake.delta.replace(table, frame, commit, partition)
    return versions


def _check(
    context: Context,
    frames: "Mapping[str, pl.DataFrame]",
    commit: "Commit",
    previous: "Mapping[str, pl.DataFrame | None] | None" = None,
) -> None:
    """Check rows of tables, record the results in the audit tables, raise if a critical one fails.

    An expectation that needs another table gets its frame where it is one of the frames, else what
    the lake holds.
    """
    reports = []
    for table, frame in frames.items():
        others = {
            name: frames[name] if name in frames else context.lake.table(name).collect()
            for name in related_tables(table)
        }
        reports.append(check_frame(table, frame, (previous or {}).get(table), others))
    delta = context.lake.delta
    delta.append("audit.validations", validation_rows(reports, context.run_id), commit)
    for report in reports:
        if not report.is_met:
            delta.append("audit.quarantine", report.to_quarantine(context.run_id), commit)
            save_artifact("expectations", report.to_markdown())
        for warning in report.failures:
            if warning.severity == "warning":
                get_logger("genebench.data").warning(describe_warning(report.table_name, warning))
    require_met(reports)


def describe_warning(table: str, outcome: Outcome) -> str:
    """Describe an unmet expectation in one line: the number of rows, and the first by their key."""
    columns = [one.column for one in expectations_of(table) if one.id == outcome.expectation_id]
    names = [*declared(table).key, *filter(None, columns)]
    shown = outcome.examples
    if set(names) <= set(outcome.rows.columns):
        rows = outcome.rows.select(list(dict.fromkeys(names))).iter_rows(named=True)
        shown = tuple(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows)
    if len(shown) > N_SHOWN:
        shown = (*shown[:N_SHOWN], f"{len(shown) - N_SHOWN} more")
    listed = "; ".join(shown)
    return f"{table}, {outcome.expectation_id}: {outcome.observed} ({listed}): {outcome.because}"


def save_artifact(key: str, markdown: str) -> None:
    """Save a Markdown artifact of the current flow run; does nothing outside of one.

    An artifact that the server refuses is a warning in the log: it describes work that is done.
    """
    if FlowRunContext.get() is None:
        return
    try:
        create_markdown_artifact(markdown, key=key)
    # The client raises errors of several libraries; none may end a run whose rows are committed.
    except Exception as error:  # noqa: BLE001
        get_logger("genebench").warning("the artifact %s was not saved: %s", key, error)


def save_changes(compare: Callable[[], LakeDiff | None]) -> None:
    """Compare the lake with its state before the run, and save the differences.

    Args:
        compare: Returns the differences, or None where there was no state before.
    """
    try:
        found = compare()
    except GenebenchError as error:
        # What the run did is done, whether it can be compared with earlier tables or not.
        get_run_logger().warning("changes of this run: %s", error)
        return
    if found is None or found.is_empty:
        return
    save_artifact("changes", diff_markdown(found))
    if found.scores.height:
        get_run_logger().info("changes: %s", describe_counts(found.counts))


def finish_run(
    context: Context, summary: RunSummary, failures: Mapping[str, str] | None = None
) -> RunSummary:
    """Record a run that wrote tables in the manifest, save its summary as artifact, and return it.

    Args:
        context: The context of the flow run.
        summary: The summary of the run. The failures are added to its `refused`.
        failures: What failed, with the reasons.

    Raises:
        Unfinished: There are failures. What was done is kept.
    """
    summary.refused.update(failures or {})
    delta = context.lake.delta
    versions = delta.versions_written_by(context.run_id)
    # A curation is recorded with its state, by `lakehouse.curate.state.record_curation`.
    if versions and summary.verb != CURATE:
        commit = context.commit()
        delta.append(RUNS, run_rows(summary.verb, versions, commit), commit)
    text = [summary.to_markdown(), describe_written(delta, versions)]
    save_artifact(summary.verb, "\n\n".join(filter(None, text)))
    if failures:
        raise Unfinished(summary, failures)
    return summary


def describe_written(delta: "Delta", versions: Mapping[str, int]) -> str:
    """Return a Markdown table of the tables that a run wrote; empty where it wrote none."""
    lines = [
        f"| `{name}` | {version} | `{delta.storage.uri(declared(name).path)}` |"
        for name, version in versions.items()
    ]
    return "\n".join(["| table | version | address |", "|---|---|---|", *lines]) if lines else ""

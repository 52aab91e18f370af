"""Check, then commit, then say so: the one way into a silver or gold table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import prefect.runtime
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_logger
from prefect.states import Completed, Failed, State

from expectations import check_frame, needs_of
from flows.run.context import Context
from flows.run.summary import NOTHING_NEW, PARTLY_DONE, RunSummary, Unfinished
from lakehouse import open_lake
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.catalogue import table as declared

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.tables.commits import Commit


def append(
    context: Context,
    table: str,
    frame: "pl.DataFrame",
    commit: "Commit",
    *,
    related: "Mapping[str, pl.DataFrame] | None" = None,
) -> None:
    """Append rows that meet their expectations; see `replace` for the arguments.

    Raises:
        ExpectationFailed: A critical expectation is not met; the table is as it was.
    """
    _gate(context, table, frame, commit, None, related or {})
    context.lake.delta.append(table, frame, commit)


def replace(
    context: Context,
    table: str,
    frame: "pl.DataFrame",
    commit: "Commit",
    partition: Mapping[str, str] | None = None,
    *,
    previous: "pl.DataFrame | None" = None,
    related: "Mapping[str, pl.DataFrame] | None" = None,
) -> None:
    """Replace a table, or a partition of it, by rows that meet their expectations.

    Args:
        context: The run.
        table: The table.
        frame: Its new rows.
        commit: What the commit says.
        partition: The partition replaced; see `lakehouse.tables.delta.Delta.replace`.
        previous: The rows before, that drift is measured against.
        related: Tables that this one is checked against, as they will be after this run; those
            not given are read.

    Raises:
        ExpectationFailed: A critical expectation is not met; the table is as it was.
    """
    _gate(context, table, frame, commit, previous, related or {})
    context.lake.delta.replace(table, frame, commit, partition)


def replace_together(
    context: Context,
    frames: "Mapping[str, pl.DataFrame]",
    commit: "Commit",
    previous: "Mapping[str, pl.DataFrame | None]",
) -> None:
    """Replace whole tables that belong together: all are checked before the first is written.

    Args:
        context: The run.
        frames: Table to its new rows, in the order of writing.
        commit: What the commits say.
        previous: Table to the rows before, None where it is new.

    Raises:
        ExpectationFailed: A critical expectation is not met; every table is as it was.
    """
    for table, frame in frames.items():
        _gate(context, table, frame, commit, previous.get(table), frames)
    for table, frame in frames.items():
        partition: dict[str, str] | None = {} if TABLES[table].partition else None
        context.lake.delta.replace(table, frame, commit, partition)


def _gate(
    context: Context,
    table: str,
    frame: "pl.DataFrame",
    commit: "Commit",
    previous: "pl.DataFrame | None",
    related: "Mapping[str, pl.DataFrame]",
) -> None:
    read = {
        name: context.lake.table(name).collect() for name in needs_of(table) if name not in related
    }
    report = check_frame(table, frame, previous, {**read, **related})
    delta = context.lake.delta
    delta.append("audit.validations", report.to_frame(context.run_id), commit)
    if not report.is_met:
        delta.append("audit.quarantine", report.to_quarantine(context.run_id), commit)
        tell("expectations", report.to_markdown())
    for warning in report.failures:
        if warning.severity == "warning":
            shown = "; ".join(warning.examples[:3])
            get_logger("genebench").warning(
                "%s: %s: %s (%s)", table, warning.expectation_id, warning.because, shown
            )
    report.require()


def tell(key: str, markdown: str) -> None:
    """Leave a markdown artifact with the flow run; outside of one there is nobody to tell."""
    if FlowRunContext.get() is not None:
        create_markdown_artifact(markdown, key=key)


def close(outcome: RunSummary, failures: Mapping[str, str] | None = None) -> "State[RunSummary]":
    """Leave the account of a run as its artifact, and say how the run ended.

    Returns:
        The state that the flow is to return, which gives its caller the outcome: Completed, or
        NothingNew where all was there already, or Failed where something failed: that raises
        `Unfinished` in the caller. PartlyDone failed too, but what is left can be worked with.
    """
    outcome.refused.update(failures or {})
    written = written_by(prefect.runtime.flow_run.id)
    tell(outcome.verb, "\n\n".join(filter(None, [outcome.to_markdown(), written])))
    if failures:
        error = Unfinished(outcome, failures)
        is_usable = bool(outcome.done or outcome.skipped)
        return Failed(message=str(error), name=PARTLY_DONE if is_usable else None, data=error)
    if not outcome.done:
        return Completed(message=outcome.headline, name=NOTHING_NEW, data=outcome)
    return Completed(message=outcome.headline, data=outcome)


def written_by(run_id: str | None) -> str:
    """The tables that a run was the last to write, with version and address, as Markdown."""
    delta = open_lake().delta
    lines = []
    for name in delta.list_tables():
        last = delta.history(name, 1)[0]
        if run_id and last.get("flow_run") == run_id:
            address = delta.storage.uri(declared(name).path)
            lines.append(f"| `{name}` | {last['version']} | `{address}` |")
    return "\n".join(["| table | version | address |", "|---|---|---|", *lines]) if lines else ""

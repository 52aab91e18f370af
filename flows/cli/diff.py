"""The command diff: what changed from one release, run or day to the next, and why."""

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Csv, Metric, Profile

if TYPE_CHECKING:
    import polars as pl

    from lakehouse.report.diff.lake_diff import LakeDiff

N_SCORES = 10


class DiffPart(StrEnum):
    """A part of the differences of two states."""

    entities = "entities"
    terms = "terms"
    samples = "samples"
    scores = "scores"


def diff(
    before: Annotated[
        str | None, typer.Argument(help="Release, run or day. Default: the one before the newest.")
    ] = None,
    after: Annotated[
        str | None, typer.Argument(help="Release, run or day. Default: the newest release.")
    ] = None,
    show: Annotated[
        DiffPart | None, typer.Option(help="Print all rows of one part; --csv writes them.")
    ] = None,
    metric: Metric = None,
    csv: Csv = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rows as JSON.")] = False,
    profile: Profile = None,
) -> None:
    """Show what changed between two releases: entities, terms, samples, scores and why."""
    from flows.cli.inspect import open_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.report.diff.lake_diff import diff_states
    from lakehouse.report.diff.lake_states import choose_states
    from lakehouse.score.plan import current_release

    lake = open_lake()
    states = choose_states(lake, current_release(get_settings().protocol), before, after)
    tasks = open_registry(profile or lake.profile()).tasks
    found = diff_states(*states, tasks.values(), metric)
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=1) + "\n")
    elif show is None:
        _print_summary(found)
    else:
        _print_part(found, show)
    if csv is not None:
        rows = _part(found, show or DiffPart.scores)
        rows.write_csv(csv)
        typer.echo(f"{rows.height:,} rows in {csv}", err=as_json)


def _part(found: "LakeDiff", part: DiffPart) -> "pl.DataFrame":
    """The rows of a part; of the scores, those that differ."""
    from lakehouse.report.diff.score_changes import select_changed

    rows: pl.DataFrame = getattr(found, part)
    return select_changed(rows) if part is DiffPart.scores else rows


def _print_part(found: "LakeDiff", part: DiffPart) -> None:
    from flows.cli.render import print_rows_of

    print_rows_of(_part(found, part), f"{found.before} → {found.after}: {part}")


def _print_summary(found: "LakeDiff") -> None:
    from flows.cli.render import print_line, print_rows
    from lakehouse.report.diff.diff_summary import describe_counts, summarise_diff

    print_line(f"{found.before} → {found.after}")
    if found.is_empty:
        print_line("nothing differs: the same curation and the same evaluations")
        return
    for table in summarise_diff(found):
        print_rows(table.title, table.columns, table.rows)
    scores = _part(found, DiffPart.scores).drop_nulls("change").head(N_SCORES)
    if scores.height:
        names = ("task_id", "encoder_id", "mean_before", "mean_after", "change", "noise", "why")
        shown = scores.select(names)
        print_rows("largest changes of a score", shown.columns, shown.rows())
    print_line(describe_counts(found.counts))


def add_diff_command(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("diff", epilog="Example: genebench diff 2026.1 current", rich_help_panel="Results")(
        diff
    )

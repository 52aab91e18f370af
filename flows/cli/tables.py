"""What a person reads in a terminal: tables of rich, and the same as Markdown."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.run.summary import RunSummary
from genebench.evaluation.metrics import METRICS
from lakehouse.query.lake import Lake
from lakehouse.report.intervals import task_scores
from lakehouse.report.leaderboard_table import SHOWN_METRICS, leaderboard_cells, solved_words
from lakehouse.report.significance import verdict_words

# Of a file or a pipe, which has no width of its own.
UNBOUNDED_WIDTH = 120


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else UNBOUNDED_WIDTH)


def print_outcome(outcome: RunSummary) -> None:
    """Print what a flow did, skipped and refused."""
    console = _console()
    console.print(f"[bold]{outcome.headline}[/bold]")
    for mark, entries in (("+", outcome.done), ("=", outcome.skipped), ("!", outcome.refused)):
        for name, words in entries.items():
            console.print(f"  {mark} {name}: {words}", markup=False, highlight=False)


def print_leaderboard(lake: Lake, release: str, metric: str | None = None) -> None:
    """Print a release's leaderboard, one table for each metric shown.

    Raises:
        LakeError: The release has no scores by the metric that is asked for.
    """
    for shown in (metric,) if metric else SHOWN_METRICS:
        head, rows = leaderboard_cells(lake, release, shown)
        if metric and not rows:
            # Says which metrics there are.
            lake.leaderboard(release, metric=metric)
        if rows:
            print_rows(_title(shown, "tasks"), head, rows)
    if solved := solved_words(lake, release):
        _console().print(solved, markup=False, highlight=False)


def _title(metric: str, averaged: str) -> str:
    chosen = METRICS[metric]
    direction = "higher" if chosen.is_greater_better else "lower"
    return f"{chosen.title} (mean over {averaged}; {direction} is better)"


def print_task_table(lake: Lake, release: str, metric: str) -> None:
    """Print a release's mean scores, one row a task and one column an encoder."""
    wide = lake.leaderboard(release, by="task", metric=metric).drop("modality")
    several = wide["probe_id"].n_unique() > 1
    names = [
        f"{encoder} ({probe})" if several else encoder
        for encoder, probe in wide.select("encoder_id", "probe_id").iter_rows()
    ]
    tasks = wide.drop("encoder_id", "probe_id")
    verdicts = verdict_words(lake, release)
    rows = [[task.name, *task.to_list()] for task in tasks.iter_columns()]
    head = ["task", *names]
    if verdicts:
        head.append("verdict")
        rows = [[*row, verdicts.get(row[0])] for row in rows]
    print_rows(_title(metric, "folds"), head, rows)


def print_task_scores(lake: Lake, release: str, task_id: str) -> None:
    """Print a task's scores in a release with their intervals, and what they can tell."""
    scores = task_scores(lake, release, task_id)
    if not scores.height:
        return
    verdict = verdict_words(lake, release).get(task_id)
    title = f"release {release}, {METRICS[scores['metric'][0]].title}"
    shown = scores.drop("metric")
    print_rows(f"{title}: {verdict}" if verdict else title, shown.columns, shown.iter_rows())


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell))

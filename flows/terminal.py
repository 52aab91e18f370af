"""What a person reads in a terminal: tables of rich, and the same as Markdown."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.outcome import Outcome
from genebench.leaderboard import OVERALL
from genebench.metrics import METRICS
from genebench.tasks import FAMILY_TITLES
from lakehouse.intervals import leaderboard_intervals, task_scores
from lakehouse.queries import Lake
from lakehouse.uncertainty import verdict_words

SHOWN_METRICS = ("roc_auc", "r2")
# Of a file or a pipe, which has no width of its own.
UNBOUNDED_WIDTH = 120
SOLVED = "solved by"


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


def print_outcome(outcome: Outcome) -> None:
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


def solved_words(lake: Lake, release: str) -> str:
    """The tasks of a release that a control solves; empty where none is."""
    found = verdict_words(lake, release)
    solved = [f"{task} {told}" for task, told in sorted(found.items()) if told.startswith(SOLVED)]
    if not solved:
        return ""
    return f"{len(solved)} of {len(found)} tasks tell little of encoders: {', '.join(solved)}"


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


def leaderboard_markdown(lake: Lake, release: str) -> str:
    """A release's leaderboard as Markdown."""
    parts = [f"# Leaderboard of release `{release}`"]
    for metric in SHOWN_METRICS:
        head, rows = leaderboard_cells(lake, release, metric)
        if not rows:
            continue
        parts.append(f"\n## {METRICS[metric].title}\n")
        parts.append("| " + " | ".join(head) + " |")
        parts.append("|" + "---|" * len(head))
        parts += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows]
    if solved := solved_words(lake, release):
        parts.append(f"\n{solved}")
    return "\n".join(parts)


def leaderboard_cells(lake: Lake, release: str, metric: str) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a leaderboard: encoder, modality, coverage, overall, then the families.

    Where the scores have intervals, that of the overall mean follows it.
    """
    everything = lake.leaderboard_rows(release)
    if metric not in everything["metric"]:
        return [], []
    wide = lake.leaderboard(release, metric=metric)
    families = [name for name in FAMILY_TITLES if name in wide.columns]
    titles = {row["encoder_id"]: row for row in lake.encoders().iter_rows(named=True)}
    shares: dict[str, float] = {}
    for row in lake.coverage().iter_rows(named=True):
        shares[row["encoder_id"]] = min(shares.get(row["encoder_id"], 1.0), row["share"])
    several = wide["probe_id"].n_unique() > 1
    ranges = _overall_ranges(lake, release, metric)
    head = ["encoder", "kind", *(["probe"] if several else []), "coverage", "overall"]
    head += ["interval"] if ranges else []
    head += [FAMILY_TITLES[name].split()[0] for name in families]
    rows = []
    for row in wide.iter_rows(named=True):
        known = titles.get(row["encoder_id"], {})
        rows.append(
            [
                known.get("title", row["encoder_id"]),
                row["modality"],
                *([row["probe_id"]] if several else []),
                f"{shares.get(row['encoder_id'], 0.0):.0%}",
                row["overall"],
                *([ranges.get((row["encoder_id"], row["probe_id"]))] if ranges else []),
                *(row[name] for name in families),
            ]
        )
    return head, rows


def _overall_ranges(lake: Lake, release: str, metric: str) -> dict[tuple[str, str], str]:
    """The interval of each overall mean, by encoder and probe."""
    found = leaderboard_intervals(lake, release, metric).filter(scope=OVERALL)
    return {
        (row["encoder_id"], row["probe_id"]): f"{row['low']:.3f} to {row['high']:.3f}"
        for row in found.iter_rows(named=True)
    }


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell))

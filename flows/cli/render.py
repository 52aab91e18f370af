"""Prints results in the terminal: tables, leaderboards, comparisons and run summaries."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.run.summary import RunSummary
from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import TEMPORAL
from lakehouse.query.lake import Lake
from lakehouse.report.future_marks import append_mark, describe_marks, read_marks
from lakehouse.report.intervals import task_scores
from lakehouse.report.leaderboard_table import (
    SHOWN_METRICS,
    describe_solved_tasks,
    leaderboard_cells,
)
from lakehouse.report.lineage import Lineage
from lakehouse.report.relatives_drop import drop_tables
from lakehouse.report.significance import describe_verdicts
from lakehouse.report.temporal_gains import describe_gains

if TYPE_CHECKING:
    import polars as pl

# Width of tables in a file or a pipe; a terminal has a width of its own.
PIPE_WIDTH = 145
MAX_ROWS = 50
MAX_REFUSED = 5
# Smaller numbers are printed in scientific notation: with three decimals they would read 0.000.
SMALLEST_DECIMAL = 0.0005
LEGEND = (
    "p: after Holm over all pairs of encoders and tasks; *: below 5 % by p and by the test on "
    "folds; –: not tested (a sub-task, another metric than the task's main one)"
)


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table with a title."""
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


def print_line(line: str) -> None:
    """Print a line as it is: unwrapped, without markup or colours."""
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def print_summary(summary: RunSummary) -> None:
    """Print what a flow run did, skipped and refused."""
    _console().print(f"[bold]{summary.headline}[/bold]")
    for mark, entries in (("+", summary.done), ("=", summary.skipped), ("!", summary.refused)):
        for name, text in entries.items():
            _console().print(f"  {mark} {name}: {text}", markup=False, highlight=False)


def print_refused(summary: RunSummary) -> None:
    """Print the first things that a flow run refused, with the reasons."""
    for name, reason in list(summary.refused.items())[:MAX_REFUSED]:
        print_line(f"  ! {summary.verb} {name}: {reason}")
    n_more = len(summary.refused) - MAX_REFUSED
    if n_more > 0:
        print_line(f"  ! {n_more} more; `genebench {summary.verb}` lists them")


def print_leaderboard(lake: Lake, release: str, metric: str | None = None) -> None:
    """Print the leaderboard of a release, one table for each metric, and what relatives add to it.

    Raises:
        LakeError: The release has no scores by the requested metric.
    """
    for shown in (metric,) if metric else SHOWN_METRICS:
        head, rows = leaderboard_cells(lake, release, shown)
        if metric and not rows:
            # Raises the error that lists the metrics of the release.
            lake.leaderboard(release, metric=metric)
        if rows:
            print_rows(_title(shown, "tasks"), head, rows)
    if solved := describe_solved_tasks(lake, release):
        _console().print(solved, markup=False, highlight=False)
    if gains := describe_gains(lake, release):
        _console().print(gains, markup=False, highlight=False)
    for title, head, rows in drop_tables(lake, release):
        print_rows(title, head, rows)


def print_task_table(lake: Lake, release: str, metric: str) -> None:
    """Print the mean scores of a release: one row a task, one column an encoder.

    Scores of temporal tasks carry the mark of their encoder (`lakehouse.report.future_marks`).
    """
    wide = lake.leaderboard(release, by="task", metric=metric).drop("modality")
    several = wide["probe_id"].n_unique() > 1
    names = [
        f"{encoder} ({probe})" if several else encoder
        for encoder, probe in wide.select("encoder_id", "probe_id").iter_rows()
    ]
    tasks = wide.drop("encoder_id", "probe_id")
    verdicts = describe_verdicts(lake, release)
    family_of = dict(lake.release(release).select("task_id", "family").iter_rows())
    marks = read_marks(lake) if TEMPORAL in family_of.values() else {}
    marks_of = [marks.get(encoder_id, "") for encoder_id in wide["encoder_id"]]
    rows: list[list[Any]] = [
        [
            task.name,
            *(
                append_mark(mean, mark if family_of[task.name] == TEMPORAL else "")
                for mean, mark in zip(task, marks_of, strict=True)
            ),
        ]
        for task in tasks.iter_columns()
    ]
    head = ["task", *names]
    if verdicts:
        head.append("verdict")
        rows = [[*row, verdicts.get(row[0])] for row in rows]
    print_rows(_title(metric, "folds"), head, rows)
    if any(marks_of):
        print_line(describe_marks(marks_of))


def print_task_scores(lake: Lake, release: str, task_id: str) -> None:
    """Print the scores of a task in a release with their intervals and the task's verdict."""
    scores = task_scores(lake, release, task_id)
    if not scores.height:
        return
    verdict = describe_verdicts(lake, release).get(task_id)
    title = f"release {release}, {METRICS[scores['metric'][0]].title}"
    shown = scores.drop("metric")
    print_rows(f"{title}: {verdict}" if verdict else title, shown.columns, shown.iter_rows())
    if "mark" in scores.columns:
        print_line(describe_marks(scores["mark"]))


def print_frame(rows: "pl.DataFrame") -> None:
    """Print the first rows of a frame and their total number."""
    shown = [[_shorten(cell) for cell in row] for row in rows.head(MAX_ROWS).iter_rows()]
    print_rows(f"{rows.height:,} rows", rows.columns, shown)
    if rows.height > MAX_ROWS:
        print_line(f"{MAX_ROWS} shown; --output file.csv writes all")


def print_lineage(lineage: Lineage) -> None:
    """Print what a score was computed from."""
    for title in ("score", "labels", "vectors"):
        print_rows(title, ["", ""], getattr(lineage, title).items())
    print_rows("tables that it was computed from", lineage.tables.columns, lineage.tables.rows())
    for row in lineage.snapshots.iter_rows(named=True):
        print_rows(f"{row.pop('file')} {row.pop('version')}", ["", ""], row.items())


def print_rows_of(rows: "pl.DataFrame", title: str) -> None:
    """Print the first rows of a frame under a title."""
    print_rows(f"{title} ({rows.height:,})", rows.columns, rows.head(MAX_ROWS).iter_rows())
    _print_n_hidden(rows)


def print_comparison(lake: Lake, rows: "pl.DataFrame", encoder_a: str, encoder_b: str) -> None:
    """Print two encoders side by side, as `Lake.compare` returns them: one row a task.

    Means of temporal tasks carry the mark of their encoder (`lakehouse.report.future_marks`).
    """
    marks = read_marks(lake) if TEMPORAL in rows["family"] else {}
    mark_a, mark_b = marks.get(encoder_a, ""), marks.get(encoder_b, "")
    head = [
        *("task", "metric", encoder_a, encoder_b, "difference", "interval", "p"),
        *("sd", f"folds {encoder_a} won"),
    ]
    cells = [
        [
            *(row["task_id"], row["metric"]),
            append_mark(row["mean_a"], mark_a if row["family"] == TEMPORAL else ""),
            append_mark(row["mean_b"], mark_b if row["family"] == TEMPORAL else ""),
            *(row["difference"], _interval(row), _shorten(row["p_adjusted"])),
            *(row["sd"], f"{row['n_folds_won']} of {row['n_folds']}"),
        ]
        for row in rows.head(MAX_ROWS).iter_rows(named=True)
    ]
    print_rows(f"{encoder_a} and {encoder_b} on the same folds", head, cells)
    if mark_a or mark_b:
        print_line(describe_marks([mark_a, mark_b]))
    if rows["p_adjusted"].is_not_null().any():
        print_line(LEGEND)
    _print_n_hidden(rows)


def print_published(rows: "pl.DataFrame", release: str, published: str) -> None:
    """Print computed scores beside published ones, with verdicts and known causes."""
    head = ["task", "encoder", "ours", "theirs", "in SDs", "rows ours", "rows theirs", "verdict"]
    cells = [
        [
            *(
                f"{row['task_name']}{'; ' + row['label'] if row['label'] else ''}",
                row["encoder_id"],
            ),
            *(row["ours"], row["theirs"], row["in_sds"], row["n_samples_ours"]),
            *(row["n_samples_theirs"], row["verdict"]),
        ]
        for row in rows.iter_rows(named=True)
    ]
    print_rows(f"release {release} beside {published}", head, cells)
    counts = Counter(rows["verdict"])
    print_line(", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()))
    for row in rows.iter_rows(named=True):
        if row["cause"]:
            print_line(f"  {row['task_name']}, {row['encoder_id']}: {row['cause']}")


def print_imported(rows: "pl.DataFrame", name: str) -> None:
    """Print the means of an imported release: one row a task, one column an encoder."""
    for (metric, probe), group in rows.group_by("metric", "probe_name", maintain_order=True):
        wide = group.pivot(on="encoder_name", index=["task_name", "label"], values="mean")
        by = f", {probe}" if probe else ""
        print_rows(f"{name} (imported): {metric}{by}", wide.columns, wide.iter_rows())


def print_page(folder: str) -> None:
    """Print the path of the report page."""
    print_line(f"page: {Path(folder) / 'index.html'}")


def print_next_commands(lake: Lake, release: str) -> None:
    """Print two commands that explain a leaderboard: one about a task, one about its best rows."""
    metrics = set(lake.leaderboard_rows(release)["metric"])
    metric = next(name for name in (*SHOWN_METRICS, *sorted(metrics)) if name in metrics)
    board = lake.leaderboard(release, by="task", metric=metric)
    tasks = board.drop("encoder_id", "modality", "probe_id").columns
    ranked = lake.leaderboard(release, metric=metric).select("encoder_id", "modality")
    models = [encoder_id for encoder_id, modality in ranked.iter_rows() if modality != "control"]
    best = list(dict.fromkeys(models))[:2]
    commands = {f"show {tasks[0]}": "one task: definition, sources, sizes and scores"}
    if len(best) == 2:
        commands[f"compare {' '.join(best)}"] = "two encoders on the same folds, task by task"
    else:
        commands["up"] = "a Prefect server with its UI, schedules and workers"
    width = max(map(len, commands))
    print_line("next:")
    for words, meaning in commands.items():
        print_line(f"  {_program()} {words:<{width}}  {meaning}")


def print_data_warnings(n: int) -> None:
    """Print the number of unmet expectations, and the command that lists them."""
    what = "1 data warning" if n == 1 else f"{n} data warnings"
    print_line(f"{what}: `{_program()} validations` lists unmet expectations")


def _program() -> str:
    """The command as it can be typed here: its path if it is not on PATH."""
    path = Path(sys.argv[0])
    if path.name != "genebench" or not path.is_file():
        return "genebench"
    found = shutil.which("genebench")
    if found and path.samefile(found):
        return "genebench"
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _print_n_hidden(rows: "pl.DataFrame") -> None:
    if rows.height > MAX_ROWS:
        print_line(f"{rows.height - MAX_ROWS:,} more rows; --csv file.csv writes all")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _title(metric: str, averaged: str) -> str:
    chosen = METRICS[metric]
    direction = "higher" if chosen.is_greater_better else "lower"
    return f"{chosen.title} (mean over {averaged}; {direction} is better)"


def _interval(row: dict[str, Any]) -> str | None:
    if row["low"] is None:
        return None
    return f"{row['low']:+.3f} to {row['high']:+.3f}{' *' if row['is_established'] else ''}"


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell))


def _shorten(cell: Any) -> Any:
    """Shorten long lists, such as vectors, to four numbers; write small numbers as 1.2e-05."""
    if isinstance(cell, float) and 0 < abs(cell) < SMALLEST_DECIMAL:
        return f"{cell:.1e}"
    if isinstance(cell, list) and len(cell) > 4:
        return f"[{', '.join(str(one) for one in cell[:4])}, … {len(cell):,}]"
    return cell

"""Formats a leaderboard as the cells of a printed table and as Markdown."""

from typing import Any

from genebench.evaluation.metrics import METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.tasks.declaration import FAMILY_TITLES, TEMPORAL
from lakehouse.embed.encoder_records import list_encoders, read_coverage
from lakehouse.report.future_marks import append_mark, read_marks
from lakehouse.report.intervals import leaderboard_intervals
from lakehouse.report.leaderboard import read_leaderboard, stored_leaderboard
from lakehouse.report.relatives_drop import drop_tables
from lakehouse.report.significance import describe_verdicts
from lakehouse.report.temporal_gains import describe_gains
from lakehouse.tables.time_travel import Tables

SHOWN_METRICS = ("roc_auc", "r2")

_SOLVED_PREFIX = "solved by"


def describe_solved_tasks(tables: Tables, release: str) -> str:
    """List the tasks of a release that a control solves; an empty text if there are none."""
    verdicts = describe_verdicts(tables, release)
    solved = [
        f"{task} {text}"
        for task, text in sorted(verdicts.items())
        if text.startswith(_SOLVED_PREFIX)
    ]
    if not solved:
        return ""
    return (
        f"{len(solved)} of {len(verdicts)} tasks are solved by a control and hardly distinguish "
        f"encoders: {', '.join(solved)}"
    )


def leaderboard_markdown(tables: Tables, release: str) -> str:
    """Render a release's leaderboard as Markdown."""
    parts = [f"# Leaderboard of release `{release}`"]
    for metric in SHOWN_METRICS:
        head, rows = leaderboard_cells(tables, release, metric)
        if not rows:
            continue
        parts += [f"\n## {METRICS[metric].title}\n", *_markdown_table(head, rows)]
    if solved := describe_solved_tasks(tables, release):
        parts.append(f"\n{solved}")
    if gains := describe_gains(tables, release):
        parts.append(f"\n{gains}")
    for title, head, rows in drop_tables(tables, release):
        parts += [f"\n## {title}\n", *_markdown_table(head, rows)]
    return "\n".join(parts)


def _markdown_table(head: list[str], rows: list[list[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows]


def leaderboard_cells(
    tables: Tables, release: str, metric: str
) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of a leaderboard: encoder, modality, coverage, overall, families.

    The interval of the overall mean follows it if the scores have intervals. Means of temporal
    tasks are texts with the encoder's mark (`future_marks`). Both are empty if the release has no
    score by the metric.
    """
    everything = stored_leaderboard(tables, release)
    if metric not in everything["metric"]:
        return [], []
    wide = read_leaderboard(tables, release, metric=metric)
    families = [name for name in FAMILY_TITLES if name in wide.columns]
    titles = {row["encoder_id"]: row for row in list_encoders(tables).iter_rows(named=True)}
    shares: dict[str, float] = {}
    for row in read_coverage(tables).iter_rows(named=True):
        shares[row["encoder_id"]] = min(shares.get(row["encoder_id"], 1.0), row["share"])
    several = wide["probe_id"].n_unique() > 1
    ranges = _overall_intervals(tables, release, metric)
    head = ["encoder", "kind", *(["probe"] if several else []), "coverage", "overall"]
    head += ["interval"] if ranges else []
    head += [FAMILY_TITLES[name].split()[0] for name in families]
    marks = read_marks(tables) if TEMPORAL in families else {}
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
                *(
                    append_mark(
                        row[name], marks.get(row["encoder_id"], "") if name == TEMPORAL else ""
                    )
                    for name in families
                ),
            ]
        )
    return head, rows


def _overall_intervals(tables: Tables, release: str, metric: str) -> dict[tuple[str, str], str]:
    """Return the interval of each overall mean as text, by encoder and probe."""
    found = leaderboard_intervals(tables, release, metric).filter(scope=OVERALL)
    return {
        (row["encoder_id"], row["probe_id"]): f"{row['low']:.3f} to {row['high']:.3f}"
        for row in found.iter_rows(named=True)
    }


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)

"""Lays out a leaderboard as the cells of a printed table, and as Markdown."""

from typing import Any

from genebench.evaluation.metrics import METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.embed.encoder_records import list_encoders, read_coverage
from lakehouse.report.intervals import leaderboard_intervals
from lakehouse.report.leaderboard import read_leaderboard, stored_leaderboard
from lakehouse.report.significance import verdict_words
from lakehouse.tables.time_travel import Tables

SHOWN_METRICS = ("roc_auc", "r2")


SOLVED = "solved by"


def solved_words(lake: Tables, release: str) -> str:
    """The tasks of a release that a control solves; empty where none is."""
    found = verdict_words(lake, release)
    solved = [f"{task} {told}" for task, told in sorted(found.items()) if told.startswith(SOLVED)]
    if not solved:
        return ""
    return f"{len(solved)} of {len(found)} tasks tell little of encoders: {', '.join(solved)}"


def leaderboard_markdown(lake: Tables, release: str) -> str:
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


def leaderboard_cells(lake: Tables, release: str, metric: str) -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a leaderboard: encoder, modality, coverage, overall, then the families.

    Where the scores have intervals, that of the overall mean follows it.
    """
    everything = stored_leaderboard(lake, release)
    if metric not in everything["metric"]:
        return [], []
    wide = read_leaderboard(lake, release, metric=metric)
    families = [name for name in FAMILY_TITLES if name in wide.columns]
    titles = {row["encoder_id"]: row for row in list_encoders(lake).iter_rows(named=True)}
    shares: dict[str, float] = {}
    for row in read_coverage(lake).iter_rows(named=True):
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


def _overall_ranges(lake: Tables, release: str, metric: str) -> dict[tuple[str, str], str]:
    """The interval of each overall mean, by encoder and probe."""
    found = leaderboard_intervals(lake, release, metric).filter(scope=OVERALL)
    return {
        (row["encoder_id"], row["probe_id"]): f"{row['low']:.3f} to {row['high']:.3f}"
        for row in found.iter_rows(named=True)
    }


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)

"""Renders a leaderboard as one self-contained HTML page."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

import polars as pl

from genebench.evaluation.statistics.means import OVERALL
from genebench.reference.board.board_scores import BoardScores
from genebench.reference.verdicts import UNDECIDED

_NOTES = """
Each score is the mean ROC AUC of a linear probe over the tasks of a family; overall is the mean of
the families. Intervals are 95 %.

Against the best: verdict of a paired bootstrap on the samples that both encoders cover, corrected
by Holm's method for all comparisons of the encoder.

All scores are compared with those of the stored predictions; where a submission includes its
vectors, some are computed again from them. Predictions without vectors can be made up: the column
“origin” says which check a row passed.
"""


def render_board(
    leaderboard: pl.DataFrame, scores: BoardScores, checks: pl.DataFrame, rules: str
) -> str:
    """Render the page: leaderboard, verdicts of each encoder, tasks, bundles and their checks.

    Args:
        leaderboard: `build_board.encoder_rows`.
        scores: All scores and verdicts.
        checks: bundle, refused, recomputed and remarks of each bundle.
        rules: Version, profile and protocol in words.
    """
    folder = resources.files("genebench.reference.board")
    style = (folder / "board.css").read_text(encoding="utf-8")
    script = (folder / "board.js").read_text(encoding="utf-8")
    n_submitted = leaderboard.filter(pl.col("origin") != "reference release").height
    n_tasks = scores.tasks["task_id"].n_unique()
    notes = "".join(f"<li>{escape(note)}</li>" for note in _NOTES.strip().split("\n\n"))
    counted = (
        f"{leaderboard.height} encoders, {n_submitted} of them submitted, on {n_tasks} tasks of "
        f"human genes. {rules}."
    )
    parts = [
        f"<header><h1>Gene embeddings: leaderboard</h1><p>{escape(counted)}</p></header>",
        _leaderboard_table(leaderboard),
        f"<ul>{notes}</ul>",
        "<h2>Verdicts</h2>",
        *(_verdicts_of(row, scores.verdicts) for row in leaderboard.iter_rows(named=True)),
        "<h2>Tasks</h2>",
        _task_table(scores.tasks, leaderboard["encoder_id"].to_list()),
        "<h2>Bundles</h2>",
        _table("bundles", ["file", "refused", "recomputed from vectors", "remarks"],
               ([_text(cell) for cell in row] for row in checks.iter_rows())),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>Gene embeddings: leaderboard</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def _leaderboard_table(leaderboard: pl.DataFrame) -> str:
    families = leaderboard.columns[leaderboard.columns.index("against_best") + 1 :]
    head = ["#", "encoder", "kind", "coverage", OVERALL, "95 % interval", "against the best",
            *families, "origin"]  # fmt: skip
    rows, marks, place = [], [], 0
    for row in leaderboard.iter_rows(named=True):
        is_ranked = row[OVERALL] is not None and not row["is_control"]
        place += is_ranked
        interval = "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        against = "best" if is_ranked and place == 1 else row["against_best"] or "–"
        anchor = f'<a href="#verdicts-{escape(row["encoder_id"])}">{escape(row["title"])}</a>'
        rows.append(
            [
                _text(place if is_ranked else "–"),
                f'<th scope="row">{anchor}</th>',
                _text("submitted" if row["modality"] == "mine" else row["modality"]),
                _number(row["coverage"], "{:.0%}"),
                _number(row[OVERALL]),
                _text(interval),
                _text(against, "undecided" if against == UNDECIDED else ""),
                *(_number(row[family]) for family in families),
                _text(row["origin"]),
            ]
        )
        marks.append("control" if row["is_control"] else "")
    return _table("leaderboard", head, rows, marks)


def _verdicts_of(row: dict[str, Any], verdicts: pl.DataFrame) -> str:
    encoder_id = row["encoder_id"]
    wide = verdicts.filter(pl.col("first") == encoder_id).pivot(
        on="scope", index="encoder_id", values="verdict", sort_columns=True
    )
    cells = ([_text(cell) for cell in found] for found in wide.iter_rows())
    shown = _table("", ["against", *wide.columns[1:]], cells) if wide.height else "<p>None.</p>"
    about = f"<p>{escape(row['description'])}</p>" if row["description"] else ""
    return (
        f'<details id="verdicts-{escape(encoder_id)}"><summary>{escape(row["title"])} '
        f"<code>{escape(encoder_id)}</code></summary>{about}{shown}</details>"
    )


def _task_table(tasks: pl.DataFrame, encoder_ids: Sequence[str]) -> str:
    wide = tasks.pivot(on="encoder_id", index=["family", "task_id", "metric"], values="value")
    shown = [name for name in encoder_ids if name in wide.columns]
    rows = (
        [*(_text(cell) for cell in row[:3]), *(_number(cell) for cell in row[3:])]
        for row in wide.select("family", "task_id", "metric", *shown)
        .sort("family", "task_id")
        .iter_rows()
    )
    return _table("tasks", ["family", "task", "metric", *shown], rows)


def _table(
    name: str, head: Sequence[str], rows: Iterable[Sequence[str]], marks: Sequence[str] = ()
) -> str:
    """A table in a scrollable frame; cells are HTML."""
    names = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    body = []
    for number, cells in enumerate(rows):
        mark = f' class="{marks[number]}"' if marks and marks[number] else ""
        body.append(f"<tr{mark}>{''.join(cells)}</tr>")
    key = f' id="{name}"' if name else ""
    return (
        f'<div class="scroll" tabindex="0"><table{key}><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _text(value: Any, mark: str = "") -> str:
    shown = "–" if value is None or value == "" else escape(str(value))
    return f'<td class="{mark}">{shown}</td>' if mark else f"<td>{shown}</td>"


def _number(value: float | None, form: str = "{:.3f}") -> str:
    if value is None:
        return '<td class="number">–</td>'
    return f'<td class="number" data-value="{value!r}">{form.format(value)}</td>'

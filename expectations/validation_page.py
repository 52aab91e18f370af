"""The validation page: the latest validation of each table as one self-contained HTML file."""

import html
from collections.abc import Mapping
from typing import Any

import polars as pl

from expectations.declared import expectations_of

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
body{color:#1b1f24}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin:2rem 0 .4rem}code{font-size:.9em}
table{border-collapse:collapse;width:100%}
td,th{padding:.3rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #e4e7eb}
th{font-weight:600}small{color:#57606a}
.met{color:#1a7f37}.unmet{color:#b35900}.rejected{color:#b42318;font-weight:600}.raised{color:#6e40c9}
.skipped{color:#57606a}
details{margin:.2rem 0}summary{cursor:pointer}
@media(prefers-color-scheme:dark){
body{background:#0f1419;color:#d8dee6}td,th{border-color:#2a313a}
small{color:#8b949e}.met{color:#4ac26b}.unmet{color:#e0a458}.rejected{color:#ff7b72}.raised{color:#b392f0}}
"""


def newest_validations(validations: pl.DataFrame) -> pl.DataFrame:
    """Select the rows of `audit.validations` of the latest run that wrote to each table.

    A run can write to a table several times, such as once per family. An expectation counts as met
    if it was met each time, and as skipped if it was checked no time.
    """
    newest = pl.col("run_id").sort_by("validated_at").last().over("table_name")
    return (
        validations.with_row_index("place")
        .filter(pl.col("run_id") == newest)
        .sort(
            pl.col("is_skipped").fill_null(value=False),
            "is_met",
            "validated_at",
            descending=[False, False, True],
        )
        .unique(["table_name", "expectation_id"], keep="first", maintain_order=True)
        .sort("place")
        .drop("place")
    )


def summarise_validations(validations: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Build head and rows of a text table: a line per table, and one per expectation not met."""
    rows = []
    for (name,), found in _by_table(validations):
        states = [_state(row) for row in found.iter_rows(named=True)]
        n_skipped = states.count("skipped")
        skipped = f", {n_skipped} skipped" if n_skipped else ""
        checked = len(states) - n_skipped
        rows.append([name, f"{states.count('met')} of {checked} met{skipped}", ""])
        rows += [
            ["", f"{row['expectation_id']} {_STATES[_state(row)]}", str(row["observed"] or "")]
            for row in found.iter_rows(named=True)
            if _state(row) not in ("met", "skipped")
        ]
    return ["table", "expectations", "found"], rows


def render_validations(validations: pl.DataFrame) -> str:
    """Render the latest validation of each table; expectations that are not met come first.

    Args:
        validations: Rows of `audit.validations`.

    Returns:
        An HTML document without scripts and without references to other files.
    """
    newest = newest_validations(validations)
    parts = [_table(name, rows) for (name,), rows in _by_table(newest)]
    states = [_state(row) for row in newest.iter_rows(named=True)]
    counted = ", ".join(
        f"{states.count(state):,} {label}" for state, label in _STATES.items() if state in states
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Validations</title><style>{STYLE}</style></head><body>"
        f"<h1>Validations</h1><p>{newest['table_name'].n_unique()} tables: {counted or 'none'}.</p>"
        f"{''.join(parts)}</body></html>\n"
    )


_STATES = {
    "rejected": "rejected a frame",
    "raised": "could not be evaluated",
    "unmet": "warning",
    "skipped": "skipped",
    "met": "met",
}


def _state(row: Mapping[str, Any]) -> str:
    if row["is_skipped"]:
        return "skipped"
    if row["is_met"]:
        return "met"
    if row["has_raised"]:
        return "raised"
    return "rejected" if row["severity"] == "critical" else "unmet"


def _by_table(rows: pl.DataFrame) -> list[tuple[tuple[Any, ...], pl.DataFrame]]:
    layers = {"bronze": 0, "silver": 1, "gold": 2}
    parts = rows.partition_by("table_name", as_dict=True)
    return sorted(
        parts.items(), key=lambda part: (layers.get(part[0][0].split(".")[0], 3), part[0])
    )


def _table(name: str, rows: pl.DataFrame) -> str:
    because = {one.id: one.because for one in expectations_of(name)}
    order = list(_STATES)
    found = sorted(
        rows.iter_rows(named=True),
        key=lambda row: (order.index(_state(row)), row["expectation_id"]),
    )
    lines = "".join(_line(row, because.get(row["expectation_id"], "")) for row in found)
    when = max(row["validated_at"] for row in found)
    n_unmet = sum(_state(row) not in ("met", "skipped") for row in found)
    summary = "all met" if not n_unmet else f"{n_unmet} not met"
    head = "<tr><th>state</th><th>expectation</th><th>severity</th><th>found</th></tr>"
    return (
        f"<h2><code>{html.escape(name)}</code></h2>"
        f"<details{' open' if n_unmet else ''}><summary>{len(found)} expectations, {summary} "
        f"<small>({when:%Y-%m-%d %H:%M} UTC, run {html.escape(found[0]['run_id'])})</small>"
        f"</summary><table>{head}{lines}</table></details>"
    )


def _line(row: Mapping[str, Any], because: str) -> str:
    state = _state(row)
    examples = "".join(f"<br><code>{html.escape(text)}</code>" for text in row["examples"][:5])
    return (
        f'<tr><td class="{state}">{_STATES[state]}</td>'
        f"<td><code>{html.escape(row['expectation_id'])}</code><br>"
        f"<small>{html.escape(because)}</small></td><td>{html.escape(row['severity'])}</td>"
        f"<td>{html.escape(row['observed'] or '')}{examples}</td></tr>"
    )

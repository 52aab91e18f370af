"""Formats a comparison as text: the tables of one screen, and all of them as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genebench.reference.comparison_tables import GROUPS, ComparisonTables

N_TASKS_SHOWN = 3


@dataclass(frozen=True)
class TextTable:
    """A table with a title, as text.

    Attributes:
        title: What the table shows.
        columns: The header.
        rows: The cells; numbers have three decimals, and a missing value is a dash.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def comparison_text_tables(found: ComparisonTables) -> list[TextTable]:
    """Means by family, verdicts by rival, and the tasks with the largest margins.

    A table without rows is left out.
    """
    means = TextTable(
        "Means by family",
        ["ROC AUC", found.name, "95 % interval", *(f"best {group}" for group in GROUPS)],
        [
            [
                row["scope"],
                _text(row["mine"]),
                f"{row['low']:.3f} to {row['high']:.3f}",
                *(_named(row[group], row[f"{group} encoder"]) for group in GROUPS),
            ]
            for row in found.table().iter_rows(named=True)
        ],
    )
    wide = found.verdicts()
    verdicts = TextTable(
        f"{found.name} against each rival (Holm's correction, 5 %)",
        ["rival", *wide.columns[1:]],
        [[_text(cell) for cell in row] for row in wide.iter_rows()],
    )
    margins = TextTable(
        "Tasks with the largest margins over the best rival",
        ["task", "metric", found.name, "best rival", "margin"],
        [
            [
                row["task_id"],
                row["metric"],
                _text(row["mine"]),
                _named(row["best_rival_value"], row["best_rival"]),
                f"{row['margin']:+.3f}",
            ]
            for row in found.largest_margins(N_TASKS_SHOWN).iter_rows(named=True)
        ],
    )
    return [table for table in (means, verdicts, margins) if table.rows]


def comparison_remarks(found: ComparisonTables) -> list[str]:
    """The tasks that a control solves, and the tasks and rivals that were left out."""
    solved = [
        f"{row['task_id']}: the control {row['best_control']} scores "
        f"{row['best_control_value']:.3f}, at least as well as {found.name}"
        for row in found.solved_by_controls().iter_rows(named=True)
    ]
    return [*solved, *(f"  ! {note}" for note in found.notes)]


def comparison_markdown(found: ComparisonTables) -> str:
    """Render a comparison as Markdown: the sentence, the tables and the remarks."""
    parts = [f"# {_escaped(found.name)} beside the reference release", _escaped(found.sentence())]
    for table in comparison_text_tables(found):
        lines = [table.columns, ["---"] * len(table.columns), *table.rows]
        parts.append(f"## {_escaped(table.title)}")
        parts.append("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines))
    remarks = comparison_remarks(found)
    if remarks:
        parts.append("\n".join(f"- {_escaped(remark.lstrip(' !'))}" for remark in remarks))
    identifiers = found.identifiers.lines()
    parts.append("\n".join(f"- {_escaped(line)}" for line in identifiers))
    return "\n\n".join(parts)


def _named(value: float | None, encoder: str | None) -> str:
    return "–" if value is None else f"{value:.3f} {encoder}"


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _escaped(text: str) -> str:
    """Text in which Markdown and HTML see no markup."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")

"""The differences of two states as short tables, for the terminal, an artifact and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lakehouse.report.diff.lake_diff import LakeDiff
from lakehouse.report.diff.score_changes import select_changed

N_EXAMPLES = 3


@dataclass(frozen=True)
class SummaryTable:
    """A short table.

    Attributes:
        title: What it lists.
        columns: The titles of its columns.
        rows: Its cells: text, numbers or None.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def summarise_diff(diff: LakeDiff) -> list[SummaryTable]:
    """Summarise the differences of two states; tables without a row are left out."""
    samples = diff.samples.drop("snapshot_before", "snapshot_now")
    names = ("before", "now", "added", "removed", "relabelled", "labels gained", "labels lost")
    tables = [
        SummaryTable("sources", ["source", "before", "now", "files"], diff.versions.rows()),
        SummaryTable(
            "entities",
            ["change", "type", "entities", "in tasks", "examples"],
            _entity_rows(diff.entities),
        ),
        SummaryTable("terms", ["change", "file", "terms", "examples"], _term_rows(diff.terms)),
        SummaryTable(
            "samples of the tasks whose labels changed",
            ["task", *names],
            samples.select(
                "task_id", "n_before", "n_now", "n_added", "n_gone", "n_relabelled",
                "n_labels_gained", "n_labels_lost",
            ).rows(),
        ),
        SummaryTable(
            "universe: entities in common",
            ["type", "before", "now", "added", "removed"],
            diff.universes.rows(),
        ),
        SummaryTable(
            "scores by cause",
            ["why", "evaluations", "moved", "beyond noise", "mean change", "largest", "of"],
            score_rows_by_cause(diff.scores),
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _entity_rows(entities: pl.DataFrame) -> list[tuple[Any, ...]]:
    shown = pl.concat_str(
        pl.coalesce("before", "now"),
        pl.when(pl.col("before").is_not_null() & pl.col("now").is_not_null())
        .then(pl.concat_str(pl.lit(" → "), "now"))
        .otherwise(pl.lit("")),
        pl.lit(" ("),
        "entity_id",
        pl.when(pl.col("successor").is_not_null())
        .then(pl.concat_str(pl.lit(", now "), "successor"))
        .otherwise(pl.lit("")),
        pl.lit(")"),
    )
    by = ["change", "entity_type"]
    grouped = entities.group_by(by).agg(
        pl.len().alias("n"),
        (pl.col("n_tasks") > 0).sum().alias("n_sampled"),
        shown.head(N_EXAMPLES).str.join("; ").alias("examples"),
    )
    return grouped.sort(by).rows()


def _term_rows(terms: pl.DataFrame) -> list[tuple[Any, ...]]:
    shown = pl.concat_str(
        "term_id",
        pl.lit(" "),
        pl.coalesce("before", "now"),
        pl.when(pl.col("before").is_not_null() & pl.col("now").is_not_null())
        .then(pl.concat_str(pl.lit(" → "), "now"))
        .when(pl.col("successor").is_not_null())
        .then(pl.concat_str(pl.lit(" (now "), "successor", pl.lit(")")))
        .otherwise(pl.lit("")),
    )
    by = ["change", "file"]
    # Terms that have a successor come first.
    ordered = terms.sort("successor", maintain_order=True, nulls_last=True)
    grouped = ordered.group_by(by, maintain_order=True).agg(
        pl.len().alias("n"), shown.head(N_EXAMPLES).str.join("; ").alias("examples")
    )
    return grouped.sort(by).rows()


def score_rows_by_cause(scores: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Count the evaluations that were not kept by cause, with their mean and largest change."""
    change = pl.col("change")
    largest = change.abs().arg_max()
    grouped = (
        select_changed(scores)
        .group_by("why")
        .agg(
            pl.len().alias("n"),
            (change != 0).sum().alias("n_moved"),
            (change.abs() > pl.col("noise")).sum().alias("n_beyond"),
            change.mean().alias("mean_change"),
            change.get(largest).alias("largest"),
            pl.concat_str("task_id", pl.lit(" by "), "encoder_id").get(largest).alias("of"),
        )
    )
    return grouped.sort("n", "why", descending=[True, False]).rows()


def describe_counts(counts: dict[str, int]) -> str:
    """Describe what became of the evaluations in one line; see `count_by_fate`."""
    total = counts["kept"] + counts["computed"] + counts["without_score"]
    parts = [
        f"{total:,} evaluations: {counts['kept']:,} kept, {counts['computed']:,} computed anew",
        f"{counts['without_score']:,} without a score",
        f"{counts['removed']:,} removed",
        f"{counts['moved']:,} scores moved",
        f"{counts['unexplained']:,} of them unexplained",
    ]
    return ", ".join(parts)


def diff_markdown(diff: LakeDiff) -> str:
    """Render the differences of two states as Markdown."""
    if diff.is_empty:
        return f"**{diff.before} → {diff.after}**: no difference"
    title = f"**{diff.before} → {diff.after}**"
    parts = [f"{title}: {describe_counts(diff.counts)}" if diff.scores.height else title]
    for table in summarise_diff(diff):
        head = f"| {' | '.join(table.columns)} |\n|{'---|' * len(table.columns)}"
        rows = (f"| {' | '.join(_cell(cell) for cell in row)} |" for row in table.rows)
        parts.append("\n".join([f"**{table.title}**\n", head, *rows]))
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:+.4f}"
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|")

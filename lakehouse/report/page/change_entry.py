"""The page's section on what changed since the release before."""

from typing import Any

from lakehouse.report.diff.diff_summary import describe_counts, summarise_diff
from lakehouse.report.diff.lake_diff import diff_states
from lakehouse.report.diff.lake_states import find_state, state_before
from lakehouse.report.diff.score_changes import select_changed
from lakehouse.report.page.contents import Contents
from lakehouse.tables.time_travel import Tables

N_SCORES = 40


def change_entry(tables: Tables, contents: Contents) -> dict[str, Any] | None:
    """Compare the release with the one before; None where there is none, or nothing differs.

    Args:
        tables: The tables of the lake.
        contents: The contents of the report.

    Returns:
        before and after (names), counts (one line), tables (title, columns and rows of each) and
        scores (the rows with the largest changes; see `score_changes.compare_scores`).
    """
    release = contents.release_id
    before = state_before(tables, release)
    if before is None:
        return None
    registry = contents.registry
    tasks = registry.tasks.values() if registry else ()
    found = diff_states(before, find_state(tables, release, release), tasks)
    if found.is_empty:
        return None
    moved = select_changed(found.scores).drop_nulls("change").head(N_SCORES)
    return {
        "before": found.before,
        "after": found.after,
        "counts": describe_counts(found.counts),
        "tables": [
            {
                "title": table.title,
                "columns": list(table.columns),
                "rows": [[_round(cell) for cell in row] for row in table.rows],
            }
            for table in summarise_diff(found)
        ],
        "scores": [
            {name: _round(cell) for name, cell in row.items()}
            for row in moved.iter_rows(named=True)
        ],
    }


def _round(cell: Any) -> Any:
    return round(cell, 4) if isinstance(cell, float) else cell

"""Saves what a run changed as an artifact: entities, terms, samples and scores."""

from collections.abc import Callable

from prefect.logging import get_run_logger

from flows.run.gate import save_artifact
from genebench.errors import GenebenchError
from lakehouse.report.diff.diff_summary import describe_counts, diff_markdown
from lakehouse.report.diff.lake_diff import LakeDiff


def save_changes(compare: Callable[[], LakeDiff | None]) -> None:
    """Compare the lake with its state before the run, and save the differences.

    Args:
        compare: Returns the differences, or None where there was no state before.
    """
    try:
        found = compare()
    except GenebenchError as error:
        # What the run did is done, whether it can be compared with earlier tables or not.
        get_run_logger().warning("changes of this run: %s", error)
        return
    if found is None or found.is_empty:
        return
    save_artifact("changes", diff_markdown(found))
    if found.scores.height:
        get_run_logger().info("changes: %s", describe_counts(found.counts))

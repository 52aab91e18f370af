"""Scores the encoders of a bundle on the held-out rows that other vectors cover.

Nothing is fitted: the stored predictions are restricted to these rows.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import split_digest
from genebench.reference.stored_scores import StoredScore, covered_samples, score_stored
from genebench.reference.vectors_evaluation import ScoredTask


def score_rivals(
    scored: ScoredTask, bundle: pl.DataFrame, protocol: Protocol, threads: int
) -> Iterator[StoredScore | str]:
    """Score all encoders of a bundle on one task.

    Args:
        scored: The task, with the new vectors' scores.
        bundle: Rows of a bundle, of any tasks.
        protocol: The protocol.
        threads: Threads of the bootstrap.

    Yields:
        The scores of each rival; or, in place of them, why a rival cannot be compared.
    """
    usable = scored.usable()
    for row in bundle.filter(pl.col("task_id") == scored.task.task_id).iter_rows(named=True):
        if reason := _difference_of_data(scored, row):
            yield f"{row['encoder_id']}: {reason}"
        else:
            yield score_stored(row, scored.whole, scored.covered, protocol, threads, usable)


def _difference_of_data(scored: ScoredTask, row: Mapping[str, Any]) -> str:
    """Say why predictions of a bundle do not belong to the task's samples; empty if they do."""
    if row["label_digest"] != scored.task.label_digest:
        return f"its scores of {scored.task.task_id} are of other labels"
    if row["split_digest"] != split_digest(scored.whole):
        return f"its scores of {scored.task.task_id} are of other folds"
    covered = covered_samples(scored.whole, row)
    if (scored.covered & ~covered).any():
        n_lacking = int((scored.covered & ~covered).sum())
        return f"it lacks {n_lacking:,} of the {int(scored.covered.sum()):,} samples scored"
    return ""

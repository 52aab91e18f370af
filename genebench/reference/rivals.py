"""Scores the encoders of a bundle on the held-out rows that other vectors cover.

Nothing is fitted: the stored predictions are restricted to these rows.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from genebench.evaluation.statistics.blas_threads import one_blas_thread
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import split_digest
from genebench.reference.stored_scores import StoredScore, covered_samples, score_stored
from genebench.reference.vectors_evaluation import ScoredTask


def score_rivals(
    scored: ScoredTask, bundle: pl.DataFrame, protocol: Protocol, threads: int
) -> list[StoredScore | str]:
    """Score all encoders of a bundle on one task.

    Args:
        scored: The task, with the new vectors' scores.
        bundle: Rows of a bundle, of any tasks.
        protocol: The protocol.
        threads: Number of encoders scored at once.

    Returns:
        The scores of each rival; or, in place of them, why a rival cannot be compared.
    """
    usable, whole = scored.usable(), scored.whole

    def score(row: Mapping[str, Any]) -> StoredScore | str:
        if reason := _difference_of_data(scored, row):
            return f"{row['encoder_id']}: {reason}"
        return score_stored(row, whole, scored.covered, protocol, usable)

    rows = bundle.filter(pl.col("task_id") == scored.task.task_id).iter_rows(named=True)
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(score, rows))


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

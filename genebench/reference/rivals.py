"""Scores the encoders of a bundle on the held-out rows that other vectors cover.

Nothing is fitted: the stored predictions are restricted to these rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.metrics import score_regression
from genebench.evaluation.ranks import rank_columns
from genebench.evaluation.statistics.bootstrap import replicate_scores
from genebench.probes.declaration import FoldOutput, Problem
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import split_digest, unpack_outputs
from genebench.reference.vectors_evaluation import ScoredTask

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RivalScore:
    """The scores of a rival on one task, on the same held-out rows as the new vectors.

    Attributes:
        encoder_id: The rival.
        task_id: The task.
        fold_scores: One score per fold.
        replicates: (draws,) bootstrap replicates of their mean, from the same draws as the new
            vectors'.
    """

    encoder_id: str
    task_id: str
    fold_scores: tuple[float, ...]
    replicates: Floats


def score_rivals(
    scored: ScoredTask, bundle: pl.DataFrame, protocol: Protocol, threads: int
) -> Iterator[RivalScore | str]:
    """Score all encoders of a bundle on one task.

    Args:
        scored: The task, with the new vectors' scores.
        bundle: Rows of a bundle, of any tasks.
        protocol: The protocol.
        threads: Threads of the bootstrap.

    Yields:
        The scores of each rival; or, in place of them, why a rival cannot be compared.
    """
    for row in bundle.filter(pl.col("task_id") == scored.task.task_id).iter_rows(named=True):
        reason = _difference_of_data(scored, row)
        yield f"{row['encoder_id']}: {reason}" if reason else _score(scored, row, protocol, threads)


def _difference_of_data(scored: ScoredTask, row: Mapping[str, Any]) -> str:
    """Say why predictions of a bundle do not belong to the task's samples; empty if they do."""
    if row["label_digest"] != scored.task.label_digest:
        return f"its scores of {scored.task.task_id} are of other labels"
    if row["split_digest"] != split_digest(scored.whole):
        return f"its scores of {scored.task.task_id} are of other folds"
    covered = _covered(scored, row)
    if (scored.covered & ~covered).any():
        n_lacking = int((scored.covered & ~covered).sum())
        return f"it lacks {n_lacking:,} of the {int(scored.covered.sum()):,} samples scored"
    return ""


def _covered(scored: ScoredTask, row: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """(samples,) bool; the samples of the whole task that a rival has predictions of."""
    bits = np.unpackbits(np.frombuffer(row["covered"], np.uint8))
    return bits[: scored.whole.n_samples].astype(bool)


def _score(
    scored: ScoredTask, row: Mapping[str, Any], protocol: Protocol, threads: int
) -> RivalScore:
    covered = _covered(scored, row)
    whole = unpack_outputs(scored.whole, row["predictions"], row["fitted"], covered)
    position = np.cumsum(scored.covered) - 1
    outputs = []
    for output in whole:
        kept = scored.covered[output.rows]
        outputs.append(
            replace(output, rows=position[output.rows[kept]], scores=output.scores[kept])
        )
    problem = as_columns(scored.problem)
    usable = scored.usable()
    fold_scores = np.array(row["fold_scores"])
    if (covered != scored.covered).any():
        # The error of the levels is nearly the same on all rows and on some, and cancels.
        on_all = score_restricted(as_columns(scored.whole), whole, [one.fitted for one in whole])
        fold_scores += np.array(list(score_restricted(problem, outputs, usable)))
        fold_scores -= np.array(list(on_all))
    replicates = replicate_scores(
        problem,
        outputs,
        usable,
        protocol,
        [scored.metric],
        n_features=row["n_features"],
        threads=threads,
    )
    return RivalScore(
        row["encoder_id"],
        row["task_id"],
        tuple(fold_scores.tolist()),
        replicates[scored.metric],
    )


def as_columns(problem: Problem) -> Problem:
    """Turn a multiclass problem into its columns, one against rest; others stay the same.

    ROC AUC of both is the mean over columns, weighted by their positives.
    """
    if problem.kind != "multiclass":
        return problem
    columns = (problem.targets[:, None] == np.arange(problem.n_columns)).astype(np.uint8)
    return replace(problem, kind="multilabel", targets=columns)


def score_restricted(
    problem: Problem, outputs: list[FoldOutput], usable: list[npt.NDArray[np.bool_]]
) -> Iterator[float]:
    """Score predictions of a bundle: ROC AUC of their levels, R² of their numbers."""
    for output, use in zip(outputs, usable, strict=True):
        truth = problem.targets[output.rows]
        if problem.kind == "regression":
            yield score_regression(["r2"], truth, output.scores[:, 0])["r2"]
        elif problem.kind == "binary":
            yield float(rank_columns(truth[:, None] > 0, output.scores)[0][0])
        else:
            found = truth.sum(axis=0)
            kept = use & (found > 0) & (found < len(truth))
            aucs, _ = rank_columns(truth[:, kept] > 0, output.scores[:, kept])
            yield float(np.average(aucs, weights=found[kept]))

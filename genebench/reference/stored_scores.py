"""Scores the stored predictions of a bundle on some of their samples. Nothing is fitted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.errors import GenebenchError
from genebench.evaluation.metrics import score_regression
from genebench.evaluation.statistics.bootstrap import replicate_scores
from genebench.evaluation.statistics.weighted_ranks import column_aucs
from genebench.probes.declaration import (
    NOT_SCORED,
    TEST,
    FoldOutput,
    Problem,
    count_outcomes,
)
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import unpack_outputs

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StoredScore:
    """The scores of an encoder of a bundle on one task.

    Attributes:
        encoder_id: The encoder.
        task_id: The task.
        fold_scores: One score per fold.
        replicates: (draws,) bootstrap replicates of their mean. Encoders scored on the same
            samples have the same draws.
    """

    encoder_id: str
    task_id: str
    fold_scores: tuple[float, ...]
    replicates: Floats


def covered_samples(whole: Problem, row: Mapping[str, Any]) -> Bools:
    """(samples,) bool; the samples of a whole task that a row of a bundle has predictions of.

    Raises:
        GenebenchError: The row has flags of another number of samples.
    """
    bits = np.unpackbits(np.frombuffer(row["covered"], np.uint8))
    if len(bits) != (whole.n_samples + 7) // 8 * 8:
        raise GenebenchError(f"{whole.id}: the bundle is damaged: coverage of other samples")
    return bits[: whole.n_samples].astype(bool)


def restrict(problem: Problem, covered: Bools) -> Problem:
    """Restrict a problem to some of its samples; their folds stay the same."""
    return replace(
        problem,
        rows=problem.rows[covered],
        targets=problem.targets[covered],
        later=None if problem.later is None else problem.later[covered],
        split=problem.split[covered],
    )


def restrict_outputs(outputs: Sequence[FoldOutput], covered: Bools) -> list[FoldOutput]:
    """Restrict held-out predictions to some samples; rows are then positions among these."""
    position = np.cumsum(covered) - 1
    restricted = []
    for output in outputs:
        kept = covered[output.rows]
        restricted.append(
            replace(output, rows=position[output.rows[kept]], scores=output.scores[kept])
        )
    return restricted


def usable_labels(problem: Problem, fitted: Sequence[Bools]) -> list[Bools]:
    """(labels,) bool for each fold; the fitted labels that can be scored in the fold."""
    if problem.kind != "multilabel":
        return list(fitted)
    found = []
    for fold, flags in enumerate(fitted):
        positives, n_scored = count_outcomes(problem.truth(problem.split[:, fold] == TEST))
        found.append(flags & (positives > 0) & (positives < n_scored))
    return found


def score_stored(
    row: Mapping[str, Any],
    whole: Problem,
    covered: Bools,
    protocol: Protocol,
    usable: Sequence[Bools],
    threads: int = 1,
) -> StoredScore:
    """Score one encoder on one task.

    Args:
        row: Row of a bundle, of the same labels and folds as the task.
        whole: The task with the folds of the whole universe.
        covered: (samples,) bool; the samples to score, all of which the row has predictions of.
        protocol: The protocol.
        usable: (labels,) bool for each fold; the labels to score.
        threads: Number of folds computed at once.

    Raises:
        GenebenchError: The row's predictions do not fit the folds.
    """
    own = covered_samples(whole, row)
    outputs = unpack_outputs(whole, row["predictions"], row["fitted"], own)
    problem, kept = restrict(whole, covered), restrict_outputs(outputs, covered)
    fold_scores = np.array(row["fold_scores"])
    if (own != covered).any():
        # The error of the levels is nearly the same on all rows and on some, and cancels.
        on_all = score_restricted(as_columns(whole), outputs, [one.fitted for one in outputs])
        fold_scores += np.array(list(score_restricted(as_columns(problem), kept, usable)))
        fold_scores -= np.array(list(on_all))
    replicates = replicate_scores(
        as_columns(problem),
        kept,
        usable,
        protocol,
        [row["metric"]],
        n_features=row["n_features"],
        threads=threads,
    )
    return StoredScore(
        row["encoder_id"], row["task_id"], tuple(fold_scores.tolist()), replicates[row["metric"]]
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
    problem: Problem, outputs: Sequence[FoldOutput], usable: Sequence[Bools]
) -> Iterator[float]:
    """Score predictions of a bundle: ROC AUC of their levels, R² of their numbers."""
    for output, use in zip(outputs, usable, strict=True):
        truth = problem.truth(output.rows)
        if problem.kind == "regression":
            yield score_regression(["r2"], truth, output.scores[:, 0])["r2"]
        else:
            truth = truth.reshape(len(truth), -1)
            found, n_scored = count_outcomes(truth)
            kept = use & (found > 0) & (found < n_scored)
            truth, scores = truth[:, kept], output.scores[:, kept]
            aucs = column_aucs(truth == 1, scores, truth != NOT_SCORED)
            yield float(np.average(aucs, weights=found[kept]))

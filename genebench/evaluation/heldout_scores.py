"""Scores the held-out predictions of one fold, for the whole task and for each label."""

import numpy as np
import numpy.typing as npt

from genebench.evaluation.metrics import (
    score_binary,
    score_labels,
    score_multiclass,
    score_multilabel,
    score_regression,
)
from genebench.probes.declaration import FoldOutput, Problem
from genebench.protocols.declaration import Protocol


def score_fold(
    problem: Problem, output: FoldOutput, usable: npt.NDArray[np.bool_], protocol: Protocol
) -> dict[tuple[str, str], float]:
    """Compute the metrics of one fold.

    Args:
        problem: The problem.
        output: Held-out predictions of this fold.
        usable: (labels,) bool; labels of a multi-label task that can be scored.
        protocol: Metrics, and whether multi-label AUC ranks hard predictions or scores.

    Returns:
        Value by label ("" for the whole task) and metric.
    """
    truth, scores = problem.truth(output.rows), output.scores
    names, by_label = protocol.metrics_of(problem.kind), protocol.metrics.per_label
    labels: list[str] = []
    each: dict[str, npt.NDArray[np.float64]] = {}
    if problem.kind == "binary":
        whole = score_binary(names, truth, scores[:, 0])
    elif problem.kind == "regression":
        whole = score_regression(names, truth, scores[:, 0])
    elif problem.kind == "multiclass":
        whole = score_multiclass(names, truth, scores)
        found = np.bincount(truth, minlength=problem.n_columns)
        present = np.flatnonzero((found > 0) & (found < len(truth)))
        labels = [problem.labels[code] for code in present]
        each = score_labels(
            by_label,
            truth[:, None] == present,
            one_vs_rest(scores)[:, present],
            hard=scores.argmax(axis=1)[:, None] == present,
        )
    else:
        is_hard = protocol.multilabel_auc == "hard"
        truth, scores = truth[:, usable], scores[:, usable]
        labels = [label for label, use in zip(problem.labels, usable, strict=True) if use]
        whole = score_multilabel(names, truth, scores, ranks_hard=is_hard)
        each = score_labels(by_label, truth, scores, ranks_hard=is_hard)
    result = {("", name): value for name, value in whole.items()}
    for name, values in each.items():
        result |= {(label, name): float(value) for label, value in zip(labels, values, strict=True)}
    return result


def one_vs_rest(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log odds of each class against all others, (n, classes), from (n, classes) logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    top = logits.argmax(axis=1)[:, None]
    others = odds.copy()
    np.put_along_axis(others, top, 0.0, axis=1)
    others = others.sum(axis=1, keepdims=True)
    # Subtracting the greatest term from the sum would cancel, so it is left out of the sum.
    rest = 1.0 + others - odds
    np.put_along_axis(rest, top, others, axis=1)
    rest = np.maximum(rest, np.finfo(np.float64).tiny)
    result: npt.NDArray[np.float64] = shifted - np.log(rest)
    return result

"""Metrics: their ranges and directions, and their computation for thousands of columns at once.

Values equal scikit-learn's; multiclass and multi-label tasks use the weighted variants, under one
name for all kinds of task. Rank metrics are undefined for a class or label that is constant in the
held-out rows: callers must leave it out, as `evaluate` does. Uses numpy only, so that importing
the declarations stays cheap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.evaluation.ranks import mean_ranks, pearson, rank_columns
from genebench.probes.problem import NOT_SCORED, count_outcomes

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# scikit-learn clips probabilities here before it takes logarithms.
EPSILON = float(np.finfo(np.float64).eps)

CLASSES = frozenset({"binary", "multiclass", "multilabel"})


@dataclass(frozen=True)
class Metric:
    """Definition of one metric.

    Attributes:
        id: Name in all tables.
        title: Display name.
        low: Least value; None if unbounded.
        high: Greatest value; None if unbounded.
        is_greater_better: Direction; False for losses.
        chance: Value of a prediction without information; None if it depends on the task.
        kinds: Kinds of task the metric is defined for.
        note: How the metric is averaged over classes and labels.
    """

    id: str
    title: str
    low: float | None
    high: float | None
    is_greater_better: bool
    chance: float | None
    kinds: frozenset[str]
    note: str


_WEIGHTED = "multiclass and multi-label: mean over classes or labels weighted by their positives"
_NUMBERS = frozenset({"regression"})

METRICS: Mapping[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric("roc_auc", "ROC AUC", 0, 1, True, 0.5, CLASSES, f"one against rest; {_WEIGHTED}"),
        Metric("average_precision", "Average precision", 0, 1, True, None, CLASSES, _WEIGHTED),
        Metric("accuracy", "Accuracy", 0, 1, True, None, CLASSES, "multi-label: all labels right"),
        Metric("balanced_accuracy", "Balanced accuracy", 0, 1, True, None, CLASSES,
               "mean recall of the classes present; multi-label: weighted mean over labels"),
        Metric("precision", "Precision", 0, 1, True, None, CLASSES, f"0 if undefined; {_WEIGHTED}"),
        Metric("recall", "Recall", 0, 1, True, None, CLASSES, _WEIGHTED),
        Metric("f1", "F1", 0, 1, True, None, CLASSES, f"0 if undefined; {_WEIGHTED}"),
        Metric("mcc", "Matthews correlation", -1, 1, True, 0.0, CLASSES,
               "0 if undefined; multiclass: Gorodkin 2004; multi-label: weighted mean"),
        Metric("log_loss", "Log loss", 0, None, False, None, CLASSES,
               "natural logarithm, clipped as scikit-learn does; multi-label: mean over labels"),
        Metric("hamming_loss", "Hamming loss", 0, 1, False, None, frozenset({"multilabel"}),
               "share of wrong label assignments"),
        Metric("r2", "R²", None, 1, True, 0.0, _NUMBERS, "against the held-out mean"),
        Metric("rmse", "Root mean squared error", 0, None, False, None, _NUMBERS, ""),
        Metric("mae", "Mean absolute error", 0, None, False, None, _NUMBERS, ""),
        Metric("spearman", "Spearman correlation", -1, 1, True, 0.0, _NUMBERS,
               "0 if the prediction is constant"),
    )
}  # fmt: skip

# The metric by which encoders are compared, for each kind of task.
MAIN_METRICS: Mapping[str, str] = {
    "binary": "roc_auc",
    "multiclass": "roc_auc",
    "multilabel": "roc_auc",
    "regression": "r2",
}

LABEL_METRICS = frozenset(
    {"roc_auc", "average_precision", "accuracy", "balanced_accuracy"}
    | {"precision", "recall", "f1", "mcc", "log_loss"}
)


def score_labels(
    names: Iterable[str],
    truth: npt.NDArray[Any],
    scores: Floats,
    *,
    hard: Bools | None = None,
    ranks_hard: bool = False,
) -> dict[str, Floats]:
    """Compute metrics of many binary columns, each on its own.

    Args:
        names: Names in `LABEL_METRICS`.
        truth: (n, columns) of 0 and 1; for rank metrics every column needs both values. Cells that
            are NOT_SCORED are left out of their column.
        scores: (n, columns) log odds of 1.
        hard: (n, columns) hard predictions; by default 1 where the log odds are positive.
        ranks_hard: Compute rank metrics from the hard predictions instead of the scores, as the
            published pipeline did for multi-label tasks.

    Returns:
        (columns,) values by metric.

    Raises:
        ValueError: A rank metric is requested for a constant column, or a name is unknown.
    """
    wanted = list(names)
    if unknown := set(wanted) - LABEL_METRICS:
        raise ValueError(f"no label metric {sorted(unknown)}; choose from {sorted(LABEL_METRICS)}")
    hard = scores > 0 if hard is None else hard
    if not (is_scored := truth != NOT_SCORED).all():
        parts = []
        for column, use in enumerate(is_scored.T):
            cells = np.ix_(use, [column])
            parts.append(
                score_labels(
                    wanted, truth[cells], scores[cells], hard=hard[cells], ranks_hard=ranks_hard
                )
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    truth = np.asarray(truth, dtype=bool)
    result: dict[str, Floats] = {}
    if {"roc_auc", "average_precision"} & set(wanted):
        ranked = hard.astype(np.float64) if ranks_hard else scores
        result["roc_auc"], result["average_precision"] = rank_columns(truth, ranked)
    if "log_loss" in wanted:
        result["log_loss"] = _binary_losses(truth, scores).mean(axis=0)
    counts = {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc"}
    if counts & set(wanted):
        tp = (truth & hard).sum(axis=0)
        fp, fn = hard.sum(axis=0) - tp, truth.sum(axis=0) - tp
        result |= count_metrics(tp, fp, fn, len(truth) - tp - fp - fn)
    return {name: result[name] for name in wanted}


def score_binary(names: Iterable[str], truth: npt.NDArray[Any], scores: Floats) -> dict[str, float]:
    """Compute metrics of a binary task from (n,) truth of 0 and 1 and (n,) log odds."""
    values = score_labels(names, truth[:, None], scores.reshape(-1, 1))
    return {name: float(value[0]) for name, value in values.items()}


def score_multilabel(
    names: Iterable[str], truth: npt.NDArray[Any], scores: Floats, *, ranks_hard: bool = False
) -> dict[str, float]:
    """Compute metrics of a multi-label task.

    Args:
        names: Metrics of multi-label tasks.
        truth: (n, labels) of 0, 1 and NOT_SCORED, without constant labels.
        scores: (n, labels) log odds.
        ranks_hard: See `score_labels`.
    """
    wanted = list(names)
    is_wrong = ((truth == 1) != (scores > 0)) & (truth != NOT_SCORED)
    positives, n_scored = count_outcomes(truth)
    whole = {
        "accuracy": float((~is_wrong).all(axis=1).mean()),
        "hamming_loss": float(is_wrong.sum() / n_scored.sum()),
    }
    by_label = score_labels(
        [name for name in wanted if name not in whole], truth, scores, ranks_hard=ranks_hard
    )
    for name, values in by_label.items():
        whole[name] = float(
            values.mean() if name == "log_loss" else np.average(values, weights=positives)
        )
    return {name: whole[name] for name in wanted}


def score_multiclass(
    names: Iterable[str], codes: npt.NDArray[np.int64], logits: Floats
) -> dict[str, float]:
    """Compute metrics of a multiclass task; a class without a held-out sample has weight 0.

    Args:
        names: Metrics of multiclass tasks.
        codes: (n,) class codes.
        logits: (n, classes), whose softmax is the probability of each class.
    """
    wanted = list(names)
    n, classes = logits.shape
    log_probabilities = log_softmax(logits)
    hard = logits.argmax(axis=1)
    confusion = np.bincount(codes * classes + hard, minlength=classes**2).reshape(classes, classes)
    tp, support, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    counts = count_metrics(tp, predicted - tp, support - tp, n - predicted - support + tp)
    values = {name: counts[name] for name in ("precision", "recall", "f1")}
    present = support > 0
    if {"roc_auc", "average_precision"} & set(wanted):
        truth = codes[:, None] == np.arange(classes)[None]
        ranked = present & (support < n)
        for name in ("roc_auc", "average_precision"):
            values[name] = np.zeros(classes)
        values["roc_auc"][ranked], values["average_precision"][ranked] = rank_columns(
            truth[:, ranked], np.exp(log_probabilities[:, ranked])
        )
    whole = {name: float(np.average(value, weights=support)) for name, value in values.items()}
    whole["accuracy"] = float(tp.sum() / n)
    whole["balanced_accuracy"] = float((tp[present] / support[present]).mean())
    whole["log_loss"] = float(
        -np.maximum(log_probabilities[np.arange(n), codes], np.log(EPSILON)).mean()
    )
    whole["mcc"] = _multiclass_mcc(tp, support, predicted, n)
    return {name: whole[name] for name in wanted}


def score_regression(names: Iterable[str], truth: Floats, predicted: Floats) -> dict[str, float]:
    """Compute metrics of a regression task from (n,) numbers and (n,) predictions.

    Raises:
        ValueError: All numbers are equal.
    """
    error = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    if spread == 0:
        raise ValueError("R² is undefined for a constant target; leave it out before scoring")
    values = {
        "r2": 1 - float((error**2).sum()) / spread,
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
    }
    wanted = list(names)
    if "spearman" in wanted:
        values["spearman"] = pearson(mean_ranks(truth), mean_ranks(predicted))
    return {name: values[name] for name in wanted}


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities of (n, classes) logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _binary_losses(truth: Bools, scores: Floats) -> Floats:
    """-log P(truth) of each entry from log odds, without overflow, clipped like scikit-learn."""
    margin = np.where(truth, scores, -scores)
    losses: Floats = np.minimum(np.logaddexp(0.0, -margin), -np.log(EPSILON))
    return losses


def count_metrics(
    tp: npt.NDArray[Any], fp: npt.NDArray[Any], fn: npt.NDArray[Any], tn: npt.NDArray[Any]
) -> dict[str, Floats]:
    """Compute metrics of hard predictions from counts or sums of weights; 0 where undefined."""
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    n_rates = np.maximum(((tp + fn) > 0).astype(float) + ((tn + fp) > 0), 1)
    sizes = [np.sqrt(np.asarray(a, dtype=float)) for a in (tp + fp, tp + fn, tn + fp, tn + fn)]
    covariance = tp.astype(float) * tn - fp.astype(float) * fn
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (recall + specificity) / n_rates,
        "mcc": _ratio(covariance, sizes[0] * sizes[1] * sizes[2] * sizes[3]),
    }


def _multiclass_mcc(
    tp: npt.NDArray[np.int64],
    support: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    n: int,
) -> float:
    """Matthews correlation of a multiclass confusion matrix (Gorodkin 2004, equation 8)."""
    support_, predicted_ = support.astype(float), predicted.astype(float)
    covariance = float(tp.sum()) * n - float(support_ @ predicted_)
    size = (float(n) ** 2 - float(support_ @ support_)) * (
        float(n) ** 2 - float(predicted_ @ predicted_)
    )
    return covariance / float(np.sqrt(size)) if size > 0 else 0.0


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    """Quotients; 0 where the denominator is 0."""
    top, bottom = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    quotients: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return quotients

"""Each metric with its range and direction, computed for thousands of columns at once.

Values equal scikit-learn's (weighted variants for multiclass and multi-label tasks, under one name
for all kinds). Where scikit-learn would give NaN the caller must not ask: a class or label that is
constant in the held-out rows has no ranks, and `evaluate` leaves it out with a reason. Numpy only,
so that importing the declarations stays cheap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.evaluation.ranks import correlate, mean_ranks, rank_columns

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# scikit-learn clips probabilities here before it takes logarithms.
EPSILON = float(np.finfo(np.float64).eps)

CLASSES = frozenset({"binary", "multiclass", "multilabel"})


@dataclass(frozen=True)
class Metric:
    """A rule that gives a number.

    Attributes:
        id: Its name in every table.
        title: What people read.
        low: Least value, None if unbounded.
        high: Greatest value, None if unbounded.
        is_greater_better: Direction.
        chance: Value of a guess without information, None if it depends on the task.
        kinds: Kinds of task it is defined for.
        note: How it is averaged over classes and labels.
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

# What encoders are compared by on a task of each kind.
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
    """Score many binary columns, each by itself.

    Args:
        names: Metrics, of `LABEL_METRICS`.
        truth: (n, columns) of 0 and 1; every column has both where a rank metric is asked.
        scores: (n, columns) log odds of 1.
        hard: (n, columns) hard predictions; positive log odds if not given.
        ranks_hard: Rank the hard predictions in place of the scores, as the published pipeline did
            for multi-label tasks.

    Returns:
        (columns,) values by metric.

    Raises:
        ValueError: A rank metric is asked of a constant column, or a name is unknown.
    """
    wanted = list(names)
    if unknown := set(wanted) - LABEL_METRICS:
        raise ValueError(f"no label metric {sorted(unknown)}; there are {sorted(LABEL_METRICS)}")
    truth = np.asarray(truth, dtype=bool)
    hard = scores > 0 if hard is None else hard
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
    """Score one binary task: (n,) truth of 0 and 1, (n,) log odds."""
    values = score_labels(names, truth[:, None], scores.reshape(-1, 1))
    return {name: float(value[0]) for name, value in values.items()}


def score_multilabel(
    names: Iterable[str], truth: npt.NDArray[Any], scores: Floats, *, ranks_hard: bool = False
) -> dict[str, float]:
    """Score one multi-label task.

    Args:
        names: Metrics of multi-label tasks.
        truth: (n, labels) of 0 and 1, no label constant.
        scores: (n, labels) log odds.
        ranks_hard: See `score_labels`.
    """
    wanted = list(names)
    truth = np.asarray(truth, dtype=bool)
    right = truth == (scores > 0)
    own = {"accuracy": float(right.all(axis=1).mean()), "hamming_loss": float((~right).mean())}
    by_label = score_labels(
        [name for name in wanted if name not in own], truth, scores, ranks_hard=ranks_hard
    )
    weights = truth.sum(axis=0)
    for name, values in by_label.items():
        own[name] = float(
            values.mean() if name == "log_loss" else np.average(values, weights=weights)
        )
    return {name: own[name] for name in wanted}


def score_multiclass(
    names: Iterable[str], codes: npt.NDArray[np.int64], logits: Floats
) -> dict[str, float]:
    """Score one multiclass task.

    Args:
        names: Metrics of multiclass tasks.
        codes: (n,) class codes.
        logits: (n, classes), whose softmax is the probability of each class.

    A class without a held-out sample weighs nothing.
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
    whole["mcc"] = _gorodkin(tp, support, predicted, n)
    return {name: whole[name] for name in wanted}


def score_regression(names: Iterable[str], truth: Floats, predicted: Floats) -> dict[str, float]:
    """Score one regression task: (n,) numbers, not all equal, and (n,) predictions."""
    error = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    if spread == 0:
        raise ValueError("a constant target has no R² and no ranks; leave it out before scoring")
    values = {
        "r2": 1 - float((error**2).sum()) / spread,
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
    }
    wanted = list(names)
    if "spearman" in wanted:
        values["spearman"] = correlate(mean_ranks(truth), mean_ranks(predicted))
    return {name: values[name] for name in wanted}


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the probabilities that (n, classes) logits stand for."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _binary_losses(truth: Bools, scores: Floats) -> Floats:
    """-log P(truth) of each entry from log odds, without overflow, clipped as scikit-learn does."""
    margin = np.where(truth, scores, -scores)
    losses: Floats = np.minimum(np.logaddexp(0.0, -margin), -np.log(EPSILON))
    return losses


def count_metrics(
    tp: npt.NDArray[Any], fp: npt.NDArray[Any], fn: npt.NDArray[Any], tn: npt.NDArray[Any]
) -> dict[str, Floats]:
    """Metrics of hard predictions from counts, or sums of weights, of one shape; 0 if undefined."""
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


def _gorodkin(
    tp: npt.NDArray[np.int64],
    support: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    n: int,
) -> float:
    """Correlation of a whole confusion matrix (Gorodkin 2004, equation 8)."""
    support_, predicted_ = support.astype(float), predicted.astype(float)
    covariance = float(tp.sum()) * n - float(support_ @ predicted_)
    size = (float(n) ** 2 - float(support_ @ support_)) * (
        float(n) ** 2 - float(predicted_ @ predicted_)
    )
    return covariance / float(np.sqrt(size)) if size > 0 else 0.0


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    """Quotients, 0 where nothing is divided by nothing."""
    top, bottom = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    quotients: Floats = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return quotients

"""Scores of weighted rows, for many weightings at once: the arithmetic under every bootstrap.

A bootstrap sample is a weight for each row. Weights are drawn from the exponential distribution
(the Bayesian bootstrap, Rubin 1981) and not as counts, because a fold of a small task would lack a
class in many samples of its rows; the variance is the same to the first order. Each value equals
what `metrics` gives of rows repeated by whole-number weights.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.evaluation.metrics import EPSILON, count_metrics, log_softmax
from genebench.evaluation.statistics.weighted_ranks import Weights, add_up, divide, weigh_columns
from genebench.probes.declaration import Kind

Floats = npt.NDArray[np.float64]

# Rows times draws worked on at once: 32 MB.
BLOCK_ENTRIES = 1 << 22


def draw_weights(
    rows: npt.NDArray[np.int64], draws: int, seed: int, chosen: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    """Draw weights of samples by their entities, in blocks of draws.

    A sample's weight is the product of its entities' (Owen and Eckles 2012, equation 4): samples
    that share an entity vary together, as pairs with a common gene do. The weights depend on the
    sorted entities and the seed alone, so encoders that are scored on the same samples get the same
    draws, and their differences are paired.

    Args:
        rows: (n, positions) int64, an entity's number in the order of the sorted ids.
        draws: Number of draws.
        seed: Of the draws.
        chosen: (m,) rows of `rows` to give weights of.

    Yields:
        (m, draws of the block) weights, float32.
    """
    entities, places = np.unique(rows, return_inverse=True)
    places = places.reshape(rows.shape)[chosen]
    drawn = _draw_entities(len(entities), draws, seed)
    step = max(1, BLOCK_ENTRIES // max(len(places), 1))
    for start in range(0, draws, step):
        block = slice(start, min(start + step, draws))
        weights = drawn[places[:, 0], block]
        for position in range(1, places.shape[1]):
            weights *= drawn[places[:, position], block]
        yield weights


@functools.lru_cache(maxsize=1)
def _draw_entities(n: int, draws: int, seed: int) -> npt.NDArray[np.float32]:
    """(n, draws) weights; kept, because the tasks of one universe often have as many entities."""
    rng = np.random.default_rng([seed, n])
    return rng.standard_exponential((n, draws), dtype=np.float32)


def score_weighted(
    kind: Kind,
    names: Iterable[str],
    truth: npt.NDArray[Any],
    scores: Floats,
    weights: Weights,
    *,
    ranks_hard: bool = False,
) -> dict[str, Floats]:
    """Score one fold of a task under many weightings of its rows.

    Args:
        kind: The task's kind.
        names: Metrics of that kind.
        truth: (n,) or, for multi-label tasks, (n, labels), as `Problem.targets`.
        scores: (n, columns) as a probe gives them.
        weights: (n, draws) positive weights; sums over rows have their precision.
        ranks_hard: Rank hard predictions of multi-label tasks, as the published pipeline.

    Returns:
        (draws,) values by metric.
    """
    wanted = list(names)
    match kind:
        case "binary":
            values = weigh_labels(wanted, truth[:, None] > 0, scores, scores > 0, weights)
            return {name: value[0] for name, value in values.items()}
        case "multilabel":
            return _weigh_multilabel(wanted, truth > 0, scores, weights, ranks_hard)
        case "multiclass":
            return _weigh_multiclass(wanted, truth, scores, weights)
        case "regression":
            return _weigh_regression(wanted, truth, scores[:, 0], weights)


def weigh_labels(
    names: list[str],
    truth: npt.NDArray[np.bool_],
    scores: Floats,
    hard: npt.NDArray[np.bool_],
    weights: Weights,
    ranked: Floats | None = None,
) -> dict[str, Floats]:
    """Score many binary columns, each by itself: (columns, draws) values by metric."""
    values: dict[str, Floats] = {}
    if {"roc_auc", "average_precision"} & set(names):
        ranked = scores if ranked is None else ranked
        values["roc_auc"], values["average_precision"] = weigh_columns(truth, ranked, weights)
    if "log_loss" in names:
        margin = np.where(truth, scores, -scores)
        losses = np.minimum(np.logaddexp(0.0, -margin), -np.log(EPSILON))
        values["log_loss"] = add_up(losses, weights) / weights.sum(axis=0, dtype=float)
    if set(names) - set(values):
        tp = add_up(truth & hard, weights)
        predicted, support = add_up(hard, weights), add_up(truth, weights)
        fp, fn = _residue(predicted, tp), _residue(support, tp)
        values |= count_metrics(
            tp, fp, fn, _residue(weights.sum(axis=0, dtype=float), tp + fp + fn)
        )
    return {name: values[name] for name in names}


def _weigh_multilabel(
    names: list[str],
    truth: npt.NDArray[np.bool_],
    scores: Floats,
    weights: Weights,
    ranks_hard: bool,
) -> dict[str, Floats]:
    hard = scores > 0
    right = truth == hard
    total = weights.sum(axis=0, dtype=float)
    values = {
        "accuracy": add_up(right.all(axis=1), weights) / total,
        "hamming_loss": add_up((~right).mean(axis=1), weights) / total,
    }
    others = [name for name in names if name not in values]
    ranked = hard.astype(float) if ranks_hard else scores
    support = add_up(truth, weights)
    for name, value in weigh_labels(others, truth, scores, hard, weights, ranked).items():
        values[name] = (
            value.mean(axis=0) if name == "log_loss" else np.average(value, axis=0, weights=support)
        )
    return {name: values[name] for name in names}


def _weigh_multiclass(
    names: list[str], codes: npt.NDArray[np.int64], logits: Floats, weights: Weights
) -> dict[str, Floats]:
    n, classes = logits.shape
    logs, total = log_softmax(logits), weights.sum(axis=0, dtype=float)
    truth = codes[:, None] == np.arange(classes)
    hard = logits.argmax(axis=1)[:, None] == np.arange(classes)
    support, predicted = add_up(truth, weights), add_up(hard, weights)
    tp = add_up(truth & hard, weights)
    fp, fn = _residue(predicted, tp), _residue(support, tp)
    each = count_metrics(tp, fp, fn, _residue(total, tp + fp + fn))
    if {"roc_auc", "average_precision"} & set(names):
        each["roc_auc"], each["average_precision"] = weigh_columns(truth, np.exp(logs), weights)
    whole: dict[str, Floats] = {
        name: np.average(each[name], axis=0, weights=support)
        for name in ("precision", "recall", "f1", "roc_auc", "average_precision")
        if name in each
    }
    present = truth.any(axis=0)
    whole["accuracy"] = tp.sum(axis=0) / total
    whole["balanced_accuracy"] = (tp[present] / support[present]).mean(axis=0)
    own = np.maximum(logs[np.arange(n), codes], np.log(EPSILON))
    whole["log_loss"] = add_up(-own, weights) / total
    # Gorodkin 2004, equation 8, of each weighted confusion matrix.
    covariance = tp.sum(axis=0) * total - (support * predicted).sum(axis=0)
    size = (total**2 - (support**2).sum(axis=0)) * (total**2 - (predicted**2).sum(axis=0))
    whole["mcc"] = divide(covariance, np.sqrt(np.maximum(size, 0.0)))
    return {name: whole[name] for name in names}


def _weigh_regression(
    names: list[str], truth: Floats, predicted: Floats, weights: Weights
) -> dict[str, Floats]:
    total = weights.sum(axis=0, dtype=float)
    error = predicted - truth
    squares = add_up(error**2, weights)
    # About the plain mean first: the weighted spread would cancel for numbers far from zero.
    centred = truth - truth.mean()
    spread = add_up(centred**2, weights) - add_up(centred, weights) ** 2 / total
    values = {
        "r2": 1 - squares / spread,
        "rmse": np.sqrt(squares / total),
        "mae": add_up(np.abs(error), weights) / total,
    }
    if "spearman" in names:
        values["spearman"] = _correlate(
            _weigh_positions(truth, weights), _weigh_positions(predicted, weights), weights
        )
    return {name: values[name] for name in names}


def _weigh_positions(values: Floats, weights: Weights) -> Floats:
    """(n, draws) mean ranks of (n,) values under weights, up to a constant."""
    order = np.argsort(values, kind="stable")
    keys = values[order]
    below = np.zeros((len(values) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])
    first = below[np.searchsorted(keys, values, "left")]
    ranks: Floats = (first + below[np.searchsorted(keys, values, "right")]) / 2
    return ranks


def _correlate(left: Floats, right: Floats, weights: Weights) -> Floats:
    total = weights.sum(axis=0, dtype=float)
    left = left - (weights * left).sum(axis=0) / total
    right = right - (weights * right).sum(axis=0) / total
    size = np.sqrt((weights * left**2).sum(axis=0) * (weights * right**2).sum(axis=0))
    return divide((weights * left * right).sum(axis=0), size)


def _residue(whole: Floats, part: Floats) -> Floats:
    """A difference that rounding may leave a hair below zero."""
    left: Floats = np.where(whole - part > 1e-12 * np.maximum(whole, 1.0), whole - part, 0.0)
    return left

"""Bootstrap weights, and the metrics of weighted rows for many weightings at once.

A bootstrap sample is a weight for each row. Weights are drawn from the exponential distribution
(the Bayesian bootstrap, Rubin 1981). Integer counts would leave many samples of a small fold
without one class; the variance is the same to first order. With integer weights, each value equals
the value that `metrics` computes on rows repeated that often.
"""

import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.evaluation.metrics import EPSILON, count_metrics, log_softmax
from genebench.evaluation.statistics.weighted_ranks import (
    RANK_METRICS,
    Weights,
    safe_divide,
    weighted_column_rank_metrics,
    weighted_sums,
)
from genebench.probes.declaration import NOT_SCORED, Kind

Floats = npt.NDArray[np.float64]

# Rows times draws in one block: 32 MB as float64.
BLOCK_ENTRIES = 1 << 22

# Folds are scored in threads, and each of them would draw what the cache does not hold yet.
_ENTITY_LOCK = threading.Lock()


def draw_weights(
    rows: npt.NDArray[np.int64], draws: int, seed: int, chosen: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    """Draw bootstrap weights of samples, in blocks of draws.

    Each entity draws a weight; the weight of a sample is the product of the weights of its entities
    (Owen and Eckles 2012, equation 4), so that pairs with a common gene vary together. The weights
    depend only on the sorted entities and the seed. Encoders scored on the same samples therefore
    get the same draws, and their differences are paired.

    Args:
        rows: (n, positions) int64, positions of the entities in the sorted ids.
        draws: Number of draws.
        seed: Seed of the draws.
        chosen: (m,) int64, the samples to return weights for.

    Yields:
        (m, draws of the block) float32 weights.
    """
    if len(chosen) * draws <= BLOCK_ENTRIES:
        as_bytes = (array.astype(np.int64).tobytes() for array in (rows, chosen))
        yield _draw_fold(*as_bytes, rows.shape, draws, seed)
    else:
        yield from _draw_blocks(rows, draws, seed, chosen)


# Several encoders are scored one after the other on the five folds of a task; 16 MB a fold.
@functools.lru_cache(maxsize=5)
def _draw_fold(
    rows: bytes, chosen: bytes, shape: tuple[int, ...], draws: int, seed: int
) -> npt.NDArray[np.float32]:
    """The weights of one fold, in one block; arrays are given as bytes, which can be hashed."""
    positions = np.frombuffer(rows, np.int64).reshape(shape)
    (weights,) = _draw_blocks(positions, draws, seed, np.frombuffer(chosen, np.int64))
    weights.flags.writeable = False
    return weights


def _draw_blocks(
    rows: npt.NDArray[np.int64], draws: int, seed: int, chosen: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    entities, entity_rows = np.unique(rows, return_inverse=True)
    entity_rows = entity_rows.reshape(rows.shape)[chosen]
    with _ENTITY_LOCK:
        drawn = _draw_entities(len(entities), draws, seed)
    step = max(1, BLOCK_ENTRIES // max(len(entity_rows), 1))
    for start in range(0, draws, step):
        block = slice(start, min(start + step, draws))
        weights = drawn[entity_rows[:, 0], block]
        for position in range(1, entity_rows.shape[1]):
            weights *= drawn[entity_rows[:, position], block]
        yield weights


@functools.lru_cache(maxsize=1)
def _draw_entities(n: int, draws: int, seed: int) -> npt.NDArray[np.float32]:
    """(n, draws) weights; cached, because tasks of a universe often have the same entities."""
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
    """Compute metrics of one fold under many weightings of its rows.

    Args:
        kind: Kind of the task.
        names: Metrics of this kind.
        truth: (n,) or, for multi-label tasks, (n, labels), as `Problem.truth` returns it.
        scores: (n, columns), as `FoldOutput.scores`.
        weights: (n, draws) positive weights; sums over rows use their dtype.
        ranks_hard: See `metrics.score_labels`; for multi-label tasks.

    Returns:
        (draws,) values by metric.
    """
    wanted = list(names)
    match kind:
        case "binary":
            values = score_weighted_labels(wanted, truth[:, None] > 0, scores, scores > 0, weights)
            return {name: value[0] for name, value in values.items()}
        case "multilabel":
            return _score_multilabel(wanted, truth, scores, weights, ranks_hard)
        case "multiclass":
            return _score_multiclass(wanted, truth, scores, weights)
        case "regression":
            return _score_regression(wanted, truth, scores[:, 0], weights)


def score_weighted_labels(
    names: list[str],
    truth: npt.NDArray[np.bool_],
    scores: Floats,
    hard: npt.NDArray[np.bool_],
    weights: Weights,
    ranked: Floats | None = None,
    is_scored: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Floats]:
    """Compute metrics of many binary columns, each on its own: (columns, draws) by metric.

    Args:
        names: Metrics of binary tasks.
        truth: (n, columns) bool.
        scores: (n, columns) decision values.
        hard: (n, columns) bool, the predicted classes.
        weights: (n, draws) positive weights.
        ranked: (n, columns), what rank metrics rank; the scores by default.
        is_scored: (n, columns) bool, the cells that count; all by default.
    """
    values: dict[str, Floats] = {}
    if by_rank := [name for name in RANK_METRICS if name in names]:
        ranked = scores if ranked is None else ranked
        values |= weighted_column_rank_metrics(truth, ranked, weights, by_rank, is_scored)
    if not set(names) - set(values):
        return {name: values[name] for name in names}
    counts, total = np.ones_like(truth), weights.sum(axis=0, dtype=float)
    if is_scored is not None:
        counts, total = is_scored, weighted_sums(is_scored, weights)
    if "log_loss" in names:
        margin = np.where(truth, scores, -scores)
        losses = np.minimum(np.logaddexp(0.0, -margin), -np.log(EPSILON)) * counts
        values["log_loss"] = weighted_sums(losses, weights) / total
    if set(names) - set(values):
        truth, hard = truth & counts, hard & counts
        tp = weighted_sums(truth & hard, weights)
        predicted, support = weighted_sums(hard, weights), weighted_sums(truth, weights)
        fp, fn = _subtract(predicted, tp), _subtract(support, tp)
        values |= count_metrics(tp, fp, fn, _subtract(total, tp + fp + fn))
    return {name: values[name] for name in names}


def _score_multilabel(
    names: list[str],
    truth: npt.NDArray[Any],
    scores: Floats,
    weights: Weights,
    ranks_hard: bool,
) -> dict[str, Floats]:
    hard = scores > 0
    is_present, is_scored = truth == 1, truth != NOT_SCORED
    values: dict[str, Floats] = {}
    others = [name for name in names if name not in ("accuracy", "hamming_loss")]
    if len(others) < len(names):
        is_wrong = (is_present != hard) & is_scored
        total = weights.sum(axis=0, dtype=float)
        values["accuracy"] = weighted_sums((~is_wrong).all(axis=1), weights) / total
        n_cells = total if is_scored.all() else weighted_sums(is_scored.mean(axis=1), weights)
        values["hamming_loss"] = weighted_sums(is_wrong.mean(axis=1), weights) / n_cells
    ranked = hard.astype(float) if ranks_hard else scores
    support = weighted_sums(is_present, weights)
    counts = None if is_scored.all() else is_scored
    by_label = score_weighted_labels(others, is_present, scores, hard, weights, ranked, counts)
    for name, value in by_label.items():
        values[name] = (
            value.mean(axis=0) if name == "log_loss" else np.average(value, axis=0, weights=support)
        )
    return {name: values[name] for name in names}


def _score_multiclass(
    names: list[str], codes: npt.NDArray[np.int64], logits: Floats, weights: Weights
) -> dict[str, Floats]:
    n, classes = logits.shape
    logs, total = log_softmax(logits), weights.sum(axis=0, dtype=float)
    truth = codes[:, None] == np.arange(classes)
    hard = logits.argmax(axis=1)[:, None] == np.arange(classes)
    support, predicted = weighted_sums(truth, weights), weighted_sums(hard, weights)
    tp = weighted_sums(truth & hard, weights)
    fp, fn = _subtract(predicted, tp), _subtract(support, tp)
    each = count_metrics(tp, fp, fn, _subtract(total, tp + fp + fn))
    if by_rank := [name for name in RANK_METRICS if name in names]:
        each |= weighted_column_rank_metrics(truth, np.exp(logs), weights, by_rank)
    whole: dict[str, Floats] = {
        name: np.average(each[name], axis=0, weights=support)
        for name in ("precision", "recall", "f1", "roc_auc", "average_precision")
        if name in each
    }
    present = truth.any(axis=0)
    whole["accuracy"] = tp.sum(axis=0) / total
    whole["balanced_accuracy"] = (tp[present] / support[present]).mean(axis=0)
    log_likelihood = np.maximum(logs[np.arange(n), codes], np.log(EPSILON))
    whole["log_loss"] = weighted_sums(-log_likelihood, weights) / total
    # Gorodkin 2004, equation 8, of each weighted confusion matrix.
    covariance = tp.sum(axis=0) * total - (support * predicted).sum(axis=0)
    size = (total**2 - (support**2).sum(axis=0)) * (total**2 - (predicted**2).sum(axis=0))
    whole["mcc"] = safe_divide(covariance, np.sqrt(np.maximum(size, 0.0)))
    return {name: whole[name] for name in names}


def _score_regression(
    names: list[str], truth: Floats, predicted: Floats, weights: Weights
) -> dict[str, Floats]:
    total = weights.sum(axis=0, dtype=float)
    error = predicted - truth
    squares = weighted_sums(error**2, weights)
    # Centring first avoids cancellation in the weighted variance of numbers far from zero.
    centred = truth - truth.mean()
    spread = weighted_sums(centred**2, weights) - weighted_sums(centred, weights) ** 2 / total
    values = {
        "r2": 1 - squares / spread,
        "rmse": np.sqrt(squares / total),
        "mae": weighted_sums(np.abs(error), weights) / total,
    }
    if "spearman" in names:
        values["spearman"] = _weighted_correlation(
            _weighted_ranks(truth, weights), _weighted_ranks(predicted, weights), weights
        )
    return {name: values[name] for name in names}


def _weighted_ranks(values: Floats, weights: Weights) -> Floats:
    """(n, draws) mean ranks of (n,) values under weights, up to an additive constant."""
    order = np.argsort(values, kind="stable")
    keys = values[order]
    below = np.zeros((len(values) + 1, weights.shape[1]))
    np.cumsum(weights[order], axis=0, out=below[1:])
    first = below[np.searchsorted(keys, values, "left")]
    ranks: Floats = (first + below[np.searchsorted(keys, values, "right")]) / 2
    return ranks


def _weighted_correlation(left: Floats, right: Floats, weights: Weights) -> Floats:
    total = weights.sum(axis=0, dtype=float)
    left = left - (weights * left).sum(axis=0) / total
    right = right - (weights * right).sum(axis=0) / total
    size = np.sqrt((weights * left**2).sum(axis=0) * (weights * right**2).sum(axis=0))
    return safe_divide((weights * left * right).sum(axis=0), size)


def _subtract(whole: Floats, part: Floats) -> Floats:
    """Difference of weight sums; 0 where it is below rounding error."""
    left: Floats = np.where(whole - part > 1e-12 * np.maximum(whole, 1.0), whole - part, 0.0)
    return left

"""Rank statistics: ROC AUC and average precision of many columns, normal scores, correlation."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COLUMNS_AT_ONCE = 64


def rank_columns(truth: Bools, scores: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Compute ROC AUC and average precision of many columns; ties count half.

    Args:
        truth: (n, columns) bool, each column with both values.
        scores: (n, columns), greater for more likely.

    Returns:
        (columns,) ROC AUC and (columns,) average precision.

    Raises:
        ValueError: A column of `truth` is constant.
    """
    n, columns = truth.shape
    positives = truth.sum(axis=0)
    if ((positives == 0) | (positives == n)).any():
        raise ValueError("ROC AUC is undefined for a constant column; leave it out before scoring")
    auc, precision = np.empty(columns), np.empty(columns)
    for start in range(0, columns, COLUMNS_AT_ONCE):
        block = slice(start, start + COLUMNS_AT_ONCE)
        auc[block], precision[block] = _rank_block(truth[:, block].T, -scores[:, block].T)
    return auc, precision


def _rank_block(truth: Bools, keys: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Like `rank_columns`, for (columns, n) arrays whose smallest key is the most likely."""
    columns, n = truth.shape
    order = np.argsort(keys, axis=1)
    keys = np.take_along_axis(keys, order, axis=1)
    cumulative = np.cumsum(np.take_along_axis(truth, order, axis=1), axis=1)
    is_last = np.ones((columns, n), dtype=bool)
    np.not_equal(keys[:, :-1], keys[:, 1:], out=is_last[:, :-1])
    column, position = np.nonzero(is_last)
    true_positives = cumulative[column, position].astype(np.float64)
    false_positives = position + 1 - true_positives
    is_first = np.append(True, column[1:] != column[:-1])
    previous_true = np.where(is_first, 0.0, np.roll(true_positives, 1))
    previous_false = np.where(is_first, 0.0, np.roll(false_positives, 1))
    positives = cumulative[:, -1].astype(np.float64)
    steps = (false_positives - previous_false) * (true_positives + previous_true)
    auc = np.bincount(column, steps, columns) / (2 * positives * (n - positives))
    steps = (true_positives - previous_true) * (true_positives / (true_positives + false_positives))
    return auc, np.bincount(column, steps, columns) / positives


def mean_ranks(values: Floats) -> Floats:
    """Ranks of (n,) values, starting at 1; ties get their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Floats = (last - (sizes - 1) / 2)[group]
    return ranks


def normal_scores(values: Floats) -> Floats:
    """Normal scores of (n,) numbers: standard normal quantiles of their ranks.

    Van der Waerden 1952, with Hazen's plotting positions (rank - 1/2) / n; ties get their mean
    rank.
    """
    from scipy.special import ndtri

    scores: Floats = ndtri((mean_ranks(values) - 0.5) / len(values))
    return scores


def pearson(left: Floats, right: Floats) -> float:
    """Pearson correlation of two (n,) arrays; 0 if one is constant."""
    left, right = left - left.mean(), right - right.mean()
    size = np.sqrt((left @ left) * (right @ right))
    return float(np.clip(left @ right / size, -1, 1)) if size > 0 else 0.0

"""Ranks: what metrics need of them, for many columns at once, and numbers made of them."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COLUMNS_AT_ONCE = 64


def rank_columns(truth: Bools, scores: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of many columns; ties count half.

    Args:
        truth: (n, columns) bool, each column with both values.
        scores: (n, columns), greater for more likely.

    Returns:
        Two (columns,) arrays.

    Raises:
        ValueError: A column of `truth` is constant.
    """
    n, columns = truth.shape
    positives = truth.sum(axis=0)
    if ((positives == 0) | (positives == n)).any():
        raise ValueError("a constant column has no ranks; leave it out before scoring")
    area, precision = np.empty(columns), np.empty(columns)
    for start in range(0, columns, COLUMNS_AT_ONCE):
        block = slice(start, start + COLUMNS_AT_ONCE)
        area[block], precision[block] = _rank_block(truth[:, block].T, -scores[:, block].T)
    return area, precision


def _rank_block(truth: Bools, keys: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """The same for (columns, n) arrays of which the smallest key is the most likely."""
    columns, n = truth.shape
    order = np.argsort(keys, axis=1)
    keys = np.take_along_axis(keys, order, axis=1)
    found = np.cumsum(np.take_along_axis(truth, order, axis=1), axis=1)
    is_last = np.ones((columns, n), dtype=bool)
    np.not_equal(keys[:, :-1], keys[:, 1:], out=is_last[:, :-1])
    column, position = np.nonzero(is_last)
    true = found[column, position].astype(np.float64)
    false = position + 1 - true
    is_first = np.append(True, column[1:] != column[:-1])
    before_true = np.where(is_first, 0.0, np.roll(true, 1))
    before_false = np.where(is_first, 0.0, np.roll(false, 1))
    positives = found[:, -1].astype(np.float64)
    steps = (false - before_false) * (true + before_true)
    area = np.bincount(column, steps, columns) / (2 * positives * (n - positives))
    steps = (true - before_true) * (true / (true + false))
    return area, np.bincount(column, steps, columns) / positives


def mean_ranks(values: Floats) -> Floats:
    """Ranks from 1 of (n,) values; ties share their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Floats = (last - (sizes - 1) / 2)[group]
    return ranks


def normal_scores(values: Floats) -> Floats:
    """What (n,) numbers of these ranks would be, were they drawn from the standard normal.

    Van der Waerden 1952, with Hazen's plotting positions (rank - 1/2) / n; ties share their mean
    rank.
    """
    from scipy.special import ndtri

    scores: Floats = ndtri((mean_ranks(values) - 0.5) / len(values))
    return scores


def correlate(left: Floats, right: Floats) -> float:
    """Pearson correlation of two (n,) arrays; 0 if one is constant."""
    left, right = left - left.mean(), right - right.mean()
    size = np.sqrt((left @ left) * (right @ right))
    return float(np.clip(left @ right / size, -1, 1)) if size > 0 else 0.0

"""Rank metrics of weighted rows, for many weightings at once."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.floating[Any]]

# Above so many rows, and so many of the rarer class, rank metrics are replicated by their first
# derivatives: the spread differs by less than 6 % (tests), the time by a factor of twenty.
LINEAR_ROWS, LINEAR_RARER = 1000, 100


def weigh_ranks(
    truth: npt.NDArray[np.bool_], scores: Floats, weights: Weights
) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of (n,) scores under (n, draws) weights.

    Ties count half. Both are 0 where a class has no row or no weight.
    """
    positives, negatives = weights[truth], weights[~truth]
    order = np.argsort(-scores[truth], kind="stable")
    positives, keys, others = positives[order], scores[truth][order], scores[~truth]
    # Products of few positives with many negatives, rather than sums along a sorted column.
    above, upto = others > keys[:, None], others >= keys[:, None]
    before = add_up(above.T, negatives)
    until = before if (above == upto).all() else add_up(upto.T, negatives)
    found = np.cumsum(positives, axis=0, dtype=float)
    hits = found[np.searchsorted(-keys, -keys, "right") - 1]
    total, rest = (part.sum(axis=0, dtype=float) for part in (positives, negatives))
    wins = np.einsum("nd,nd->d", positives, rest - (before + until) / 2)
    precise = np.einsum("nd,nd->d", positives, divide(hits, hits + until))
    return divide(wins, total * rest), divide(precise, total)


def weigh_columns(
    truth: npt.NDArray[np.bool_], scores: Floats, weights: Weights
) -> tuple[Floats, Floats]:
    """Two (columns, draws) arrays: area under the ROC curve and average precision."""
    n, columns = truth.shape
    area, precision = np.empty((2, columns, weights.shape[1]))
    positives = truth.sum(axis=0)
    is_linear = (n > LINEAR_ROWS) & (np.minimum(positives, n - positives) >= LINEAR_RARER)
    for column in np.flatnonzero(~is_linear):
        area[column], precision[column] = weigh_ranks(truth[:, column], scores[:, column], weights)
    chosen = np.flatnonzero(is_linear)
    if len(chosen):
        found = [derive_ranks(truth[:, column], scores[:, column]) for column in chosen]
        centred = weights / weights.mean(axis=0) - 1
        for place, result in enumerate((area, precision)):
            value = np.array([one[place] for one in found])
            slopes = np.stack([one[2 + place] for one in found], axis=1)
            drawn = value[:, None] + add_up(slopes, centred)
            result[chosen] = np.clip(drawn, 0.0, 1.0)
    return area, precision


def derive_ranks(
    truth: npt.NDArray[np.bool_], scores: Floats
) -> tuple[float, float, Floats, Floats]:
    """Rank metrics of (n,) scores, and what each row's weight changes in them.

    The derivatives of the area are DeLong's structural components (DeLong and others 1988).

    Returns:
        Area under the ROC curve, average precision, and the (n,) derivatives of both by the
        weights, where all weights are one.
    """
    n = len(truth)
    order = np.argsort(-scores, kind="stable")
    keys, is_positive = -scores[order], truth[order]
    last = np.searchsorted(keys, keys, "right")
    first = np.searchsorted(keys, keys, "left")
    hits = np.append(0, np.cumsum(is_positive))
    positives, negatives = int(hits[-1]), n - int(hits[-1])
    better_positives = (hits[first] + hits[last]) / 2
    worse_negatives = negatives - ((first - hits[first]) + (last - hits[last])) / 2
    wins = np.where(is_positive, worse_negatives / negatives, better_positives / positives)
    area = float(wins[is_positive].mean())
    area_slopes, precision_slopes = np.empty((2, n))
    area_slopes[order] = (wins - area) / np.where(is_positive, positives, negatives)
    precise = hits[last] / last
    precision = float(precise[is_positive].mean())
    # A row lowers, or raises, the precision at every positive that is not ranked above it.
    loss = np.append(0, np.cumsum(np.where(is_positive, precise / last, 0)))
    gain = np.append(0, np.cumsum(np.where(is_positive, 1 / last, 0)))
    below = gain[-1] - gain[first], loss[-1] - loss[first]
    precision_slopes[order] = (
        np.where(is_positive, precise - precision + below[0], 0) - below[1]
    ) / positives
    return area, precision, area_slopes, precision_slopes


def add_up(values: npt.NDArray[Any], weights: Weights) -> Floats:
    """Sum (n,) or (n, columns) values under (n, draws) weights: (draws,) or (columns, draws)."""
    sums: Floats = (values.T.astype(weights.dtype) @ weights).astype(np.float64, copy=False)
    return sums


def divide(above: Floats, below: Floats) -> Floats:
    """Quotients, 0 where nothing is divided by nothing."""
    shares: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return shares

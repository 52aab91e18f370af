"""ROC AUC and average precision of weighted rows, for many weightings at once."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.floating[Any]]

# Above this many rows, and this many of the minority class, weighted rank metrics are computed to
# first order: 20x faster, and their standard deviation differs by less than 6 % (tests).
LINEAR_ROWS, LINEAR_MINORITY = 1000, 100


def weighted_rank_metrics(
    truth: npt.NDArray[np.bool_], scores: Floats, weights: Weights
) -> tuple[Floats, Floats]:
    """Compute ROC AUC and average precision of (n,) scores under (n, draws) weights.

    Ties count half. Both are 0 where a class has no row or weight 0.

    Returns:
        (draws,) ROC AUC and (draws,) average precision.
    """
    positives, negatives = weights[truth], weights[~truth]
    order = np.argsort(-scores[truth], kind="stable")
    positives, keys, others = positives[order], scores[truth][order], scores[~truth]
    # Matrix products of positives with negatives are faster than sums along a sorted column.
    # Equal positives need one row of them.
    distinct, place = np.unique(keys, return_inverse=True)
    above, upto = others > distinct[:, None], others >= distinct[:, None]
    before = weighted_sums(above.T, negatives)
    until = before if (above == upto).all() else weighted_sums(upto.T, negatives)
    before, until = before[place], until[place]
    cumulative = np.cumsum(positives, axis=0, dtype=float)
    hits = cumulative[np.searchsorted(-keys, -keys, "right") - 1]
    total, rest = (part.sum(axis=0, dtype=float) for part in (positives, negatives))
    wins = np.einsum("nd,nd->d", positives, rest - (before + until) / 2)
    precision_at = np.einsum("nd,nd->d", positives, safe_divide(hits, hits + until))
    return safe_divide(wins, total * rest), safe_divide(precision_at, total)


def weighted_column_rank_metrics(
    truth: npt.NDArray[np.bool_], scores: Floats, weights: Weights
) -> tuple[Floats, Floats]:
    """Compute (columns, draws) ROC AUC and average precision of many columns."""
    n, columns = truth.shape
    auc, precision = np.empty((2, columns, weights.shape[1]))
    positives = truth.sum(axis=0)
    is_linear = (n > LINEAR_ROWS) & (np.minimum(positives, n - positives) >= LINEAR_MINORITY)
    for column in np.flatnonzero(~is_linear):
        auc[column], precision[column] = weighted_rank_metrics(
            truth[:, column], scores[:, column], weights
        )
    linear_columns = np.flatnonzero(is_linear)
    if len(linear_columns):
        expansions = [
            rank_metric_derivatives(truth[:, column], scores[:, column])
            for column in linear_columns
        ]
        centred = weights / weights.mean(axis=0) - 1
        for index, result in enumerate((auc, precision)):
            value = np.array([one[index] for one in expansions])
            derivatives = np.stack([one[2 + index] for one in expansions], axis=1)
            drawn = value[:, None] + weighted_sums(derivatives, centred)
            result[linear_columns] = np.clip(drawn, 0.0, 1.0)
    return auc, precision


def rank_metric_derivatives(
    truth: npt.NDArray[np.bool_], scores: Floats
) -> tuple[float, float, Floats, Floats]:
    """Compute rank metrics of (n,) scores, and their derivatives by the weights of the rows.

    The derivatives of ROC AUC are DeLong's structural components (DeLong and others 1988).

    Returns:
        ROC AUC, average precision, and the (n,) derivatives of both, at weights of 1.
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
    auc = float(wins[is_positive].mean())
    auc_derivatives, precision_derivatives = np.empty((2, n))
    auc_derivatives[order] = (wins - auc) / np.where(is_positive, positives, negatives)
    precision_at = hits[last] / last
    precision = float(precision_at[is_positive].mean())
    # The weight of a row changes the precision at every positive ranked at or below it.
    loss = np.append(0, np.cumsum(np.where(is_positive, precision_at / last, 0)))
    gain = np.append(0, np.cumsum(np.where(is_positive, 1 / last, 0)))
    below = gain[-1] - gain[first], loss[-1] - loss[first]
    precision_derivatives[order] = (
        np.where(is_positive, precision_at - precision + below[0], 0) - below[1]
    ) / positives
    return auc, precision, auc_derivatives, precision_derivatives


def weighted_sums(values: npt.NDArray[Any], weights: Weights) -> Floats:
    """Weighted sums of (n,) or (n, columns) values: (draws,) or (columns, draws)."""
    sums: Floats = (values.T.astype(weights.dtype) @ weights).astype(np.float64, copy=False)
    return sums


def safe_divide(above: Floats, below: Floats) -> Floats:
    """Quotients; 0 where the denominator is 0."""
    quotients: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return quotients

"""Ranks encoders over tasks: Friedman's test and the critical difference (Demšar 2006)."""

import math
from dataclasses import dataclass

import numpy as np

from genebench.evaluation.statistics.paired_tests import Floats


@dataclass(frozen=True)
class Ranking:
    """The ranking of encoders over tasks.

    Attributes:
        mean_ranks: (encoders,) mean ranks over tasks; 1 is best.
        n_tasks: Number of tasks that all encoders were scored on.
        p_value: P value of Friedman's test that all encoders are equal (Iman and Davenport's form).
        critical_difference: Mean ranks that differ by less are not significantly different
            (Nemenyi's test).
        cliques: Maximal groups of encoders without a significant difference, as encoder indices in
            order of rank.
    """

    mean_ranks: Floats
    n_tasks: int
    p_value: float
    critical_difference: float
    cliques: tuple[tuple[int, ...], ...]


def rank_over_tasks(scores: Floats, level: float = 0.95, weights: Floats | None = None) -> Ranking:
    """Rank encoders over tasks, with the critical difference of Demšar 2006.

    Weights keep near-duplicate tasks from counting as independent evidence: the number of tasks is
    replaced by the effective number, (sum of weights)² / (sum of squared weights).

    Args:
        scores: (tasks, encoders), greater is better, without missing values.
        level: Confidence level, 1 minus the significance level of the tests.
        weights: (tasks,) positive weights; equal by default.

    Raises:
        ValueError: There are fewer than two tasks or encoders.
    """
    from scipy.stats import f, rankdata, studentized_range

    n_tasks, n_encoders = scores.shape
    if n_tasks < 2 or n_encoders < 2:
        raise ValueError(
            f"{n_tasks} tasks and {n_encoders} encoders; a ranking needs at least two of each"
        )
    weights = np.ones(n_tasks) if weights is None else weights
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    ranks = rankdata(-scores, axis=1)
    means: Floats = np.average(ranks, axis=0, weights=weights)
    # Ties lower the variance of ranks, so it is computed instead of taken from the formula.
    rank_variance = float(np.average(ranks.var(axis=1, ddof=1), weights=weights))
    squares = float(((means - (n_encoders + 1) / 2) ** 2).sum())
    statistic = effective * squares / rank_variance if rank_variance > 0 else 0.0
    denominator = effective * (n_encoders - 1) - statistic
    if denominator > 0:
        ratio = (effective - 1) * statistic / denominator
        degrees = n_encoders - 1
        p_value = float(f.sf(ratio, degrees, max(degrees * (effective - 1), 1e-9)))
    else:
        p_value = 0.0
    quantile = float(studentized_range.ppf(level, n_encoders, np.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(n_encoders * (n_encoders + 1) / (6 * effective))
    return Ranking(means, n_tasks, p_value, critical, _find_cliques(means, critical))


def _find_cliques(means: Floats, critical: float) -> tuple[tuple[int, ...], ...]:
    """Maximal runs of encoders in rank order whose mean ranks differ by less than `critical`."""
    order = np.argsort(means, kind="stable")
    cliques: list[tuple[int, ...]] = []
    reached = 0
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and means[order[last + 1]] - means[order[first]] < critical:
            last += 1
        if last > first and last >= reached + 1:
            cliques.append(tuple(int(index) for index in order[first : last + 1]))
        reached = max(reached, last)
    return tuple(cliques)

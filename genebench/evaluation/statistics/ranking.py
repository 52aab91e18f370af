"""Ranks encoders over tasks, with the critical difference of Demšar (2006)."""

import math
from dataclasses import dataclass

import numpy as np

from genebench.evaluation.statistics.paired_tests import Floats


@dataclass(frozen=True)
class Ranking:
    """Encoders ranked over tasks.

    Attributes:
        mean_ranks: (encoders,), 1 is best.
        n_tasks: Tasks that all encoders were scored on.
        p_value: Of Friedman's test that all encoders are equal, in Iman and Davenport's form.
        critical_difference: Mean ranks that differ by less cannot be told apart (Nemenyi).
        cliques: Groups of encoders, as indices by rank, of which no two can be told apart.
    """

    mean_ranks: Floats
    n_tasks: int
    p_value: float
    critical_difference: float
    cliques: tuple[tuple[int, ...], ...]


def rank_over_tasks(scores: Floats, level: float = 0.95, weights: Floats | None = None) -> Ranking:
    """Rank encoders over tasks, with the critical difference of Demšar 2006.

    Near-duplicate tasks would count as evidence many times over; with weights the number of tasks
    is replaced by the effective one, (sum of weights)² / sum of squared weights.

    Args:
        scores: (tasks, encoders), greater is better, none missing.
        level: One less the level of the tests.
        weights: (tasks,) positive; equal by default.

    Raises:
        ValueError: There are fewer than two tasks or encoders.
    """
    from scipy.stats import f, rankdata, studentized_range

    n_tasks, n_encoders = scores.shape
    if n_tasks < 2 or n_encoders < 2:
        raise ValueError(f"{n_tasks} tasks and {n_encoders} encoders cannot be ranked")
    weights = np.ones(n_tasks) if weights is None else weights
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    ranks = rankdata(-scores, axis=1)
    means: Floats = np.average(ranks, axis=0, weights=weights)
    # The variance of a row's ranks falls with ties, which a plain formula would not see.
    tied = float(np.average(ranks.var(axis=1, ddof=1), weights=weights))
    squares = float(((means - (n_encoders + 1) / 2) ** 2).sum())
    statistic = effective * squares / tied if tied > 0 else 0.0
    rest = effective * (n_encoders - 1) - statistic
    if rest > 0:
        ratio = (effective - 1) * statistic / rest
        freedom = n_encoders - 1
        p_value = float(f.sf(ratio, freedom, max(freedom * (effective - 1), 1e-9)))
    else:
        p_value = 0.0
    reach = float(studentized_range.ppf(level, n_encoders, np.inf)) / math.sqrt(2)
    critical = reach * math.sqrt(n_encoders * (n_encoders + 1) / (6 * effective))
    return Ranking(means, n_tasks, p_value, critical, _find_cliques(means, critical))


def _find_cliques(means: Floats, critical: float) -> tuple[tuple[int, ...], ...]:
    """Maximal runs of neighbours by rank whose ends differ by less than the critical difference."""
    order = np.argsort(means, kind="stable")
    cliques: list[tuple[int, ...]] = []
    reached = 0
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and means[order[last + 1]] - means[order[first]] < critical:
            last += 1
        if last > first and last >= reached + 1:
            cliques.append(tuple(int(place) for place in order[first : last + 1]))
        reached = max(reached, last)
    return tuple(cliques)

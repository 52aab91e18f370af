"""Which of several encoders is better, and whether that can be told from chance.

Two paired tests look at one difference from two sides: the bootstrap over rows, with the variance
that training sets add (`uncertainty.training_variance`), and the folds' own differences with the
correction of Nadeau and Bengio 2003, which is conservative and, with five folds, weak. A difference
counts as established if both find it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The difference of two scores, the first less the second, in the metric's unit.

    Attributes:
        value: The difference.
        low: Lower end of its interval.
        high: Upper end.
        p_value: Two-sided, not corrected for the number of comparisons.
    """

    value: float
    low: float
    high: float
    p_value: float


def compare_replicates(
    value: float,
    first: Floats,
    second: Floats,
    level: float = 0.95,
) -> Difference:
    """Compare two encoders by their bootstrap replicates.

    Args:
        value: The difference of the scores.
        first: (draws,) replicates of the first encoder.
        second: (draws,) replicates of the second one, of the same draws.
        level: Coverage of the interval.
    """
    spread = float((first - second).std(ddof=1))
    reach = NormalDist().inv_cdf(0.5 + level / 2) * spread
    certain = 0.0 if value else 1.0
    p_value = math.erfc(abs(value) / spread / math.sqrt(2)) if spread > 0 else certain
    return Difference(value, value - reach, value + reach, p_value)


def compare_folds(
    differences: Floats, n_train: float, n_test: float, level: float = 0.95
) -> Difference:
    """Compare two encoders by their differences in each fold.

    Training sets of folds overlap, so the variance of the mean is taken as (1/folds + n_test /
    n_train) times the folds' variance (Nadeau and Bengio 2003, equation 9; for repeated folds
    Bouckaert and Frank 2004), with Student's distribution on one degree less than folds.

    Args:
        differences: (folds,), first less second.
        n_train: Mean number of what is dealt (rows, or entities of pairs) that a fold trains on;
            its ratio to `n_test` alone counts.
        n_test: Mean number of them that it holds out.
        level: Coverage of the interval.

    Raises:
        ValueError: There are fewer than two folds.
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        raise ValueError(f"{n} folds tell nothing of their variance; two at least are needed")
    value = float(differences.mean())
    spread = math.sqrt((1 / n + n_test / n_train) * float(differences.var(ddof=1)))
    reach = float(t.ppf(0.5 + level / 2, n - 1)) * spread
    certain = 0.0 if value else 1.0
    p_value = float(2 * t.sf(abs(value) / spread, n - 1)) if spread > 0 else certain
    return Difference(value, value - reach, value + reach, p_value)


def adjust_holm(p_values: Sequence[float]) -> Floats:
    """Correct p values for their number by Holm 1979, which assumes nothing of their dependence.

    >>> adjust_holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    found = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    steps = found[order] * np.arange(len(found), 0, -1)
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


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

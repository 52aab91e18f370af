"""Paired significance tests of the difference between two encoders, and Holm's correction.

Two tests check each difference: the paired bootstrap over rows, including the variance of training
sets (`bootstrap.training_variance_factor`), and the corrected t test on the differences in each
fold (Nadeau and Bengio 2003), which is conservative and has little power with five folds. A
difference is established if both tests reject.
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
    """The difference of two scores, first minus second, in the unit of the metric.

    Attributes:
        value: The difference.
        low: Lower end of its interval.
        high: Upper end of its interval.
        p_value: Two-sided p value, not corrected for multiple comparisons.
    """

    value: float
    low: float
    high: float
    p_value: float


def paired_bootstrap_test(
    value: float,
    first: Floats,
    second: Floats,
    level: float = 0.95,
) -> Difference:
    """Test the difference of two encoders by their paired bootstrap replicates.

    Args:
        value: Difference of the scores.
        first: (draws,) replicates of the first encoder.
        second: (draws,) replicates of the second encoder, from the same draws.
        level: Coverage of the interval.
    """
    standard_error = float((first - second).std(ddof=1))
    half_width = NormalDist().inv_cdf(0.5 + level / 2) * standard_error
    p_if_constant = 0.0 if value else 1.0
    p_value = (
        math.erfc(abs(value) / standard_error / math.sqrt(2))
        if standard_error > 0
        else p_if_constant
    )
    return Difference(value, value - half_width, value + half_width, p_value)


def corrected_t_test(
    differences: Floats, n_train: float, n_test: float, level: float = 0.95
) -> Difference:
    """Test the difference of two encoders by the corrected resampled t test over folds.

    Training sets of folds overlap, so the variance of the mean is estimated as (1 / folds + n_test
    / n_train) times the variance over folds (Nadeau and Bengio 2003, equation 9; for repeated folds
    Bouckaert and Frank 2004). The t distribution has folds - 1 degrees of freedom.

    Args:
        differences: (folds,) differences, first minus second.
        n_train: Mean number of training units of a fold (rows, or entities if folds hold out
            entities); only its ratio to `n_test` matters.
        n_test: Mean number of held-out units of a fold.
        level: Coverage of the interval.

    Raises:
        ValueError: There are fewer than two folds.
    """
    # The functions of `scipy.stats.t`, whose import takes a second.
    from scipy.special import stdtr, stdtrit

    n = len(differences)
    if n < 2:
        raise ValueError(f"{n} folds; a variance needs at least two")
    value = float(differences.mean())
    standard_error = math.sqrt((1 / n + n_test / n_train) * float(differences.var(ddof=1)))
    half_width = float(stdtrit(n - 1, 0.5 + level / 2)) * standard_error
    p_if_constant = 0.0 if value else 1.0
    p_value = (
        float(2 * stdtr(n - 1, -abs(value) / standard_error))
        if standard_error > 0
        else p_if_constant
    )
    return Difference(value, value - half_width, value + half_width, p_value)


def adjust_holm(p_values: Sequence[float]) -> Floats:
    """Adjust p values for multiple comparisons by Holm 1979, valid under any dependence.

    >>> adjust_holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    found = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    steps = found[order] * np.arange(len(found), 0, -1)
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted

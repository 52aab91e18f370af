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

"""Bootstrap replicates of a score, and confidence intervals computed from them.

Entities are resampled, with all their held-out rows in all folds and repeats. Probes are not
refitted; the variance that other training sets would add is estimated by a formula
(`training_variance_factor`). The statistic is the mean over folds, as in the tables. Encoders
scored on the same samples get the same draws, so the differences of their replicates are a paired
bootstrap (`genebench.evaluation.statistics.paired_tests`).
"""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.blas_threads import one_blas_thread
from genebench.evaluation.statistics.resampling import draw_weights, score_weighted
from genebench.probes.declaration import TRAIN, FoldOutput, Kind, Problem
from genebench.protocols.declaration import Protocol

Floats = npt.NDArray[np.float64]

INTERVALS_SCHEMA = pl.Schema(
    {
        "metric": pl.String(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "standard_error": pl.Float64(),
        "level": pl.Float64(),
        "n_units": pl.Int64(),
        "replicates": pl.List(pl.Float32()),
    }
)

# Coverage of every stored interval; the same for all, so that intervals can be compared.
LEVEL = 0.95

# Parameters of the curve in `training_variance_factor`, and the least signal it assumes.
MAX_EXCESS = 0.8
HALF_EXCESS = 0.3
LEAST_SIGNAL = 0.1

# Distance from 0 and 1 to which scores are clipped, because the logit of a bound is infinite.
_EDGE = 1e-6


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of the metric.

    Attributes:
        low: Lower end.
        high: Upper end.
        standard_error: Standard deviation of the bootstrap replicates.
    """

    low: float
    high: float
    standard_error: float


def replicate_scores(
    problem: Problem,
    outputs: Sequence[FoldOutput],
    usable: Sequence[npt.NDArray[np.bool_]],
    protocol: Protocol,
    metrics: Iterable[str] | None = None,
    *,
    n_features: int = 0,
    threads: int = 1,
) -> dict[str, Floats]:
    """Compute bootstrap replicates of a task's scores.

    Args:
        problem: The task.
        outputs: Held-out predictions, one output per fold.
        usable: (labels,) bool for each fold; labels of a multi-label task that can be scored.
        protocol: Metrics, number of draws and seed.
        metrics: Metrics to replicate; all of the protocol for this kind of task by default.
        n_features: Number of features of the probe. 0 leaves out the variance of training sets:
            the replicates are then those of the fitted probes on new rows.
        threads: Number of folds computed at once; the values do not depend on it.

    Returns:
        (draws,) float64 by metric, the mean over folds in each draw. On a scale where the metric
        has no bounds, the variance is multiplied by `training_variance_factor`, and by m / (m - 1),
        where m is the mean number of held-out rows of the minority class in a fold; this corrects
        for weighting the rows of each fold about their own mean.
    """
    names = list(metrics) if metrics is not None else list(protocol.metrics_of(problem.kind))
    draws, seed = protocol.uncertainty.draws, protocol.folds.seed
    hard = protocol.multilabel_auc == "hard"

    def replicate(output: FoldOutput, use: npt.NDArray[np.bool_]) -> dict[str, Floats]:
        truth, scores = problem.truth(output.rows), output.scores
        if problem.kind == "multilabel":
            truth, scores = truth[:, use], scores[:, use]
        parts = [
            score_weighted(problem.kind, names, truth, scores, weights, ranks_hard=hard)
            for weights in draw_weights(problem.rows, draws, seed, output.rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    # One thread per fold is faster than BLAS threads, because most products are small.
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        folds = list(pool.map(replicate, outputs, usable))
    means = {name: np.mean([fold[name] for fold in folds], axis=0) for name in names}
    main = means.get(MAIN_METRICS[problem.kind])
    signal = (
        signal_from_score(problem.kind, float(main.mean())) if main is not None else LEAST_SIGNAL
    )
    variance = training_variance_factor(problem, n_features, signal)
    variance *= 1 + 1 / max(_mean_minority(problem, outputs) - 1, 0.5)
    return {name: _scale_spread(name, mean, math.sqrt(variance)) for name, mean in means.items()}


def signal_from_score(kind: Kind, value: float) -> float:
    """Squared distance between two normal classes that a main score corresponds to.

    The distance is in standard deviations (Mahalanobis distance). For ROC AUC it is 2 z², where z
    is the normal quantile of the score; for R² the two classes are the halves of the numbers.

    >>> round(signal_from_score("binary", 0.76), 2), round(signal_from_score("regression", 0.2), 2)
    (1.0, 1.0)
    """
    if kind == "regression":
        share = min(max(value, 0.0), 1 - _EDGE)
        found = 4 * share / (1 - share)
    else:
        found = 2 * NormalDist().inv_cdf(min(max(value, 0.5), 1 - _EDGE)) ** 2
    return max(found, LEAST_SIGNAL)


def training_variance_factor(problem: Problem, n_features: int, signal: float) -> float:
    """Factor by which the variance of a score exceeds that of a bootstrap of held-out rows.

    A bootstrap of held-out rows ignores that another training set gives another probe. The noise
    of two class means over all features is d (1 / n_1 + 1 / n_2) for n_1 and n_2 training rows.
    Its ratio to the squared distance between the classes measures how much the direction of the
    probe varies (Fisher's discriminant; Raudys and Young 2004). The curve over this ratio was
    fitted to simulated embeddings of 1 to 384 features and 100 to 3,000 rows with known ROC AUC
    (`docs/method.md`). It is not a theorem: no unbiased estimate of the variance of
    cross-validation exists (Bengio and Grandvalet 2004).

    The factor is too large where few directions hold nearly all variance. It is too small for pair
    tasks whose entities are in many pairs: the formula treats pairs as independent rows, but pairs
    with a common entity share its vector.

    Args:
        problem: The task. Multi-label and multiclass tasks are treated as one binary task of mean
            class size, regressions as two halves.
        n_features: d, number of features of the probe.
        signal: Squared distance from `signal_from_score`.

    Returns:
        From 1 (no features) to 1.8 (very many features).
    """
    if not n_features:
        return 1.0
    n_train = float((problem.split == TRAIN).sum(axis=0).mean())
    match problem.kind:
        case "regression":
            share = 0.5
        case "multiclass":
            share = 1 / problem.n_columns
        case _:
            share = float(problem.targets.mean())
    noise = n_features * (1 / share + 1 / (1 - share)) / n_train
    # The noise also weakened the probe that the signal was estimated with: found = true / (1 + r).
    ratio = (math.sqrt(1 + 4 * noise / signal) - 1) / 2
    return 1 + MAX_EXCESS * ratio**2 / (ratio**2 + HALF_EXCESS**2)


def _scale_spread(metric: str, replicates: Floats, factor: float) -> Floats:
    """Multiply the spread of replicates by a factor, within the range of the metric."""
    if np.ptp(replicates) == 0:
        return replicates
    unbounded = _to_unbounded(metric, replicates)
    mean = unbounded.mean()
    return _from_unbounded(metric, mean + factor * (unbounded - mean))


def _mean_minority(problem: Problem, outputs: Sequence[FoldOutput]) -> float:
    """Mean number of held-out rows of a fold; of its minority class if the task is binary."""
    sizes = []
    for output in outputs:
        n = len(output.rows)
        positives = int(problem.targets[output.rows].sum()) if problem.kind == "binary" else n
        sizes.append(min(positives, n - positives) if problem.kind == "binary" else n)
    return float(np.mean(sizes))


def confidence_interval(
    metric: str,
    value: float,
    replicates: Floats,
    level: float = 0.95,
    *,
    n_minority: int = 0,
) -> Interval:
    """Compute the confidence interval of a score from its bootstrap replicates.

    The interval is the score plus and minus a normal quantile times the standard deviation of the
    replicates, on a scale where the metric has no bounds (logit of a share, Fisher's z of a
    correlation, logarithm of a loss). So it stays in the range of the metric. A few hundred draws
    estimate a standard deviation well, but not a far quantile.

    Args:
        metric: Name in `METRICS`.
        value: The score.
        replicates: (draws,) replicates of the score.
        level: Nominal coverage.
        n_minority: Number of held-out rows; of the minority class if binary. It gives the other
            end of the interval of a score of exactly 0 or 1, whose replicates do not vary (Clopper
            and Pearson 1934).
    """
    quantile = NormalDist().inv_cdf(0.5 + level / 2)
    half_width = quantile * float(_to_unbounded(metric, replicates).std(ddof=1))
    centre = float(_to_unbounded(metric, np.array([value]))[0])
    ends = _from_unbounded(metric, np.array([centre - half_width, centre + half_width]))
    low, high = min(float(ends[0]), value), max(float(ends[1]), value)
    if (METRICS[metric].low, METRICS[metric].high) == (0, 1) and n_minority:
        # Lower limit of as many successes without a failure.
        limit = (0.5 - level / 2) ** (1 / n_minority)
        low = min(low, limit) if value > 1 - _EDGE else low
        high = max(high, 1 - limit) if value < _EDGE else high
    return Interval(low, high, float(replicates.std(ddof=1)))


def score_intervals(
    problem: Problem,
    outputs: Sequence[FoldOutput],
    usable: Sequence[npt.NDArray[np.bool_]],
    protocol: Protocol,
    scores: pl.DataFrame,
    n_features: int,
    threads: int = 1,
    metrics: Iterable[str] | None = None,
) -> pl.DataFrame:
    """Compute the confidence intervals of the scores of a task.

    Args:
        problem: The task.
        outputs: See `replicate_scores`.
        usable: See `replicate_scores`.
        protocol: See `replicate_scores`.
        scores: Scores of the folds: `evaluate.SCORES_SCHEMA`.
        n_features: See `replicate_scores`.
        threads: See `replicate_scores`.
        metrics: See `replicate_scores`.

    Returns:
        `INTERVALS_SCHEMA` at `LEVEL`, one row per metric. Only the main metric, by which encoders
        are compared, keeps its `replicates`.
    """
    held_out = np.unique(np.concatenate([output.rows for output in outputs]))
    n_units, n_minority = len(np.unique(problem.rows[held_out])), len(held_out)
    if problem.kind == "binary":
        positives = int(problem.targets[held_out].sum())
        n_minority = min(positives, n_minority - positives)
    whole = scores.filter(pl.col("label") == "").group_by("metric").agg(pl.col("value").mean())
    values = dict(whole.iter_rows())
    rows = []
    replicates = replicate_scores(
        problem, outputs, usable, protocol, metrics, n_features=n_features, threads=threads
    )
    for metric, drawn in replicates.items():
        interval = confidence_interval(metric, values[metric], drawn, LEVEL, n_minority=n_minority)
        is_main = metric == MAIN_METRICS[problem.kind]
        rows.append(
            {
                "metric": metric,
                "value": values[metric],
                "low": interval.low,
                "high": interval.high,
                "standard_error": interval.standard_error,
                "level": LEVEL,
                "n_units": n_units,
                "replicates": drawn.astype(np.float32).tolist() if is_main else [],
            }
        )
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA)


def _to_unbounded(metric: str, values: Floats) -> Floats:
    """Map values of a metric to a scale without bounds."""
    low, high = METRICS[metric].low, METRICS[metric].high
    if (low, high) == (0, 1):
        shares = np.clip(values, _EDGE, 1 - _EDGE)
        return np.asarray(np.log(shares / (1 - shares)))
    if (low, high) == (-1, 1):
        return np.asarray(np.arctanh(np.clip(values, -1 + _EDGE, 1 - _EDGE)))
    if low == 0:
        return np.asarray(np.log(np.maximum(values, _EDGE)))
    if high == 1:
        return np.asarray(-np.log(np.maximum(1 - values, _EDGE)))
    return values


def _from_unbounded(metric: str, values: Floats) -> Floats:
    """The inverse of `_to_unbounded`."""
    low, high = METRICS[metric].low, METRICS[metric].high
    if (low, high) == (0, 1):
        return np.asarray(1 / (1 + np.exp(-values)))
    if (low, high) == (-1, 1):
        return np.asarray(np.tanh(values))
    if low == 0:
        return np.asarray(np.exp(values))
    if high == 1:
        return np.asarray(1 - np.exp(-values))
    return values

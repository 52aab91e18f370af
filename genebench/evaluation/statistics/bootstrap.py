"""How far a score is to be trusted: bootstrap replicates, and intervals from them.

What is resampled are entities, with all their held-out rows in all folds and repeats; the fitted
probes stay as they are, and what another training set would change is added to the spread. The
statistic is the one that tables show, the mean over folds. Encoders scored on the same samples get
the same draws, so the difference of two encoders' replicates is the paired bootstrap of their
difference (`genebench.evaluation.statistics.paired_tests`).
"""

import functools
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl
from threadpoolctl import ThreadpoolController

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
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

# Coverage of every stored interval; one for all, so that intervals can be laid side by side.
LEVEL = 0.95

# Of the curve in `training_variance`, and the least signal that it counts with.
MAX_EXCESS = 0.8
HALF_EXCESS = 0.3
LEAST_SIGNAL = 0.1

# A score of exactly 0 or 1 has no finite logit; it counts as this near to the bound.
_EDGE = 1e-6


@dataclass(frozen=True)
class Interval:
    """A confidence interval of one number.

    Attributes:
        low: Lower end, in the metric's unit.
        high: Upper end.
        standard_error: In the metric's unit.
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
    """Draw bootstrap replicates of a task's scores.

    Args:
        problem: The task.
        outputs: The probe's held-out output, one a fold.
        usable: (labels,) bool for each fold: which labels of a multi-label task count.
        protocol: Its metrics, draws and seed.
        metrics: Some of the protocol's metrics; all of the task's kind by default.
        n_features: Features that the probe was fitted on; 0 for the replicates of these fitted
            probes on new rows.
        threads: Folds worked on at once; the values do not depend on it.

    Returns:
        (draws,) float64 by metric: the mean over folds in each draw. Their variance, on a scale
        where the metric has no bounds, is multiplied by `training_variance`, and by m / (m - 1), m
        the held-out rows of the rarer class of a mean fold, because each fold's rows are weighed
        about their own mean.
    """
    names = list(metrics) if metrics is not None else list(protocol.metrics_of(problem.kind))
    draws, seed = protocol.uncertainty.draws, protocol.folds.seed
    hard = protocol.multilabel_auc == "hard"

    def replicate(output: FoldOutput, use: npt.NDArray[np.bool_]) -> dict[str, Floats]:
        truth, scores = problem.targets[output.rows], output.scores
        if problem.kind == "multilabel":
            truth, scores = truth[:, use], scores[:, use]
        parts = [
            score_weighted(problem.kind, names, truth, scores, weights, ranks_hard=hard)
            for weights in draw_weights(problem.rows, draws, seed, output.rows)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    # A thread a fold, rather than all on each product: most products are small.
    with _blas().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        folds = list(pool.map(replicate, outputs, usable))
    means = {name: np.mean([fold[name] for fold in folds], axis=0) for name in names}
    main = means.get(MAIN_METRICS[problem.kind])
    signal = signal_of(problem.kind, float(main.mean())) if main is not None else LEAST_SIGNAL
    widening = training_variance(problem, n_features, signal)
    widening *= 1 + 1 / max(_mean_rarer(problem, outputs) - 1, 0.5)
    return {name: _widen(name, mean, math.sqrt(widening)) for name, mean in means.items()}


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def signal_of(kind: Kind, value: float) -> float:
    """The squared distance of two normal classes, in their deviations, that a main score tells of.

    Of an area under the curve, 2 z² for the normal quantile z; of R², that of two halves.

    >>> round(signal_of("binary", 0.76), 2), round(signal_of("regression", 0.2), 2)
    (1.0, 1.0)
    """
    if kind == "regression":
        share = min(max(value, 0.0), 1 - _EDGE)
        found = 4 * share / (1 - share)
    else:
        found = 2 * NormalDist().inv_cdf(min(max(value, 0.5), 1 - _EDGE)) ** 2
    return max(found, LEAST_SIGNAL)


def training_variance(problem: Problem, n_features: int, signal: float) -> float:
    """How many times the variance of a bootstrap of rows a score's variance is.

    Rows are trained on too: another sample of them gives another probe. The noise of two class
    means over all features is d (1 / n_1 + 1 / n_2) for n_1 and n_2 training rows; beside the
    squared distance of the classes it says how far a probe's direction is moved (Fisher's
    discriminant; Raudys and Young 2004). The curve over that ratio is a fit to simulated embeddings
    of 1 to 384 features and 100 to 3,000 rows with known ROC AUC (`docs/method.md`), and no
    theorem: there is no unbiased estimate of the variance of cross-validation (Bengio and
    Grandvalet 2004). It is too cautious where few directions hold nearly all variance. Pairs count
    as rows by themselves, though those with a common entity share its vector: where entities are in
    many pairs the noise is larger than the formula says, and the result too small.

    Args:
        problem: The task. Classes of multi-label and multiclass tasks count as one of mean size,
            numbers as two halves.
        n_features: d, features of the probe.
        signal: See `signal_of`, of the score that was found.

    Returns:
        1 for no feature, to 1.8 for very many.
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
    # The signal was found by a probe that the noise had weakened: found = true / (1 + ratio).
    ratio = (math.sqrt(1 + 4 * noise / signal) - 1) / 2
    return 1 + MAX_EXCESS * ratio**2 / (ratio**2 + HALF_EXCESS**2)


def _widen(metric: str, replicates: Floats, factor: float) -> Floats:
    """Replicates further from their middle, but within the range of the metric."""
    if np.ptp(replicates) == 0:
        return replicates
    stretched = _stretch(metric, replicates)
    middle = stretched.mean()
    return _shrink(metric, middle + factor * (stretched - middle))


def _mean_rarer(problem: Problem, outputs: Sequence[FoldOutput]) -> float:
    """Held-out rows of a fold, or of its rarer class if the task is binary; mean over folds."""
    sizes = []
    for output in outputs:
        n = len(output.rows)
        positives = int(problem.targets[output.rows].sum()) if problem.kind == "binary" else n
        sizes.append(min(positives, n - positives) if problem.kind == "binary" else n)
    return float(np.mean(sizes))


def find_interval(
    metric: str,
    value: float,
    replicates: Floats,
    level: float = 0.95,
    *,
    n_rarer: int = 0,
) -> Interval:
    """A confidence interval of a score from its replicates.

    The score plus and minus normal quantiles of the replicates' spread, on a scale where the metric
    has no bounds (logit of a share, Fisher's z of a correlation, logarithm of a loss), so that the
    interval stays inside the metric's range. The spread, unlike a far quantile, is known well from
    a few hundred draws.

    Args:
        metric: One of `METRICS`.
        value: The score.
        replicates: (draws,) of it.
        level: Coverage aimed at.
        n_rarer: Held-out rows, of the rarer class if binary. A share of exactly 0 or 1 has no
            spread; its other end is then that of as many trials without a miss (Clopper and
            Pearson 1934).
    """
    reach = NormalDist().inv_cdf(0.5 + level / 2)
    spread = reach * float(_stretch(metric, replicates).std(ddof=1))
    centre = float(_stretch(metric, np.array([value]))[0])
    ends = _shrink(metric, np.array([centre - spread, centre + spread]))
    low, high = min(float(ends[0]), value), max(float(ends[1]), value)
    if (METRICS[metric].low, METRICS[metric].high) == (0, 1) and n_rarer:
        without_miss = (0.5 - level / 2) ** (1 / n_rarer)
        low = min(low, without_miss) if value > 1 - _EDGE else low
        high = max(high, 1 - without_miss) if value < _EDGE else high
    return Interval(low, high, float(replicates.std(ddof=1)))


def score_intervals(
    problem: Problem,
    outputs: Sequence[FoldOutput],
    usable: Sequence[npt.NDArray[np.bool_]],
    protocol: Protocol,
    scores: pl.DataFrame,
    n_features: int,
    threads: int = 1,
) -> pl.DataFrame:
    """Intervals of a task's scores.

    Args:
        problem: The task.
        outputs: See `replicate_scores`.
        usable: See `replicate_scores`.
        protocol: See `replicate_scores`.
        scores: The scores of the folds; `evaluate.SCORES_SCHEMA`.
        n_features: See `replicate_scores`.
        threads: See `replicate_scores`.

    Returns:
        `INTERVALS_SCHEMA` at `LEVEL`; `replicates` is empty but for the main metric, which is
        compared.
    """
    held_out = np.unique(np.concatenate([output.rows for output in outputs]))
    n_units, n_rarer = len(np.unique(problem.rows[held_out])), len(held_out)
    if problem.kind == "binary":
        positives = int(problem.targets[held_out].sum())
        n_rarer = min(positives, n_rarer - positives)
    whole = scores.filter(pl.col("label") == "").group_by("metric").agg(pl.col("value").mean())
    values = dict(whole.iter_rows())
    rows = []
    replicates = replicate_scores(
        problem, outputs, usable, protocol, n_features=n_features, threads=threads
    )
    for metric, drawn in replicates.items():
        found = find_interval(metric, values[metric], drawn, LEVEL, n_rarer=n_rarer)
        is_kept = metric == MAIN_METRICS[problem.kind]
        rows.append(
            {
                "metric": metric,
                "value": values[metric],
                "low": found.low,
                "high": found.high,
                "standard_error": found.standard_error,
                "level": LEVEL,
                "n_units": n_units,
                "replicates": drawn.astype(np.float32).tolist() if is_kept else [],
            }
        )
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA)


def _stretch(metric: str, values: Floats) -> Floats:
    """Values on a scale without bounds."""
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


def _shrink(metric: str, values: Floats) -> Floats:
    """The inverse of `_stretch`."""
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

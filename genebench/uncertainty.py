"""How far a score is to be trusted: bootstrap replicates, and intervals from them.

What is resampled are entities, with all their held-out rows in all folds and repeats; the fitted
probes stay as they are. The statistic is the one that tables show, the mean over folds. Encoders
scored on the same samples get the same draws, so the difference of two encoders' replicates is the
paired bootstrap of their difference (`genebench.comparison`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.metrics import MAIN_METRICS, METRICS
from genebench.probes import FoldOutput, Problem
from genebench.protocols import Protocol
from genebench.resampling import draw_weights, score_weighted

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

# Rows are trained on too, and another sample of them would give other probes. In simulated
# embeddings of 64 to 300 columns under the standard protocol the variance of a score was 1.8 to 1.9
# times that of the row bootstrap, of a handful of columns 1.0 to 1.2 times (docs/method.md); for k
# folds (k - 1) n_test / n_train, the share by which Nadeau and Bengio 2003 correct, adds once more.
TRAINING_VARIANCE = 2.0

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
) -> dict[str, Floats]:
    """Draw bootstrap replicates of a task's scores.

    Args:
        problem: The task.
        outputs: The probe's held-out output, one a fold.
        usable: (labels,) bool for each fold: which labels of a multi-label task count.
        protocol: Its metrics, draws and seed.
        metrics: Some of the protocol's metrics; all of the task's kind by default.

    Returns:
        (draws,) float64 by metric: the mean over folds in each draw. Their spread is widened by
        the root of m / (m - 1), m the held-out rows of the rarer class of a mean fold, because each
        fold's rows are weighed about their own mean.
    """
    names = list(metrics) if metrics is not None else list(protocol.metrics_of(problem.kind))
    draws = protocol.uncertainty.draws
    sums = {name: np.zeros(draws) for name in names}
    hard = protocol.multilabel_auc == "hard"
    for output, use in zip(outputs, usable, strict=True):
        truth, scores = problem.targets[output.rows], output.scores
        if problem.kind == "multilabel":
            truth, scores = truth[:, use], scores[:, use]
        for block, weights in draw_weights(problem.rows, draws, protocol.folds.seed, output.rows):
            found = score_weighted(problem.kind, names, truth, scores, weights, ranks_hard=hard)
            for name, values in found.items():
                sums[name][block] += values
    widening = math.sqrt(1 + 1 / max(_mean_rarer(problem, outputs) - 1, 0.5))
    means = {name: values / len(outputs) for name, values in sums.items()}
    return {name: mean.mean() + widening * (mean - mean.mean()) for name, mean in means.items()}


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
    is_fixed: bool = False,
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
        is_fixed: Whether the interval is of these fitted probes on new rows, and not of the encoder
            whatever the training set; see `TRAINING_VARIANCE`.
        n_rarer: Held-out rows, of the rarer class if binary. A share of exactly 0 or 1 has no
            spread; its other end is then that of as many trials without a miss (Clopper and
            Pearson 1934).
    """
    widening = 1.0 if is_fixed else math.sqrt(TRAINING_VARIANCE)
    reach = widening * NormalDist().inv_cdf(0.5 + level / 2)
    spread = reach * float(_stretch(metric, replicates).std(ddof=1))
    centre = float(_stretch(metric, np.array([value]))[0])
    ends = _shrink(metric, np.array([centre - spread, centre + spread]))
    low, high = min(float(ends[0]), value), max(float(ends[1]), value)
    if (METRICS[metric].low, METRICS[metric].high) == (0, 1) and n_rarer:
        without_miss = (0.5 - level / 2) ** (1 / n_rarer)
        low = min(low, without_miss) if value > 1 - _EDGE else low
        high = max(high, 1 - without_miss) if value < _EDGE else high
    return Interval(low, high, widening * float(replicates.std(ddof=1)))


def interval_rows(
    problem: Problem,
    outputs: Sequence[FoldOutput],
    usable: Sequence[npt.NDArray[np.bool_]],
    protocol: Protocol,
    scores: pl.DataFrame,
) -> pl.DataFrame:
    """Intervals of a task's scores.

    Args:
        problem: The task.
        outputs: See `replicate_scores`.
        usable: See `replicate_scores`.
        protocol: See `replicate_scores`; its level too.
        scores: The scores of the folds; `evaluate.SCORES_SCHEMA`.

    Returns:
        `INTERVALS_SCHEMA`; `replicates` is empty but for the main metric, which is compared.
    """
    level = protocol.uncertainty.level
    held_out = np.unique(np.concatenate([output.rows for output in outputs]))
    n_units, n_rarer = len(np.unique(problem.rows[held_out])), len(held_out)
    if problem.kind == "binary":
        positives = int(problem.targets[held_out].sum())
        n_rarer = min(positives, n_rarer - positives)
    whole = scores.filter(pl.col("label") == "").group_by("metric").agg(pl.col("value").mean())
    values = dict(whole.iter_rows())
    rows = []
    for metric, drawn in replicate_scores(problem, outputs, usable, protocol).items():
        found = find_interval(metric, values[metric], drawn, level, n_rarer=n_rarer)
        is_kept = metric == MAIN_METRICS[problem.kind]
        rows.append(
            {
                "metric": metric,
                "value": values[metric],
                "low": found.low,
                "high": found.high,
                "standard_error": found.standard_error,
                "level": level,
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

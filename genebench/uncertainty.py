"""How far a score is to be trusted: bootstrap replicates, and intervals from them.

What is resampled are entities, with all their held-out rows in all folds and repeats; the fitted
probes stay as they are. The statistic is the one that tables show, the mean over folds. Encoders
scored on the same samples get the same draws, so the difference of two encoders' replicates is the
paired bootstrap of their difference (`genebench.comparison`).
"""

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

# A score of exactly 0 or 1 has no finite logit; it counts as this near to the bound.
_EDGE = 1e-6


@dataclass(frozen=True)
class Interval:
    """A confidence interval of one number.

    Attributes:
        low: Lower end, in the metric's unit.
        high: Upper end.
        standard_error: Standard deviation of the replicates, in the metric's unit.
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
        (draws,) float64 by metric: the mean over folds in each draw.
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
    return {name: values / len(outputs) for name, values in sums.items()}


def find_interval(metric: str, value: float, replicates: Floats, level: float = 0.95) -> Interval:
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
    """
    reach = NormalDist().inv_cdf(0.5 + level / 2)
    spread = reach * float(_stretch(metric, replicates).std(ddof=1))
    centre = float(_stretch(metric, np.array([value]))[0])
    ends = _shrink(metric, np.array([centre - spread, centre + spread]))
    return Interval(float(ends[0]), float(ends[1]), float(replicates.std(ddof=1)))


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
    n_units = len(np.unique(problem.rows[np.concatenate([output.rows for output in outputs])]))
    whole = scores.filter(pl.col("label") == "").group_by("metric").agg(pl.col("value").mean())
    values = dict(whole.iter_rows())
    rows = []
    for metric, drawn in replicate_scores(problem, outputs, usable, protocol).items():
        found = find_interval(metric, values[metric], drawn, level)
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

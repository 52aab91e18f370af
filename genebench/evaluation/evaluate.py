"""Evaluates one embedding on many problems: fits a probe, and scores its held-out predictions.

Scores are finite: a problem or label that cannot be scored gets a status and a reason, never NaN.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.heldout_scores import score_fold
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.predictions import frame_predictions
from genebench.evaluation.statistics.bootstrap import score_intervals
from genebench.probes.declaration import (
    TEST,
    TRAIN,
    FoldOutput,
    HeldOut,
    Probe,
    Problem,
    count_outcomes,
)
from genebench.protocols.declaration import Protocol

# Increase it when a change of code may change a score; part of every evaluation's key.
REVISION = 5

Status = Literal["ok", "failed", "not_applicable"]
Progress = Callable[[int, int], None]

SCORES_SCHEMA = pl.Schema(
    {
        "label": pl.String,
        "metric": pl.String,
        "fold": pl.Int8,
        "value": pl.Float64,
        "n_train": pl.Int32,
        "n_test": pl.Int32,
    }
)


@dataclass(frozen=True)
class Evaluation:
    """The scores of one problem, or the reason why it has none.

    Attributes:
        problem_id: Id of the problem.
        status: `ok`; `not_applicable` if the folds do not allow scores (a fold, or every inner
            fold, lacks a class); `failed` if the probe could not be fitted.
        reason: Why the status is not ok. If it is ok: the labels left out of a fold, or empty.
        seconds: Wall time of the problem; of problems solved together, its share.
        n_samples: Samples of the problem.
        n_features: Features after the vectors of a sample are joined.
        n_labels: Labels or classes.
        solver: Solver and precision, such as `lbfgs float32`.
        gradient_norm: Greatest gradient norm of all fits, as the engine's tolerance measures it;
            0 if the solution is direct or the estimator does not report it.
        scores: One row per label ("" for the whole task), metric and fold: `SCORES_SCHEMA`; empty
            unless ok.
        predictions: One row per held-out sample, fold and label: `predictions.PREDICTIONS_SCHEMA`;
            None unless requested.
        outputs: The same as arrays, one output per fold; empty unless requested.
        intervals: One row per metric of the whole task: `bootstrap.INTERVALS_SCHEMA`; None unless
            requested.
    """

    problem_id: str
    status: Status
    reason: str
    seconds: float
    n_samples: int
    n_features: int
    n_labels: int
    solver: str
    gradient_norm: float
    scores: pl.DataFrame
    predictions: pl.DataFrame | None
    intervals: pl.DataFrame | None
    outputs: tuple[FoldOutput, ...] = ()


def evaluate(
    matrix: npt.NDArray[Any],
    problems: Sequence[Problem],
    probe: Probe,
    protocol: Protocol,
    *,
    device: str = "cpu",
    threads: int | None = None,
    memory_bytes: int = 6 << 30,
    predictions: bool | Literal["arrays"] = False,
    intervals: bool | Literal["main"] = False,
    progress: Progress | None = None,
) -> Iterator[Evaluation]:
    """Evaluate one embedding on many problems.

    Args:
        matrix: (entities, features) float32 or float64, finite.
        problems: Problems with distinct ids, whose `rows` are row numbers of the matrix.
        probe: The model to fit.
        protocol: Folds, scaling, penalty and metrics.
        device: torch device of the linear engine, such as `cpu` or `cuda`.
        threads: Threads of the engine and of the intervals; all cores by default.
        memory_bytes: Memory limit of the engine.
        predictions: Also return the held-out predictions: as a table, or (`arrays`) as `outputs`.
        intervals: Also return bootstrap intervals, with the protocol's number of draws: of all
            metrics, or (`main`) of the main metric of each kind of task.
        progress: Called with the number of fits done and the number of all fits.

    Yields:
        One evaluation per problem, as soon as it is computed: first the problems that are not
        applicable, then the others in the order in which the probe solves them.

    Raises:
        ValueError: The matrix is not finite, a row lies outside it, or ids repeat.

    Example:
        >>> folds = assign_folds("binary", ids, entities, targets, protocol)      # doctest: +SKIP
        >>> problem = Problem("task", "binary", rows, targets, ("yes",), make_split(folds))
        >>> [e.scores for e in evaluate(matrix, [problem], probe, protocol)]
    """
    _check_inputs(matrix, problems)
    applicable = []
    for problem in problems:
        if reason := explain_not_applicable(problem):
            yield _without_scores(problem, matrix, protocol, "not_applicable", reason)
        else:
            applicable.append(problem)
    if not applicable:
        return
    total = sum(p.n_folds * (p.n_columns if p.kind == "multilabel" else 1) for p in applicable)
    done = 0

    def advance(n_fits: int) -> None:
        nonlocal done
        done += n_fits
        if progress is not None:
            progress(done, total)

    outputs: Iterator[HeldOut]
    if probe.engine == "linear":
        from genebench.probes.linear import SolverSettings
        from genebench.probes.linear.adapter import solve_problems
        from genebench.threads import use_threads

        settings = SolverSettings(device=device, memory_bytes=memory_bytes)
        outputs = use_threads(
            threads, solve_problems(matrix, applicable, probe, protocol, settings, advance)
        )
    elif probe.engine == "incidence":
        from genebench.probes import incidence

        outputs = incidence.fit_problems(applicable, probe, advance)
    else:
        from genebench.probes.scikit_learn import fit_problems

        outputs = fit_problems(matrix, applicable, probe, protocol, advance)
    cores = threads or os.cpu_count() or 1
    by_id = {problem.id: problem for problem in applicable}
    for held_out in outputs:
        problem = by_id[held_out.problem_id]
        yield _score(problem, held_out, matrix, protocol, predictions, intervals, cores)


def _check_inputs(matrix: npt.NDArray[Any], problems: Sequence[Problem]) -> None:
    if not np.isfinite(matrix).all():
        raise ValueError(
            "the embedding matrix has NaN or infinite values; every value must be finite"
        )
    ids = [problem.id for problem in problems]
    if len(set(ids)) != len(ids):
        raise ValueError("problem ids repeat; give each problem its own id")
    for problem in problems:
        if problem.n_samples and not 0 <= problem.rows.min() <= problem.rows.max() < len(matrix):
            raise ValueError(
                f"problem {problem.id!r} has rows outside the matrix of {len(matrix)} rows"
            )


def explain_not_applicable(problem: Problem) -> str:
    """Return the reason why a problem cannot be scored with its split; empty if it can.

    Every fold needs training and held-out samples; in a binary task both classes in both, in a
    multiclass task every class in training and two classes held out, in a regression two different
    held-out numbers, in a multi-label task one label with both classes in training. The other
    labels are checked one by one when they are scored.
    """
    for fold in range(problem.n_folds):
        train = problem.targets[problem.split[:, fold] == TRAIN]
        test = problem.targets[problem.split[:, fold] == TEST]
        if not len(train) or not len(test):
            return f"fold {fold} has {len(train)} training and {len(test)} held-out samples"
        if reason := _FOLD_CHECKS[problem.kind](problem, train, test):
            return f"fold {fold}: {reason}"
    return "" if problem.n_folds else "no folds"


def _check_binary(_: Problem, train: npt.NDArray[Any], test: npt.NDArray[Any]) -> str:
    for part, targets in (("training", train), ("held-out", test)):
        if (found := int(targets.sum())) in (0, len(targets)):
            return f"{found} of {len(targets)} {part} samples are positive"
    return ""


def _check_multiclass(problem: Problem, train: npt.NDArray[Any], test: npt.NDArray[Any]) -> str:
    counts = np.bincount(train, minlength=problem.n_columns)
    if not counts.all():
        return f"class {problem.labels[int(np.argmin(counts))]!r} has no training sample"
    return "all held-out samples are of one class" if len(np.unique(test)) < 2 else ""


def _check_multilabel(_: Problem, train: npt.NDArray[Any], __: npt.NDArray[Any]) -> str:
    found = train.sum(axis=0)
    if ((found > 0) & (found < len(train))).any():
        return ""
    return f"no label has both classes in {len(train)} training samples"


def _check_regression(_: Problem, __: npt.NDArray[Any], test: npt.NDArray[Any]) -> str:
    return "all held-out numbers are equal" if len(np.unique(test)) < 2 else ""


_FOLD_CHECKS = {
    "binary": _check_binary,
    "multiclass": _check_multiclass,
    "multilabel": _check_multilabel,
    "regression": _check_regression,
}


def _without_scores(
    problem: Problem,
    matrix: npt.NDArray[Any],
    protocol: Protocol,
    status: Status,
    reason: str,
    held_out: HeldOut | None = None,
) -> Evaluation:
    return Evaluation(
        problem.id,
        status,
        reason,
        held_out.seconds if held_out else 0.0,
        problem.n_samples,
        _n_features(problem, matrix, protocol),
        problem.n_columns,
        held_out.solver if held_out else "",
        0.0,
        SCORES_SCHEMA.to_frame(),
        None,
        None,
    )


def _n_features(problem: Problem, matrix: npt.NDArray[Any], protocol: Protocol) -> int:
    n_joined = problem.rows.shape[1] if protocol.pair_join == "concat" else 1
    return int(matrix.shape[1] * n_joined)


def _score(
    problem: Problem,
    held_out: HeldOut,
    matrix: npt.NDArray[Any],
    protocol: Protocol,
    predictions: bool | Literal["arrays"],
    intervals: bool | Literal["main"],
    threads: int,
) -> Evaluation:
    if held_out.failure:
        return _without_scores(problem, matrix, protocol, "failed", held_out.failure, held_out)
    rows: list[tuple[str, str, int, float, int, int]] = []
    notes: dict[str, list[int]] = {}
    usable_by_fold: list[npt.NDArray[np.bool_]] = []
    for fold, output in enumerate(held_out.folds):
        truth = problem.truth(output.rows)
        usable = output.fitted.copy()
        reasons = dict(output.reasons)
        if problem.kind == "multilabel":
            found, n_scored = count_outcomes(truth)
            constant = (found == 0) | (found == n_scored)
            for column in np.flatnonzero(usable & constant):
                which = "absent" if found[column] == 0 else "present"
                reasons[problem.labels[column]] = f"{which} in all held-out samples"
            usable &= ~constant
        is_scorable = usable.any() if problem.kind == "multilabel" else usable.all()
        if not is_scorable:
            reason = "; ".join(sorted(set(reasons.values())))
            failed = set(output.reasons) - output.unfittable
            status: Status = "failed" if failed else "not_applicable"
            return _without_scores(
                problem, matrix, protocol, status, f"fold {fold}: {reason}", held_out
            )
        for label, reason in reasons.items():
            notes.setdefault(f"{label}: {reason}", []).append(fold)
        usable_by_fold.append(usable)
        n_train = int((problem.split[:, fold] == TRAIN).sum())
        for (label, metric), value in score_fold(problem, output, usable, protocol).items():
            if not math.isfinite(value):
                raise ArithmeticError(
                    f"problem {problem.id!r}, fold {fold}: {metric} of {label!r} is {value}"
                )
            rows.append((label, metric, fold, value, n_train, len(output.rows)))
    reason = "; ".join(
        f"left out of fold {', '.join(map(str, folds))}: {note}" for note, folds in notes.items()
    )
    n_features = _n_features(problem, matrix, protocol)
    norms = [output.gradient_norm[output.fitted] for output in held_out.folds]
    scores = pl.DataFrame(rows, schema=SCORES_SCHEMA, orient="row")
    return Evaluation(
        problem.id,
        "ok",
        reason,
        held_out.seconds,
        problem.n_samples,
        n_features,
        problem.n_columns,
        held_out.solver,
        float(np.concatenate(norms).max(initial=0.0)),
        scores,
        frame_predictions(problem, held_out) if predictions is True else None,
        score_intervals(
            problem,
            held_out.folds,
            usable_by_fold,
            protocol,
            scores,
            n_features,
            threads,
            [MAIN_METRICS[problem.kind]] if intervals == "main" else None,
        )
        if intervals
        else None,
        held_out.folds if predictions == "arrays" else (),
    )

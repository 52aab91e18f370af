"""Fits any scikit-learn estimator by name, one label and fold at a time.

Folds and rows are those of the linear engine. Probabilities are converted to log odds, so that the
scores of all probes have the same meaning. A declaration can only name classes below `sklearn`, so
it cannot run other code.
"""

import importlib
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.errors import RegistryError
from genebench.evaluation.metrics import EPSILON
from genebench.probes.declaration import TEST, TRAIN, Estimator, FoldOutput, HeldOut, Probe, Problem
from genebench.protocols.declaration import Protocol

Floats = npt.NDArray[np.float64]
NAME = re.compile(r"^[a-z][a-z_]*(\.[a-z][a-z_]*)*\.[A-Z][A-Za-z0-9]*$")


def fit_problems(
    matrix: npt.NDArray[Any],
    problems: Sequence[Problem],
    probe: Probe,
    protocol: Protocol,
    progress: Callable[[int], None] | None = None,
) -> Iterator[HeldOut]:
    """Fit a scikit-learn probe to all problems on one embedding matrix.

    Args:
        matrix: (entities, features), finite.
        problems: Problems of any kind.
        probe: Estimators and their parameters.
        protocol: Scaling and the join of pairs; the penalty is not used.
        progress: Called with the number of fits done since the last call.

    Yields:
        One output per problem, in order.

    Raises:
        RegistryError: scikit-learn has no such estimator, or it does not accept a parameter.
    """
    from threadpoolctl import threadpool_limits

    for problem in problems:
        started = time.perf_counter()
        build_estimator(probe.estimator(problem.kind), probe.id)
        folds = []
        # Two BLAS threads make small scikit-learn fits several times slower than one.
        with threadpool_limits(1, user_api="blas"):
            for fold in range(problem.n_folds):
                folds.append(_fit_fold(matrix, problem, fold, probe, protocol))
                if progress is not None:
                    progress(problem.n_columns if problem.kind == "multilabel" else 1)
        seconds = time.perf_counter() - started
        name = f"scikit-learn {probe.estimator(problem.kind).name}"
        yield HeldOut(problem.id, tuple(folds), "", seconds, name)


def build_estimator(declared: Estimator, probe_id: str) -> Any:
    """Build an unfitted estimator from its declaration.

    Raises:
        RegistryError: There is no such estimator below `sklearn`, or it rejects a parameter.
    """
    if not NAME.match(declared.name):
        raise RegistryError(
            [f"probe {probe_id!r}: {declared.name!r} is no import path below sklearn like svm.SVC"]
        )
    module_name, class_name = f"sklearn.{declared.name}".rsplit(".", 1)
    try:
        estimator_class = getattr(importlib.import_module(module_name), class_name)
        estimator = estimator_class(**declared.parameters)
    except (ImportError, AttributeError, TypeError) as error:
        raise RegistryError([f"probe {probe_id!r}: {declared.name}: {error}"]) from error
    if not hasattr(estimator, "fit"):
        raise RegistryError([f"probe {probe_id!r}: {declared.name} has no method `fit`"])
    return estimator


def join_vectors(
    matrix: npt.NDArray[Any], rows: npt.NDArray[np.int64], join: str
) -> npt.NDArray[Any]:
    """Join the vectors of (n, positions) entities into one (n, features) vector per sample.

    Raises:
        ValueError: The join is unknown, or not defined for this number of positions.
    """
    positions = rows.shape[1]
    if positions == 1:
        return np.asarray(matrix[rows[:, 0]])
    if join == "concat":
        return np.asarray(matrix[rows].reshape(len(rows), -1))
    if join == "mean":
        return np.asarray(matrix[rows].mean(axis=1))
    if positions == 2 and join == "product":
        return np.asarray(matrix[rows[:, 0]] * matrix[rows[:, 1]])
    if positions == 2 and join == "difference":
        return np.asarray(np.abs(matrix[rows[:, 0]] - matrix[rows[:, 1]]))
    raise ValueError(f"cannot join {positions} vectors by {join!r}")


def _fit_fold(
    matrix: npt.NDArray[Any], problem: Problem, fold: int, probe: Probe, protocol: Protocol
) -> FoldOutput:
    train = np.flatnonzero(problem.split[:, fold] == TRAIN)
    test = np.flatnonzero(problem.split[:, fold] == TEST)
    columns = problem.n_columns
    scores = np.full((len(test), columns), np.nan)
    fitted = np.zeros(columns, dtype=bool)
    iterations = np.zeros(columns, dtype=np.int64)
    reasons: dict[str, str] = {}
    unfittable: set[str] = set()
    train_vectors = join_vectors(matrix, problem.rows[train], protocol.pair_join)
    test_vectors = join_vectors(matrix, problem.rows[test], protocol.pair_join)
    if protocol.standardise and len(train):
        center, scale = (
            train_vectors.mean(axis=0, dtype=np.float64),
            train_vectors.std(axis=0, dtype=np.float64),
        )
        scale[scale <= 1e-7 * np.abs(center)] = 1.0
        train_vectors, test_vectors = (
            ((part - center) / np.where(scale > 0, scale, 1.0)).astype(matrix.dtype)
            for part in (train_vectors, test_vectors)
        )
    each = range(columns) if problem.kind == "multilabel" else [slice(None)]
    for column in each:
        targets = problem.targets[:, column] if problem.kind == "multilabel" else problem.targets
        block = slice(column, column + 1) if isinstance(column, int) else column
        reason = _explain_unfittable(problem, targets[train])
        unfittable.update(problem.labels[block] if reason else ())
        if not reason and len(test):
            estimator = build_estimator(probe.estimator(problem.kind), probe.id)
            with warnings.catch_warnings():
                # Ignores convergence warnings: the declaration limits iterations on purpose.
                warnings.simplefilter("ignore")
                try:
                    estimator.fit(train_vectors, targets[train])
                    scores[:, block] = _read_scores(estimator, problem, test_vectors)
                    # Estimators without iterations have no `n_iter_`, or None (Ridge).
                    n_iter = getattr(estimator, "n_iter_", None)
                    iterations[block] = 0 if n_iter is None else int(np.max(n_iter))
                except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                    reason = f"{type(estimator).__name__}: {str(error).splitlines()[0]}"
        if not reason and not np.isfinite(scores[:, block]).all():
            reason = "the estimator's predictions are not finite"
        fitted[block] = not reason
        if reason:
            reasons |= dict.fromkeys(problem.labels[block], reason)
    c = np.full(columns, np.nan)
    return FoldOutput(test, scores, fitted, reasons, np.zeros(columns), c, iterations, unfittable)


def _explain_unfittable(problem: Problem, targets: npt.NDArray[Any]) -> str:
    """Return the reason why an estimator cannot be fitted to targets; empty if it can."""
    if not len(targets):
        return "no training samples"
    if problem.kind == "regression":
        return ""
    classes = problem.n_columns if problem.kind == "multiclass" else 2
    if len(np.unique(targets)) < classes:
        if problem.kind == "multiclass":
            return "a class has no training sample"
        return f"{int(targets.sum())} of {len(targets)} training samples are positive"
    return ""


def _read_scores(estimator: Any, problem: Problem, vectors: npt.NDArray[Any]) -> Floats:
    """Predict (n, 1 or classes) log odds, logits or numbers."""
    if problem.kind == "regression":
        return np.asarray(estimator.predict(vectors), dtype=np.float64).reshape(-1, 1)
    if hasattr(estimator, "predict_proba"):
        shares = np.clip(estimator.predict_proba(vectors).astype(np.float64), EPSILON, 1 - EPSILON)
        if problem.kind == "multiclass":
            return np.asarray(np.log(shares))
        return np.asarray((np.log(shares[:, 1]) - np.log(shares[:, 0]))[:, None])
    margins = np.asarray(estimator.decision_function(vectors), dtype=np.float64)
    return margins.reshape(len(vectors), -1)

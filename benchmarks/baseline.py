"""scikit-learn at its best on this machine: float32, one BLAS thread a process, a process a core.

With two BLAS threads in one process it runs several times slower, and a handicapped baseline is a
lie. Where all fits would take hours, a sample of them is run, and its time scaled up.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes import TEST, TRAIN, Problem
from genebench.probes.sklearn import join_vectors

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# (label, fold); the label is 0 where there is one fit a fold.
Fit = tuple[int, int]


@dataclass(frozen=True)
class Solver:
    """One way to run scikit-learn.

    Attributes:
        name: How results call it.
        parameters: Of LogisticRegression.
    """

    name: str
    parameters: dict[str, Any]


SOLVERS = {
    "default": Solver("lbfgs tol=1e-4", {"max_iter": 5000}),
    "tight": Solver("lbfgs tol=1e-8", {"max_iter": 20_000, "tol": 1e-8}),
    "cholesky": Solver("newton-cholesky", {"solver": "newton-cholesky", "max_iter": 100}),
}


@dataclass(frozen=True)
class Fitted:
    """One fit.

    Attributes:
        fit: What was fitted.
        scores: Held-out decision values or predictions.
        coefficients: (classes or 1, features).
        intercepts: (classes or 1,).
    """

    fit: Fit
    scores: npt.NDArray[np.float64]
    coefficients: npt.NDArray[np.float64]
    intercepts: npt.NDArray[np.float64]


_held: dict[str, Any] = {}


def _start(path: str, problem: Problem, join: str, parameters: dict[str, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    _held["vectors"] = np.load(path, mmap_mode="r")
    _held.update(problem=problem, join=join, parameters=parameters)
    # The first fit of a process pays for imports; that is not what is measured.
    LogisticRegression().fit(np.eye(4, dtype=np.float32), [0, 1, 0, 1])


def _fit(fit: Fit) -> Fitted:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    problem: Problem = _held["problem"]
    label, fold = fit
    parts = [np.flatnonzero(problem.split[:, fold] == part) for part in (TRAIN, TEST)]
    known, new = (
        join_vectors(_held["vectors"], problem.rows[rows], _held["join"]) for rows in parts
    )
    targets = problem.targets[parts[0]]
    if problem.kind == "multilabel":
        targets = targets[:, label]
    if problem.kind == "regression":
        model = LinearRegression().fit(known, targets)
        scores = model.predict(new)
    else:
        model = LogisticRegression(**_held["parameters"]).fit(known, targets)
        scores = model.decision_function(new)
    return Fitted(
        fit,
        np.asarray(scores, dtype=np.float64),
        np.atleast_2d(model.coef_).astype(np.float64),
        np.atleast_1d(model.intercept_).astype(np.float64),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started inside the block compute with one BLAS thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_baseline(
    vectors: npt.NDArray[np.float32],
    problem: Problem,
    join: str,
    solver: Solver,
    fits: list[Fit],
) -> tuple[float, list[Fitted]]:
    """Run some fits on all cores.

    Args:
        vectors: (entities, features).
        problem: What is fitted.
        join: Of pairs.
        solver: The way.
        fits: Labels and folds.

    Returns:
        Wall seconds, processes already started, and the fits.
    """
    n_cores = os.cpu_count() or 1
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vectors.npy")
        np.save(path, vectors)
        with ProcessPoolExecutor(
            n_cores,
            mp_context=get_context("spawn"),
            initializer=_start,
            initargs=(path, problem, join, solver.parameters),
        ) as pool:
            list(pool.map(abs, range(2 * n_cores)))
            started = time.perf_counter()
            fitted = list(pool.map(_fit, fits))
            seconds = time.perf_counter() - started
    return seconds, fitted

"""scikit-learn baseline in its fastest setup: float32, one process per core, one BLAS thread each.

Two BLAS threads in one process are several times slower, which would be an unfair comparison. Where
all fits would take hours, a sample of them is timed and the time is scaled up.
"""

import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, Kind, Problem
from genebench.probes.scikit_learn import join_vectors

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# (label, fold); the label is 0 where there is one fit a fold.
Fit = tuple[int, int]


@dataclass(frozen=True)
class Solver:
    """One way to run scikit-learn.

    Attributes:
        name: How results call it.
        parameters: Of LogisticRegression.
        path: Values of C to choose from on inner folds, of standardised features; () for neither.
        inner: Number of inner folds.
    """

    name: str
    parameters: dict[str, Any]
    path: tuple[float, ...] = ()
    inner: int = 0

    def make(self, kind: Kind) -> Any:
        """An unfitted pipeline for a kind of task; its last step is the linear model."""
        from sklearn import linear_model
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if kind == "regression":
            if not self.path:
                return make_pipeline(linear_model.LinearRegression())
            alphas = [1 / c for c in self.path]
            return make_pipeline(StandardScaler(), linear_model.RidgeCV(alphas))
        if not self.path:
            return make_pipeline(linear_model.LogisticRegression(**self.parameters))
        chosen = linear_model.LogisticRegressionCV(
            Cs=self.path,
            cv=self.inner,
            scoring="neg_log_loss",
            l1_ratios=(0,),
            use_legacy_attributes=False,
            **self.parameters,
        )
        return make_pipeline(StandardScaler(), chosen)


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


def _start(path: str, problem: Problem, join: str, solver: Solver) -> None:
    from sklearn.linear_model import LogisticRegression

    _held["vectors"] = np.load(path, mmap_mode="r")
    _held.update(problem=problem, join=join, solver=solver)
    # The first fit of a process pays for imports; that is not what is measured.
    LogisticRegression().fit(np.eye(4, dtype=np.float32), [0, 1, 0, 1])


def _fit(fit: Fit) -> Fitted:
    problem: Problem = _held["problem"]
    label, fold = fit
    train, test = (np.flatnonzero(problem.split[:, fold] == part) for part in (TRAIN, TEST))
    known, new = (
        join_vectors(_held["vectors"], problem.rows[rows], _held["join"]) for rows in (train, test)
    )
    model = _held["solver"].make(problem.kind).fit(known, _targets(problem, label)[train])
    is_number = problem.kind == "regression"
    scores = model.predict(new) if is_number else model.decision_function(new)
    return Fitted(
        fit,
        np.asarray(scores, dtype=np.float64),
        np.atleast_2d(model[-1].coef_).astype(np.float64),
        np.atleast_1d(model[-1].intercept_).astype(np.float64),
    )


def _targets(problem: Problem, label: int) -> npt.NDArray[Any]:
    targets: npt.NDArray[Any] = problem.targets
    return targets[:, label] if problem.kind == "multilabel" else targets


def count_fits(problem: Problem) -> int:
    """Fits of a problem: a label in a fold each, and once a fold for other kinds."""
    return problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)


def sample_fits(problem: Problem, n: int) -> list[Fit]:
    """At most n fits spread over the labels and folds that can be fitted."""
    labels = range(problem.n_columns if problem.kind == "multilabel" else 1)
    fits = [
        (label, fold)
        for label in labels
        for fold in range(problem.n_folds)
        if len(np.unique(_targets(problem, label)[problem.split[:, fold] == TRAIN])) > 1
    ]
    step = max(len(fits) / n, 1.0)
    return [fits[int(i * step)] for i in range(min(n, len(fits)))]


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
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    with patch.dict(os.environ, threads), tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vectors.npy")
        np.save(path, vectors)
        with ProcessPoolExecutor(
            n_cores,
            mp_context=get_context("spawn"),
            initializer=_start,
            initargs=(path, problem, join, solver),
        ) as pool:
            list(pool.map(abs, range(2 * n_cores)))
            started = time.perf_counter()
            fitted = list(pool.map(_fit, fits))
            seconds = time.perf_counter() - started
    return seconds, fitted

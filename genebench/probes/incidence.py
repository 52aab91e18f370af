"""Controls that see which entities a pair has, and nothing of what they are.

`incidence.rate` scores a pair by how often each of its entities is in a positive pair of training
(a pair task that this solves asks nothing of an embedding); `incidence.identity` is the linear
probe on one column an entity. Under folds that hold out entities both can only guess.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, FoldOutput, HeldOut, Probe, Problem

Floats = npt.NDArray[np.float64]

# Pairs of prior weight that an entity's rate is drawn to the mean by.
PRIOR = 5.0


def fit_problems(
    problems: Sequence[Problem], probe: Probe, advance: Callable[[int], None]
) -> Iterator[HeldOut]:
    """Fit pair problems from their rows alone.

    Args:
        problems: Binary and regression problems of pairs; others get a failure that says so.
        probe: Whose estimators are named `incidence.rate` or `incidence.identity`.
        advance: Called with the number of fits done.
    """
    for problem in problems:
        started = time.perf_counter()
        name = probe.estimator(problem.kind).name
        if problem.rows.shape[1] < 2 or problem.kind not in ("binary", "regression"):
            advance(problem.n_folds)
            yield HeldOut(problem.id, (), f"{name} is for pairs with one outcome", 0.0, name)
            continue
        folds = []
        for fold in range(problem.n_folds):
            part = problem.split[:, fold]
            train, test = np.flatnonzero(part == TRAIN), np.flatnonzero(part == TEST)
            fit = score_rates if name == "incidence.rate" else score_identities
            folds.append(_output(test, fit(problem, train, test)))
            advance(1)
        yield HeldOut(problem.id, tuple(folds), "", time.perf_counter() - started, name)


def score_rates(
    problem: Problem, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> Floats:
    """Score pairs by their entities' mean outcome in training.

    Returns:
        (test,) log odds, whose prior is the share of positives; for regression the number itself.
    """
    rows, targets = problem.rows, np.asarray(problem.targets, dtype=np.float64)
    size, mean = int(rows.max()) + 1, float(targets[train].mean())
    places = rows[train].ravel()
    totals = np.bincount(places, np.repeat(targets[train], rows.shape[1]), size)
    counts = np.bincount(places, minlength=size)
    rates = (totals + PRIOR * mean) / (counts + PRIOR) - mean
    gains = rates[rows[test]].sum(axis=1)
    if problem.kind == "regression":
        return np.asarray(mean + gains)
    share = np.clip(mean + gains, 1e-6, 1 - 1e-6)
    # Clipping would tie pairs at the ends; the rates' sum breaks their ties.
    return np.asarray(np.log(share / (1 - share)) + gains)


def score_identities(
    problem: Problem, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> Floats:
    """Score pairs by a linear model on one column an entity, C = 1 (alpha = 1 for regression)."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression, Ridge

    n, positions = problem.rows.shape
    shape = (n, int(problem.rows.max()) + 1)
    cells: Any = (np.ones(n * positions), problem.rows.ravel(), np.arange(n + 1) * positions)
    columns = csr_matrix(cells, shape=shape)
    if problem.kind == "regression":
        ridge = Ridge().fit(columns[train], problem.targets[train])
        return np.asarray(ridge.predict(columns[test]))
    model = LogisticRegression(max_iter=1000).fit(columns[train], problem.targets[train])
    return np.asarray(model.decision_function(columns[test]))


def _output(rows: npt.NDArray[np.int64], scores: Floats) -> FoldOutput:
    zeros = np.zeros(1)
    return FoldOutput(
        rows, scores[:, None], np.ones(1, bool), {}, zeros, np.ones(1), np.zeros(1, np.int64)
    )

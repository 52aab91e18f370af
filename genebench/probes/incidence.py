"""Controls for pair tasks: models of which entities a pair has, without vectors.

`incidence.rate` scores a pair by how often each of its entities is in a positive training pair. A
pair task that this control solves does not test embeddings. `incidence.identity` is a linear model
with one indicator column per entity. Both score at chance under folds that hold out entities.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, FoldOutput, HeldOut, Probe, Problem

Floats = npt.NDArray[np.float64]

# Number of pseudo-pairs with the mean outcome that shrink the rate of an entity.
PRIOR = 5.0


def fit_problems(
    problems: Sequence[Problem], probe: Probe, advance: Callable[[int], None]
) -> Iterator[HeldOut]:
    """Fit an incidence control to pair problems.

    Args:
        problems: Binary and regression problems of pairs; other problems yield a failure.
        probe: Probe whose estimators are `incidence.rate` or `incidence.identity`.
        advance: Called with the number of fits done since the last call.

    Yields:
        One output per problem, in order.
    """
    for problem in problems:
        started = time.perf_counter()
        name = probe.estimator(problem.kind).name
        if problem.rows.shape[1] < 2 or problem.kind not in ("binary", "regression"):
            advance(problem.n_folds)
            yield HeldOut(
                problem.id, (), f"{name} needs a binary or regression task of pairs", 0.0, name
            )
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
    """Score pairs by the mean outcomes of their entities in training pairs.

    Returns:
        (test,) float64, the mean outcome plus the deviations of both entities; as log odds if the
        task is binary.
    """
    rows, targets = problem.rows, np.asarray(problem.targets, dtype=np.float64)
    n_entities, mean = int(rows.max()) + 1, float(targets[train].mean())
    entities = rows[train].ravel()
    totals = np.bincount(entities, np.repeat(targets[train], rows.shape[1]), n_entities)
    counts = np.bincount(entities, minlength=n_entities)
    rates = (totals + PRIOR * mean) / (counts + PRIOR) - mean
    deviations = rates[rows[test]].sum(axis=1)
    if problem.kind == "regression":
        return np.asarray(mean + deviations)
    share = np.clip(mean + deviations, 1e-6, 1 - 1e-6)
    # Clipping ties pairs at both ends; adding the deviations breaks these ties.
    return np.asarray(np.log(share / (1 - share)) + deviations)


def score_identities(
    problem: Problem, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]
) -> Floats:
    """Score pairs by a linear model with one indicator column per entity, C = 1 or alpha = 1."""
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

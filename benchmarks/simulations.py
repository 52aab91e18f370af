"""Simulated embeddings with known ROC AUC, and linear discriminants fitted to them."""

import math

import numpy as np
import numpy.typing as npt

from genebench.evaluation.ranks import rank_columns
from genebench.probes.declaration import TEST, TRAIN, FoldOutput, Problem

N_FOLDS = 5

Floats = npt.NDArray[np.float64]
# The fold outputs of one encoder, the area its probes have in the population, the areas found.
Simulated = tuple[list[FoldOutput], float, Floats]


def output_of(rows: npt.NDArray[np.int64], scores: Floats) -> FoldOutput:
    """A fold's output from (n, columns) scores, as a probe would give it."""
    zeros = np.zeros(scores.shape[1])
    return FoldOutput(
        rows, scores, np.ones(scores.shape[1], bool), {}, zeros, zeros, zeros.astype(np.int64)
    )


def simulate(
    rng: np.random.Generator, n: int, d: int, shift: float, n_encoders: int = 2
) -> tuple[Problem, list[Simulated]]:
    """One task and encoders that see the same signal through noise of their own.

    Classes are normal with unit variance and `shift` apart along one axis; each encoder mixes in
    noise, so all are equally good. A linear discriminant is fitted without each fold.

    Returns:
        The problem, and for each encoder its fold outputs, the mean area that its fitted
        discriminants have in the population, and the areas found in the folds.
    """
    targets = (np.arange(n) < n // 3).astype(np.uint8)
    fold = np.empty(n, int)
    for code in (0, 1):
        rows = np.flatnonzero(targets == code)
        fold[rows] = rng.permutation(np.arange(len(rows)) % N_FOLDS)
    axis = np.zeros(d)
    axis[0] = shift
    signal = rng.normal(size=(n, d)) + targets[:, None] * axis
    split = np.where(fold[:, None] == np.arange(N_FOLDS), TEST, TRAIN).astype(np.int8)
    problem = Problem("task", "binary", np.arange(n)[:, None], targets, ("yes",), split)
    encoders = []
    for _ in range(n_encoders):
        seen = 0.8 * signal + 0.6 * rng.normal(size=(n, d))
        outputs: list[FoldOutput] = []
        known: list[float] = []
        found: list[float] = []
        for k in range(N_FOLDS):
            test, train = np.flatnonzero(fold == k), fold != k
            first, second = seen[train & (targets == 1)], seen[train & (targets == 0)]
            centred = np.vstack([first - first.mean(0), second - second.mean(0)])
            weights = np.linalg.solve(centred.T @ centred, first.mean(0) - second.mean(0))
            scores = (seen[test] @ weights)[:, None]
            outputs.append(output_of(test, scores))
            reach = 0.8 * float(weights @ axis) / math.sqrt(2 * float(weights @ weights))
            known.append(math.erfc(-reach / math.sqrt(2)) / 2)
            found.append(rank_columns(targets[test][:, None] == 1, scores)[0][0])
        encoders.append((outputs, float(np.mean(known)), np.array(found)))
    return problem, encoders

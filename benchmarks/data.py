"""Synthetic embeddings with a power-law spectrum, and outcomes that depend on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, Kind, Problem

N_FOLDS = 5


def draw_vectors(
    rng: np.random.Generator, n: int, d: int, norm: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Vectors of one length with a spectrum that falls by a power law, as embeddings have.

    Args:
        rng: Source of randomness.
        n: Vectors.
        d: Their width.
        norm: Their length: 1 as most text encoders give them, about 30 as others leave them.

    Returns:
        (n, d) vectors, and the (n, d) independent coordinates that outcomes are made of.
    """
    spectrum = np.arange(1, d + 1, dtype=np.float32) ** -0.6
    coordinates = rng.standard_normal((n, d), dtype=np.float32) * spectrum
    # A product of reflections mixes the axes at a fraction of a random rotation's cost.
    vectors = coordinates
    for _ in range(4):
        axis = rng.standard_normal(d, dtype=np.float32)
        axis /= np.linalg.norm(axis)
        vectors = vectors - 2 * np.outer(vectors @ axis, axis)
    vectors = vectors + 0.3 * rng.standard_normal(d, dtype=np.float32) / np.sqrt(d)
    vectors *= norm / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), coordinates


def draw_signals(
    rng: np.random.Generator, coordinates: npt.NDArray[np.float32], columns: int
) -> npt.NDArray[np.float32]:
    """(n, columns) linear signals with logistic noise."""
    n, d = coordinates.shape
    spectrum = np.arange(1, d + 1, dtype=np.float32) ** -0.6
    weights = rng.standard_normal((d, columns), dtype=np.float32) * spectrum[:, None]
    signals = coordinates @ weights
    noise = rng.logistic(size=(n, columns))
    return np.asarray(2 * signals / signals.std(axis=0) + noise, dtype=np.float32)


def threshold(rng: np.random.Generator, signals: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Labels with shares of positives between 1 and 50 %."""
    columns = range(signals.shape[1])
    cuts = [np.quantile(signals[:, k], 1 - 10 ** rng.uniform(-2, -0.3)) for k in columns]
    return (signals > np.array(cuts)).astype(np.uint8)


def plain_split(rng: np.random.Generator, n: int) -> npt.NDArray[np.int8]:
    """(n, folds) of five shuffled folds."""
    folds = rng.permutation(np.arange(n) % N_FOLDS)
    return np.where(folds[:, None] == np.arange(N_FOLDS), TEST, TRAIN).astype(np.int8)


@dataclass(frozen=True)
class Case:
    """One measured shape.

    Attributes:
        kind: Of the task; `pairs` is a binary task on pairs.
        n: Samples.
        d: Width of the vectors.
        columns: Labels or classes.
        norm: Length of the vectors.
        entities: Of a pair task.
        join: Of its vectors.
        baseline_fits: Most fits of a baseline, where each takes minutes; 0 as many as elsewhere.
    """

    kind: str
    n: int
    d: int
    columns: int
    norm: float
    entities: int = 0
    join: str = "concat"
    baseline_fits: int = 0

    @property
    def name(self) -> str:
        """How results call it."""
        size = f"{self.n}x{self.d} {self.columns} columns norm {self.norm:g}"
        pairs = f" {self.entities} entities by {self.join}" if self.entities else ""
        return f"{self.kind} {size}{pairs}"


def draw_case(case: Case, seed: int = 0) -> tuple[npt.NDArray[np.float32], Problem]:
    """Vectors and one problem of the case's shape."""
    rng = np.random.default_rng(seed)
    vectors, coordinates = draw_vectors(rng, case.entities or case.n, case.d, case.norm)
    rows = np.arange(case.n)[:, None]
    names = tuple(f"label_{k}" for k in range(case.columns))
    split = plain_split(rng, case.n)
    targets: npt.NDArray[Any]
    kind: Kind
    if case.kind == "pairs":
        rows = rng.integers(0, case.entities, (case.n, 2))
        signals = draw_signals(rng, coordinates, 2)
        both = signals[rows[:, 0], 0] + signals[rows[:, 1], 1]
        targets, kind, names = (both > 0).astype(np.uint8), "binary", ("yes",)
    elif case.kind == "multiclass":
        kind = "multiclass"
        targets = draw_signals(rng, coordinates, case.columns).argmax(axis=1)
    elif case.kind == "regression":
        kind, names = "regression", ("value",)
        targets = draw_signals(rng, coordinates, 1)[:, 0].astype(np.float64)
    elif case.kind == "binary":
        kind, names = "binary", ("yes",)
        targets = threshold(rng, draw_signals(rng, coordinates, 1))[:, 0]
    else:
        kind = "multilabel"
        targets = threshold(rng, draw_signals(rng, coordinates, case.columns))
    return vectors, Problem("task", kind, rows, targets, names, split)

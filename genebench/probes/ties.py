"""Equal samples get equal scores.

A product may treat rows of different tiles differently, so equal rows can have scores that differ
in the last bits, and ranks that depend on what is solved together.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.problem import HeldOut

# Joins that do not depend on the order of the entities.
SYMMETRIC = ("mean", "product", "difference")

Numbers = npt.NDArray[np.int64]


def number_rows(matrix: npt.NDArray[Any]) -> Numbers:
    """(n,) for each row, the number of the first row of equal bits (by 64-bit hashes)."""
    return find_first(np.array([hash(row.tobytes()) for row in matrix]))


def number_joined_rows(row_numbers: Numbers, rows: Numbers, join: str) -> Numbers:
    """(samples,) numbers that are equal where the joins of (samples, positions) rows are."""
    entities = row_numbers[rows]
    if join in SYMMETRIC:
        entities = np.sort(entities, axis=1)
    numbers = entities[:, 0]
    for position in entities.T[1:]:
        pairs = numbers * len(row_numbers) + position
        numbers = np.unique(pairs, return_inverse=True)[1]
    return numbers


def find_first(items: npt.NDArray[Any]) -> Numbers:
    """(n,) for each item, the position of the first that equals it."""
    _, first, place = np.unique(items, return_index=True, return_inverse=True)
    return first[place]


def tie_equal_samples(held_out: HeldOut, samples: Numbers) -> HeldOut:
    """Give the held-out samples of a fold whose numbers are equal the scores of the first."""
    folds = (
        replace(fold, scores=fold.scores[find_first(samples[fold.rows])]) for fold in held_out.folds
    )
    return replace(held_out, folds=tuple(folds))

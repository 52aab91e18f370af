"""Samples with equal vectors: they get equal decision values.

A matrix product may treat rows of different tiles differently, so equal rows of a design can have
decision values that differ in the last bits. A rank would then depend on what is solved together.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
# Joins that do not depend on the order of the entities.
SYMMETRIC = ("mean", "product", "difference")


def number_rows(matrix: npt.NDArray[Any]) -> Numbers:
    """(n,) for each row, the number of the first row that equals it bit by bit."""
    first: dict[int, int] = {}
    numbers = np.arange(len(matrix))
    for number, row in enumerate(matrix):
        found = first.setdefault(hash(row.tobytes()), number)
        if found != number and np.array_equal(row, matrix[found]):
            numbers[number] = found
    return numbers


def number_joined_rows(row_numbers: Numbers, rows: npt.NDArray[np.int64], join: str) -> Numbers:
    """(samples,) numbers that are equal where the joined vectors are.

    Args:
        row_numbers: Of the matrix, by `number_rows`.
        rows: (samples, positions) rows of the matrix.
        join: How the vectors of a sample are joined.
    """
    entities = row_numbers[rows]
    if join in SYMMETRIC:
        entities = np.sort(entities, axis=1)
    numbers = entities[:, 0]
    for position in entities.T[1:]:
        pairs = numbers * len(row_numbers) + position
        numbers = np.unique(pairs, return_inverse=True)[1]
    return numbers


def find_first(numbers: Numbers) -> Numbers:
    """(n,) for each number, the position of the first that equals it."""
    _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
    return first[place]

"""Long sequences: windows of near-equal length, and means that count each unit once.

A sequence of n units in windows of at most w is cut into ceil(n / w) windows whose lengths differ
by one at most, so that no short rest is embedded without context. Its vector is the mean over all
its units, which is the mean of the windows weighted by their lengths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import Encoder
from genebench.encoders.inference.batching import batches, keep_memory, run_batches

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Window:
    """Units start..stop of one sequence."""

    sequence: int
    start: int
    stop: int


def cut(lengths: Sequence[int], size: int) -> list[Window]:
    """Cut sequences into windows of at most `size` units; an empty sequence gives none."""
    windows = []
    for sequence, length in enumerate(lengths):
        count = -(-length // size)
        edges = [length * i // count for i in range(count + 1)] if count else []
        windows += [Window(sequence, a, b) for a, b in pairwise(edges)]
    return windows


def mean_by_owner(
    matrix: npt.NDArray[np.float64],
    owners: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    n: int,
) -> npt.NDArray[np.float64]:
    """Weighted mean of the rows of each owner.

    Args:
        matrix: (m, d).
        owners: (m,) in 0..n-1; every owner has a row.
        weights: (m,) positive.
        n: Number of owners.

    Returns:
        (n, d).
    """
    sums = np.zeros((n, matrix.shape[1]))
    np.add.at(sums, owners, matrix * weights[:, None])
    totals = np.bincount(owners, weights=weights, minlength=n)
    return np.asarray(sums / totals[:, None])


class Share:
    """Turns work done into entities done, which sum to the number of entities in the end.

    Args:
        n_entities: What the progress counts.
        work: Of everything, such as tokens.
        progress: Told how many entities were done since the last call.
    """

    def __init__(self, n_entities: int, work: int, progress: Callable[[int], None]) -> None:
        self._n_entities = n_entities
        self._work = max(work, 1)
        self._progress = progress
        self._done = 0
        self._told = 0

    def add(self, work: int) -> None:
        """Count work; tells the progress where whole entities were completed by it."""
        self._done += work
        reached = self._n_entities * self._done // self._work
        if reached > self._told:
            self._progress(reached - self._told)
            self._told = reached


@dataclass(frozen=True)
class Means:
    """Vectors of entities from their sequences.

    Args:
        matrix: (n, d) float32.
        n_parts: (n,) sequences averaged.
        n_windowed: Different sequences that were longer than a window.
    """

    matrix: npt.NDArray[np.float32]
    n_parts: npt.NDArray[np.int32]
    n_windowed: int


def encode_parts(
    encoder: Encoder,
    device: "torch.device",
    parts: list[list[str]],
    measure: Callable[[list[str]], list[int]],
    forward: Callable[[list[str], list[Window]], npt.NDArray[np.float32]],
    window: int,
    n_special: int,
    width: int,
    progress: Callable[[int], None],
) -> Means:
    """Encode the sequences of entities; equal sequences are encoded once.

    Args:
        encoder: The declaration; gives width and runtime.
        device: Where `forward` runs; decides the size of a batch.
        parts: The sequences of each entity, one at least.
        measure: Gives the number of units of each different sequence.
        forward: Gives the (m, d) means of windows over their units.
        window: Most units read at once.
        n_special: Special tokens of a window.
        width: Of the vectors, d.
        progress: Told how many entities were done since the last call.

    Returns:
        Each entity's mean over its sequences of each sequence's mean over its units.
    """
    from genebench.encoders.inference.devices import free_memory, is_out_of_memory, token_budget

    unique = list(dict.fromkeys(sequence for own in parts for sequence in own))
    windows = cut(measure(unique), window)
    sizes = np.array([w.stop - w.start for w in windows], np.int64)
    if encoder.runtime.keeps_memory:
        keep_memory()
    share = Share(len(parts), int(sizes.sum()), progress)
    means = np.empty((len(windows), width), np.float64)
    dealt = batches((sizes + n_special).tolist(), token_budget(encoder, device))
    for batch, vectors in run_batches(
        dealt,
        lambda batch: forward(unique, [windows[i] for i in batch]),
        is_out_of_memory,
        free_memory,
    ):
        means[batch] = vectors
        share.add(int(sizes[batch].sum()))
    owners = np.array([w.sequence for w in windows], np.int64)
    by_sequence = mean_by_owner(means, owners, sizes.astype(np.float64), len(unique))
    row_of = {sequence: row for row, sequence in enumerate(unique)}
    rows = np.array([row_of[sequence] for own in parts for sequence in own], np.int64)
    n_parts = np.array([len(own) for own in parts], np.int32)
    owners_of_rows = np.repeat(np.arange(len(parts)), n_parts)
    matrix = mean_by_owner(by_sequence[rows], owners_of_rows, np.ones(len(rows)), len(parts))
    n_windowed = int((np.bincount(owners, minlength=len(unique)) > 1).sum())
    return Means(matrix.astype(np.float32), n_parts, n_windowed)


def pad(rows: list[npt.NDArray[np.int64]], value: int) -> npt.NDArray[np.int64]:
    """Rows of different lengths as one (n, longest) matrix."""
    matrix = np.full((len(rows), max(len(row) for row in rows)), value, np.int64)
    for place, row in enumerate(rows):
        matrix[place, : len(row)] = row
    return matrix

"""Encodes long sequences in windows and averages the windows weighted by their lengths.

A sequence of n units (residues or tokens) is split into ceil(n / w) windows of at most w units.
Their lengths differ by at most one, so that no short remainder is encoded without context. The
vector of the sequence is the mean over all its units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import Encoder
from genebench.encoders.inference.batching import make_batches, retain_freed_memory, run_batches

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Window:
    """The units from `start` to `stop` (exclusive) of one sequence."""

    sequence: int
    start: int
    stop: int


def split_into_windows(lengths: Sequence[int], size: int) -> list[Window]:
    """Split sequences into windows of at most `size` units; an empty sequence has no window."""
    windows = []
    for sequence, length in enumerate(lengths):
        count = -(-length // size)
        edges = [length * i // count for i in range(count + 1)] if count else []
        windows += [Window(sequence, a, b) for a, b in pairwise(edges)]
    return windows


def weighted_group_means(
    matrix: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    n: int,
) -> npt.NDArray[np.float64]:
    """Compute the weighted mean of the rows of each group.

    Args:
        matrix: (m, d).
        groups: (m,) group of each row, in 0..n-1; every group has a row.
        weights: (m,) positive.
        n: Number of groups.

    Returns:
        (n, d).
    """
    sums = np.zeros((n, matrix.shape[1]))
    np.add.at(sums, groups, matrix * weights[:, None])
    totals = np.bincount(groups, weights=weights, minlength=n)
    return np.asarray(sums / totals[:, None])


class EntityProgress:
    """Converts progress in units of work to progress in entities.

    The reported numbers are positive and sum to the number of entities.

    Args:
        n_entities: Number of entities.
        work: Total work, such as the number of tokens.
        progress: Called with the number of entities completed since the last call.
    """

    def __init__(self, n_entities: int, work: int, progress: Callable[[int], None]) -> None:
        self._n_entities = n_entities
        self._work = max(work, 1)
        self._progress = progress
        self._done = 0
        self._reported = 0

    def add(self, work: int) -> None:
        """Add completed work; report progress if it completes at least one entity."""
        self._done += work
        reached = self._n_entities * self._done // self._work
        if reached > self._reported:
            self._progress(reached - self._reported)
            self._reported = reached


@dataclass(frozen=True)
class SequenceMeans:
    """Vectors of entities, averaged over their sequences.

    Args:
        matrix: (n, d) float32.
        n_parts: (n,) number of sequences of each entity.
        n_windowed: Number of distinct sequences that were longer than a window.
    """

    matrix: npt.NDArray[np.float32]
    n_parts: npt.NDArray[np.int32]
    n_windowed: int


def encode_sequences(
    encoder: Encoder,
    device: "torch.device",
    sequences: list[list[str]],
    measure: Callable[[list[str]], list[int]],
    forward: Callable[[list[str], list[Window]], npt.NDArray[np.float32]],
    window: int,
    n_special: int,
    width: int,
    progress: Callable[[int], None],
) -> SequenceMeans:
    """Encode the sequences of entities; equal sequences are encoded once.

    Args:
        encoder: The declaration, with the runtime settings.
        device: Device of `forward`; it decides the default batch size.
        sequences: The sequences of each entity, at least one.
        measure: Returns the number of units of each distinct sequence.
        forward: Returns the (m, d) means of windows over their units.
        window: Maximum number of units in a window.
        n_special: Number of special tokens in a window.
        width: Width of the vectors, d.
        progress: Called with the number of entities encoded since the last call.

    Returns:
        For each entity, the mean over its sequences of the mean over the units of each sequence.
    """
    from genebench.encoders.inference.devices import free_memory, is_out_of_memory, token_budget

    unique = list(dict.fromkeys(sequence for group in sequences for sequence in group))
    windows = split_into_windows(measure(unique), window)
    sizes = np.array([w.stop - w.start for w in windows], np.int64)
    if encoder.runtime.keeps_memory:
        retain_freed_memory()
    entity_progress = EntityProgress(len(sequences), int(sizes.sum()), progress)
    means = np.empty((len(windows), width), np.float64)
    window_batches = make_batches((sizes + n_special).tolist(), token_budget(encoder, device))
    for batch, vectors in run_batches(
        window_batches,
        lambda batch: forward(unique, [windows[i] for i in batch]),
        is_out_of_memory,
        free_memory,
    ):
        means[batch] = vectors
        entity_progress.add(int(sizes[batch].sum()))
    sequence_of_window = np.array([w.sequence for w in windows], np.int64)
    by_sequence = weighted_group_means(
        means, sequence_of_window, sizes.astype(np.float64), len(unique)
    )
    row_of = {sequence: row for row, sequence in enumerate(unique)}
    rows = np.array([row_of[sequence] for group in sequences for sequence in group], np.int64)
    n_parts = np.array([len(group) for group in sequences], np.int32)
    entity_of_row = np.repeat(np.arange(len(sequences)), n_parts)
    matrix = weighted_group_means(
        by_sequence[rows], entity_of_row, np.ones(len(rows)), len(sequences)
    )
    n_windowed = int((np.bincount(sequence_of_window, minlength=len(unique)) > 1).sum())
    return SequenceMeans(matrix.astype(np.float32), n_parts, n_windowed)


def pad_rows(rows: list[npt.NDArray[np.int64]], value: int) -> npt.NDArray[np.int64]:
    """Pad rows of different lengths with a value to one (n, longest) matrix."""
    matrix = np.full((len(rows), max(len(row) for row in rows)), value, np.int64)
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix

"""Batches, windows, progress and recovery from out-of-memory errors."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genebench.encoders.inference.batching import (
    make_batches,
    padding_efficiency,
    retain_freed_memory,
    run_batches,
)
from genebench.encoders.inference.windows import (
    EntityProgress,
    split_into_windows,
    weighted_group_means,
)

LENGTHS = st.lists(st.integers(1, 600), max_size=60)


@given(LENGTHS, st.integers(1, 2000))
def test_batches_are_a_partition_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = make_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


@given(LENGTHS, st.integers(1, 2000))
def test_the_longest_batch_comes_first_and_lengths_never_rise(
    lengths: list[int], budget: int
) -> None:
    order = [lengths[i] for batch in make_batches(lengths, budget) for i in batch]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 2000))
def test_padding_efficiency_counts_padding(lengths: list[int], budget: int) -> None:
    batches = make_batches(lengths, budget)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padding_efficiency(lengths, batches) == pytest.approx(
        sum(lengths) / padded if padded else 1.0
    )


def test_sorting_by_length_leaves_little_padding() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 0.7, 2000).astype(int) + 10
    unsorted = [np.arange(i, min(i + 16, 2000)) for i in range(0, 2000, 16)]
    assert padding_efficiency(lengths.tolist(), make_batches(lengths.tolist(), 4096)) > 0.97
    assert padding_efficiency(lengths.tolist(), unsorted) < 0.6


class OutOfMemoryError(RuntimeError):
    """The error of a device in these tests."""


@given(st.integers(1, 40), st.integers(1, 9))
def test_a_batch_that_does_not_fit_is_halved_until_it_does(n: int, fits: int) -> None:
    recovered: list[int] = []

    def forward(batch: np.ndarray) -> np.ndarray:
        if len(batch) > fits:
            raise OutOfMemoryError
        return batch[:, None].astype(np.float32)

    seen = list(
        run_batches(
            [np.arange(n)],
            forward,
            lambda error: isinstance(error, OutOfMemoryError),
            lambda: recovered.append(1),
        )
    )
    assert [int(v) for _, vectors in seen for v in vectors.ravel()] == list(range(n))
    assert bool(recovered) == (n > fits)


def test_pending_batches_are_halved_too_so_that_one_size_fails_once() -> None:
    attempts: list[int] = []

    def forward(batch: np.ndarray) -> np.ndarray:
        attempts.append(len(batch))
        if len(batch) > 2:
            raise OutOfMemoryError
        return batch[:, None].astype(np.float32)

    batches = [np.arange(4), np.arange(4, 8), np.arange(8, 12)]
    seen = list(run_batches(batches, forward, lambda _: True, lambda: None))
    assert attempts == [4, 2, 2, 2, 2, 2, 2]
    assert [int(v) for _, vectors in seen for v in vectors.ravel()] == list(range(12))


def test_one_item_that_does_not_fit_is_an_error_and_so_is_any_other_failure() -> None:
    def fail(batch: np.ndarray) -> np.ndarray:
        raise OutOfMemoryError

    def is_memory(error: BaseException) -> bool:
        return isinstance(error, OutOfMemoryError)

    with pytest.raises(OutOfMemoryError):
        list(run_batches([np.arange(1)], fail, is_memory, lambda: None))
    with pytest.raises(OutOfMemoryError):
        list(run_batches([np.arange(4)], fail, lambda _: False, lambda: None))


@given(st.lists(st.integers(0, 500), max_size=20), st.integers(1, 100))
def test_windows_cover_each_sequence_once_and_differ_by_one_at_most(
    lengths: list[int], size: int
) -> None:
    windows = split_into_windows(lengths, size)
    for sequence, length in enumerate(lengths):
        of_sequence = [w for w in windows if w.sequence == sequence]
        units = [unit for w in of_sequence for unit in range(w.start, w.stop)]
        assert units == list(range(length))
        sizes = {w.stop - w.start for w in of_sequence}
        assert len(of_sequence) == -(-length // size)
        assert not sizes or (max(sizes) <= size and max(sizes) - min(sizes) <= 1)


def test_the_mean_of_windows_weighted_by_length_is_the_mean_over_all_units() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(1000, 4))
    windows = split_into_windows([1000], 300)
    means = np.stack([states[w.start : w.stop].mean(axis=0) for w in windows])
    sizes = np.array([w.stop - w.start for w in windows], float)
    found = weighted_group_means(means, np.zeros(len(windows), np.int64), sizes, 1)
    assert np.allclose(found[0], states.mean(axis=0))


@given(st.integers(0, 30), st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_progress_sums_to_the_number_of_entities(n_entities: int, works: list[int]) -> None:
    reported: list[int] = []
    progress = EntityProgress(n_entities, sum(works), reported.append)
    for work in works:
        progress.add(work)
    assert sum(reported) == n_entities
    assert all(step > 0 for step in reported)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_the_c_library_takes_the_memory_settings() -> None:
    assert retain_freed_memory()

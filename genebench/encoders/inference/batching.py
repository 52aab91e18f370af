"""Sorts items by length into batches with a token budget, which keeps padding low."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def make_batches(lengths: Sequence[int], budget: int) -> list[Indices]:
    """Partition items into batches whose padded size stays within a budget.

    Args:
        lengths: (n,) number of tokens of each item.
        budget: Maximum number of tokens in a batch, padding included. An item that is longer is a
            batch of one.

    Returns:
        Batches of indices into `lengths`. The longest items come first, so that a batch that is
        too large for the memory fails at the start.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    result = []
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, int(sizes[order[start]])))
        result.append(order[start : start + count])
        start += count
    return result


def padding_efficiency(lengths: Sequence[int], batches: Sequence[Indices]) -> float:
    """Return the number of tokens divided by that with padding; 1.0 if there are no batches."""
    sizes = np.asarray(lengths, dtype=np.int64)
    padded = sum(int(sizes[batch].max()) * len(batch) for batch in batches)
    return float(sizes.sum() / padded) if padded else 1.0


def run_batches(
    batches: Sequence[Indices],
    forward: Callable[[Indices], npt.NDArray[np.float32]],
    is_out_of_memory: Callable[[BaseException], bool],
    recover: Callable[[], None],
) -> Iterator[tuple[Indices, npt.NDArray[np.float32]]]:
    """Run batches one by one; if one does not fit in memory, halve it and all remaining batches.

    Args:
        batches: Batches of indices.
        forward: Computes the (len(batch), d) vectors of a batch.
        is_out_of_memory: Whether an exception means that the batch was too large.
        recover: Frees the memory of a failed batch.

    Yields:
        Each batch that succeeded, and its vectors.

    Raises:
        Exception: `forward` failed for another reason, or with a batch of one item.
    """
    pending = list(reversed(batches))
    while pending:
        batch = pending.pop()
        has_failed = False
        try:
            vectors = forward(batch)
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            has_failed = True
        if has_failed:
            # Not in the except block, where the traceback would keep the batch's memory alive.
            recover()
            pending = [half for other in [*pending, batch] for half in _halves(other)]
            continue
        yield batch, vectors


def _halves(batch: Indices) -> list[Indices]:
    """Return the second half, then the first, because the last pending batch runs first."""
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]] if middle else [batch]


def retain_freed_memory() -> bool:
    """Make glibc keep freed memory, which saves page faults when the next batch allocates it.

    Sets three options of mallopt(3): no allocation by mmap, no trimming of the heap, growth by
    256 MiB at a time. Unlike the environment variables of the same meaning, mallopt also works in
    a process that is already running.

    Returns:
        Whether the settings were accepted; False if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28))
    return all(mallopt(option, value) == 1 for option, value in settings)

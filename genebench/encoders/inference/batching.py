"""Batches by token budget: equal lengths together, so that little of a batch is padding."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def batches(lengths: Sequence[int], budget: int) -> list[Indices]:
    """Deal items into batches whose padded size stays within a budget.

    Args:
        lengths: (n,) tokens of each item.
        budget: Most tokens of a batch, padding included; a longer item is a batch of its own.

    Returns:
        Indices into `lengths`, a partition of them. Longest first, so that a batch that does not
        fit in memory shows at once.
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


def useful_share(lengths: Sequence[int], dealt: Sequence[Indices]) -> float:
    """Useful tokens over padded tokens of batches; 1.0 where there are none."""
    sizes = np.asarray(lengths, dtype=np.int64)
    padded = sum(int(sizes[batch].max()) * len(batch) for batch in dealt)
    return float(sizes.sum() / padded) if padded else 1.0


def run_batches(
    dealt: Sequence[Indices],
    forward: Callable[[Indices], npt.NDArray[np.float32]],
    is_out_of_memory: Callable[[BaseException], bool],
    recover: Callable[[], None],
) -> Iterator[tuple[Indices, npt.NDArray[np.float32]]]:
    """Run batches one by one; where one does not fit in memory, it and the rest are halved.

    Args:
        dealt: Batches of indices.
        forward: Gives the (len(batch), d) vectors of a batch.
        is_out_of_memory: Whether an exception means that the batch was too large.
        recover: Frees what a failed batch left behind.

    Raises:
        BaseException: What `forward` raised for another reason, or for a batch of one item.
    """
    waiting = list(reversed(dealt))
    while waiting:
        batch = waiting.pop()
        failure = None
        try:
            vectors = forward(batch)
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            failure = True
        if failure:
            # Outside the handler: the exception's frames would keep the batch's memory alive.
            recover()
            waiting = [half for other in [*waiting, batch] for half in _halves(other)]
            continue
        yield batch, vectors


def _halves(batch: Indices) -> list[Indices]:
    """The second half and then the first, because the last one waiting is run first."""
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]] if middle else [batch]


def keep_memory() -> bool:
    """Tell the C library to keep freed blocks, so that a batch does not fault its pages anew.

    By glibc's mallopt(3): no blocks by mmap, no trimming, 256 MiB of growth at a time. Works at
    any moment of a process, which the environment variables of the same meaning do not.

    Returns:
        Whether the C library took it; False where it is not glibc.
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

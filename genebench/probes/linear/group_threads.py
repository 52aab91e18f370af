"""Solves groups of problems at once, each with its share of the threads.

Threads that divide the products of one group wait for each other at every product; threads that
solve different groups do not (`docs/solver.md` has the times).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

import numpy.typing as npt
import torch

from genebench.cancellation import cancelled_by
from genebench.probes.linear.solver_settings import Group, SolverSettings
from genebench.threads import limit_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]

# Smaller designs are solved by one thread: their products are shorter than the wait of threads.
SERIAL = 1 << 20
# Float32 copies of the embedding matrix, and of the rows of a group, that exist at once.
MATRIX_COPIES = 3


def divide_groups(groups: Sequence[Group], features: int) -> list[list[Group]]:
    """Shares to be solved at once: all small groups, then each large one, the longest first."""
    small = [group for group in groups if group.rows.size * features < SERIAL]
    large = [group for group in groups if group.rows.size * features >= SERIAL]

    def work(group: Group) -> int:
        return len(group.rows) * sum(problem.n_columns for problem in group.problems)

    shares = [[group] for group in sorted(large, key=work, reverse=True)]
    return [small, *shares] if small else shares


def count_at_once(
    groups: Sequence[Group], matrix: npt.NDArray[Any], settings: SolverSettings
) -> int:
    """How many shares of at least one group are solved at once; 1 if not on the CPU.

    Half of the memory of each is left for columns beside its matrices. The vectors of pairs are
    not copied for each pair.
    """
    if torch.device(settings.device).type != "cpu":
        return 1
    n_shares = len(divide_groups(groups, matrix.shape[1]))
    n_copied = max((len(group.rows) for group in groups if group.rows.shape[1] == 1), default=0)
    share_bytes = 2 * MATRIX_COPIES * 4 * (len(matrix) + n_copied) * matrix.shape[1]
    n_fitting: int = settings.memory_bytes // max(share_bytes, 1)
    return max(min(torch.get_num_threads(), n_shares, n_fitting), 1)


def solve_at_once(
    shares: Sequence[Sequence[Item]],
    solve: Callable[[Item, Progress], Iterable[Result]],
    n_at_once: int,
    progress: Progress,
) -> Iterator[Result]:
    """Solve shares of items in threads.

    Args:
        shares: The items of one share are solved one after the other.
        solve: Solves an item; called in a thread of its own.
        n_at_once: Number of shares solved at once.
        progress: Called in the thread of the caller, while it waits for the next result.

    Yields:
        The results of each share, as soon as all of them are there.

    Raises:
        Exception: What `solve` raised. The other threads are then stopped.
    """
    events: SimpleQueue[int | Future[list[Result]]] = SimpleQueue()
    stop, n_threads = Event(), max(torch.get_num_threads() // n_at_once, 1)

    def solve_share(share: Sequence[Item]) -> list[Result]:
        with limit_threads(n_threads), cancelled_by(stop):
            return [result for item in share for result in solve(item, events.put)]

    pool = ThreadPoolExecutor(n_at_once)
    try:
        for share in shares:
            pool.submit(solve_share, share).add_done_callback(events.put)
        for _ in shares:
            while not isinstance(event := events.get(), Future):
                progress(event)
            yield from event.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)

"""Threads of torch's products: their number in one thread of Python, and work that shares them.

torch keeps the number for each thread, but a new thread begins with the last number that any thread
has set: one that begins while another is limited would keep that limit for ever.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Lock, local
from typing import TypeVar

import torch

from genebench.cancellation import cancelled_by

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]

_lock, _depth = Lock(), local()
# Limits that are active now, and the number of threads outside of all of them.
_active: list[int] = []
_unlimited = [1]


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Compute with this number of threads inside the block; None leaves it as it is."""
    if threads is None:
        yield
        return
    depth = getattr(_depth, "value", 0)
    with _lock:
        before = torch.get_num_threads()
        if not _active:
            _unlimited[0] = before
        elif not depth and before in _active:
            before = _unlimited[0]
        _active.append(threads)
        torch.set_num_threads(threads)
    _depth.value = depth + 1
    try:
        yield
    finally:
        with _lock:
            _active.remove(threads)
            torch.set_num_threads(before)
        _depth.value = depth


def use_threads(threads: int | None, items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each computed with this number of threads; the number is put back between."""
    while True:
        with limit_threads(threads):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


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

"""Threads: each solves a share of the subproblems with its own matrix products.

Threads that share a product wait for each other at its end, thousands of times a second. The
subproblems are independent, so each thread solves some of them to the end.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import ceil
from threading import Lock, local
from typing import TypeVar

import torch

from genebench.probes.linear.newton_cg import Solution, solve
from genebench.probes.linear.segments import Parameters, Subset
from genebench.probes.linear.subproblems import Batch

# A thread needs this many columns, or its products are slow for their size.
LEAST_COLUMNS = 8
# Subproblems with at least this many classes keep all threads busy with one product each; they are
# not divided if more than this share of the threads' time would be spent waiting for the last.
MANY_CLASSES, MUCH_WAITING = 64, 0.1

Item = TypeVar("Item")


class _ThreadLimits:
    """Number of threads of torch's products, per thread of Python.

    torch keeps the number for each thread, but a new thread begins with the last number that any
    thread has set: one that begins while another is limited would keep that limit for ever.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._active: list[int] = []
        self._unlimited = 1
        self._depth = local()

    def enter(self, threads: int) -> int:
        """Set a limit; returns the number to restore."""
        with self._lock:
            before = torch.get_num_threads()
            depth = getattr(self._depth, "value", 0)
            if not self._active:
                self._unlimited = before
            elif not depth and before in self._active:
                before = self._unlimited
            self._active.append(threads)
            self._depth.value = depth + 1
            torch.set_num_threads(threads)
        return before

    def leave(self, threads: int, before: int) -> None:
        with self._lock:
            self._active.remove(threads)
            self._depth.value -= 1
            torch.set_num_threads(before)


_limits = _ThreadLimits()


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Compute with this number of threads inside the block; None leaves it as it is."""
    if threads is None:
        yield
        return
    before = _limits.enter(threads)
    try:
        yield
    finally:
        _limits.leave(threads, before)


def use_threads(threads: int | None, items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each computed with this number of threads; the number is put back between."""
    while True:
        with limit_threads(threads):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item


def solve_in_threads(batch: Batch, start: Parameters) -> Solution:
    """Minimise all subproblems of a batch, a share of them on each thread.

    Args:
        batch: The subproblems.
        start: Where to start; overwritten with the solution.
    """
    n_threads = min(torch.get_num_threads(), batch.n_subproblems, batch.n_columns // LEAST_COLUMNS)
    if batch.penalty_strength.device.type != "cpu" or n_threads < 2:
        return solve(batch, start)
    waiting = 1 - batch.n_subproblems / (n_threads * ceil(batch.n_subproblems / n_threads))
    if batch.n_classes >= MANY_CLASSES and waiting > MUCH_WAITING:
        return solve(batch, start)
    every = torch.arange(batch.n_subproblems)
    # Each thread takes every n-th: folds of one target are neighbours and take equally long.
    shares = [batch.subset(every[first::n_threads]) for first in range(n_threads)]

    def solve_share(share: Subset) -> Solution:
        return solve(batch.take(share), share.take(start))

    # A new thread begins with the number of threads that the process has set last.
    set_one = partial(torch.set_num_threads, 1)
    with limit_threads(1), ThreadPoolExecutor(n_threads, initializer=set_one) as pool:
        parts = list(pool.map(solve_share, shares))
    norms = torch.empty(len(every), dtype=torch.float64)
    converged, steps = torch.empty(len(every), dtype=torch.bool), torch.empty_like(every)
    for share, part in zip(shares, parts, strict=True):
        share.put(start, part.parameters)
        own = share.subproblems
        norms[own], converged[own] = part.gradient_norm, part.converged
        steps[own] = part.n_steps
    return Solution(*start, norms, converged, steps, sum(part.n_products for part in parts))

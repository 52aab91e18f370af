"""Limits the number of threads of torch's products in one thread of Python.

torch keeps the number for each thread, but a new thread begins with the last number that any thread
has set: one that begins while another is limited would keep that limit for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import TypeVar

import torch

Item = TypeVar("Item")

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

"""Limits BLAS to one thread while numpy's small products are computed in several threads."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
# The limit in force, once for each block inside which it is needed.
_active: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; of blocks that overlap, in any thread, the last ends the limit."""
    with _lock:
        _active.append(_active[0] if _active else _find_blas().limit(limits=1))
    try:
        yield
    finally:
        with _lock:
            limit = _active.pop()
            if not _active:
                limit.restore_original_limits()


@functools.cache
def _find_blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")

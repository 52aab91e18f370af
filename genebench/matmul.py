"""Matrix products of float32 on a CPU, by the quicker of torch's two libraries.

torch multiplies float32 by MKL, which takes narrow instructions on processors of other makers than
its own; on an AMD EPYC with AVX512, oneDNN is twice as fast. torch leaves float32 to oneDNN only
under a setting that lets it round to bfloat16, which oneDNN does on processors with AMX only: so
both are tried, and oneDNN is taken where it is quicker and as exact.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

# oneDNN must be this much quicker: its kernels are made anew for each shape.
WORTHWHILE = 1.25
# Rounding to bfloat16 is wrong by a thousand times as much.
EXACT = 1e-5
ROUNDS = 12
# What torch calls a setting that nobody has made.
NOT_SET = "none"
# Its types do not know its settings.
ONEDNN: Any = torch.backends.mkldnn


class _Blocks:
    """How many blocks of the process are entered and not yet left."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    def add(self, change: int) -> None:
        with self._lock:
            if _prefer_onednn():
                self._count += change
                _let_round("bf16" if self._count else NOT_SET)


_blocks = _Blocks()


@contextmanager
def quick_products() -> Iterator[None]:
    """Multiply float32 matrices of a CPU by the quicker library inside the block.

    The setting is of the whole process: threads may be inside at the same time, and the last one
    that leaves puts it back.
    """
    _blocks.add(1)
    try:
        yield
    finally:
        _blocks.add(-1)


def _let_round(precision: str) -> None:
    ONEDNN.matmul.fp32_precision = precision


@cache
def _prefer_onednn() -> bool:
    """Whether oneDNN's products of float32 are quicker on this processor, and no less exact.

    Where somebody has set what they may be rounded to, that stands.
    """
    if ONEDNN.matmul.fp32_precision != NOT_SET:
        return False
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(2048, 1024, generator=generator)
    right = torch.randn(1024, 256, generator=generator)
    exact = left.double() @ right.double()

    def by_onednn() -> Tensor:
        _let_round("bf16")
        try:
            return left @ right
        finally:
            _let_round(NOT_SET)

    plain, other = best_times([lambda: left @ right, by_onednn])
    error = (by_onednn() - exact).abs().max() / exact.abs().max()
    return plain > WORTHWHILE * other and float(error) < EXACT


def best_times(products: Sequence[Callable[[], Tensor]], *, on_cpu: bool = True) -> list[float]:
    """Seconds that each product takes at its best, measured in turn: machines waver.

    On a CPU they are those that one thread computes. Threads that share a product wait for each
    other, and where other work wants the cores, all products seem to take as long as the wait.
    """
    clock = time.thread_time if on_cpu else time.perf_counter
    threads = torch.get_num_threads()
    times: list[list[float]] = [[] for _ in products]
    torch.set_num_threads(1)
    try:
        for _ in range(ROUNDS):
            for product, found in zip(products, times, strict=True):
                start = clock()
                # Reading a number back waits for a device that works asynchronously.
                float(product()[0, 0])
                found.append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    return [min(found) for found in times]

"""Selects the faster CPU library (MKL or oneDNN) for float32 matrix products in torch.

torch uses MKL, which is slow on processors that are not Intel's: on an AMD EPYC with AVX-512,
oneDNN is 2× faster. torch uses oneDNN for float32 only if it may round to bfloat16, and oneDNN
rounds only on processors with AMX. Both libraries are timed once per process, and oneDNN is
selected where it is faster and its results are as exact.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

# Required speed-up of oneDNN, which compiles its kernels again for each shape.
MIN_SPEEDUP = 1.25
# Largest accepted relative error. Rounding to bfloat16 gives about 1e-2.
MAX_RELATIVE_ERROR = 1e-5
N_REPEATS = 12
# torch's value of a precision setting that nobody has changed.
PRECISION_NOT_SET = "none"
# torch's type stubs lack these settings.
ONEDNN: Any = torch.backends.mkldnn


class _ActiveBlocks:
    """Counts the active `fastest_matmul` blocks of the process."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    def add(self, change: int) -> None:
        with self._lock:
            if _prefer_onednn():
                self._count += change
                _set_precision("bf16" if self._count else PRECISION_NOT_SET)


_active_blocks = _ActiveBlocks()


@contextmanager
def fastest_matmul() -> Iterator[None]:
    """Use the faster library for float32 matrix products on the CPU inside the block.

    The setting is process-wide. Several threads may be inside at the same time; the last one to
    leave restores the previous setting.
    """
    _active_blocks.add(1)
    try:
        yield
    finally:
        _active_blocks.add(-1)


def _set_precision(precision: str) -> None:
    ONEDNN.matmul.fp32_precision = precision


@cache
def _prefer_onednn() -> bool:
    """Return whether oneDNN multiplies float32 faster on this processor and as exactly as MKL.

    False if the user has set a precision, which then stays as it is.
    """
    if ONEDNN.matmul.fp32_precision != PRECISION_NOT_SET:
        return False
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(2048, 1024, generator=generator)
    right = torch.randn(1024, 256, generator=generator)
    exact = left.double() @ right.double()

    def multiply_by_onednn() -> Tensor:
        _set_precision("bf16")
        try:
            return left @ right
        finally:
            _set_precision(PRECISION_NOT_SET)

    mkl_time, onednn_time = kernel_times([lambda: left @ right, multiply_by_onednn])
    error = (multiply_by_onednn() - exact).abs().max() / exact.abs().max()
    return mkl_time > MIN_SPEEDUP * onednn_time and float(error) < MAX_RELATIVE_ERROR


def kernel_times(products: Sequence[Callable[[], Tensor]], *, on_cpu: bool = True) -> list[float]:
    """Return the shortest time in seconds of each product over repeated, interleaved runs.

    On a CPU this is the CPU time of a single thread, so that other load cannot distort the
    comparison: threads that share a product wait for each other on a busy machine, and all
    products then seem to take as long as the wait.
    """
    clock = time.thread_time if on_cpu else time.perf_counter
    threads = torch.get_num_threads()
    times: list[list[float]] = [[] for _ in products]
    torch.set_num_threads(1)
    try:
        for _ in range(N_REPEATS):
            for product, measured in zip(products, times, strict=True):
                start = clock()
                # Reading a number back waits for an asynchronous device to finish.
                float(product()[0, 0])
                measured.append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    return [min(measured) for measured in times]

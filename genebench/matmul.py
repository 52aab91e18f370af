"""Pins the precision and the library (MKL or oneDNN) of float32 matrix products in torch.

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
N_REPEATS = 5
EXACT, ALLOW_BFLOAT16 = "ieee", "bf16"
# torch's type stubs lack these settings.
ONEDNN: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
CUDA: Any = torch.backends.cuda.matmul


class _ActiveBlocks:
    """Counts the active `fastest_matmul` blocks of the process and keeps the settings outside."""

    def __init__(self) -> None:
        self._count = 0
        self._outside: tuple[str, str] = ("none", "none")
        self._lock = Lock()

    def enter(self) -> None:
        with self._lock:
            if not self._count:
                self._outside = ONEDNN.fp32_precision, CUDA.fp32_precision
                CUDA.fp32_precision = EXACT
                ONEDNN.fp32_precision = EXACT
                if _prefer_onednn():
                    ONEDNN.fp32_precision = ALLOW_BFLOAT16
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                ONEDNN.fp32_precision, CUDA.fp32_precision = self._outside


_active_blocks = _ActiveBlocks()


@contextmanager
def fastest_matmul() -> Iterator[None]:
    """Compute float32 matrix products exactly, on a CPU by the faster library, inside the block.

    Overrides `torch.set_float32_matmul_precision` and TF32. The settings are process-wide. Several
    threads may be inside at the same time; the last one to leave restores what was set before.
    """
    _active_blocks.enter()
    try:
        yield
    finally:
        _active_blocks.leave()


@cache
def _prefer_onednn() -> bool:
    """Return whether oneDNN multiplies float32 faster on this processor and as exactly as MKL."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(1024, 1024, generator=generator)
    right = torch.randn(1024, 256, generator=generator)
    exact = left.double() @ right.double()

    def multiply_by_onednn() -> Tensor:
        ONEDNN.fp32_precision = ALLOW_BFLOAT16
        try:
            return left @ right
        finally:
            ONEDNN.fp32_precision = EXACT

    mkl_time, onednn_time = kernel_times([lambda: left @ right, multiply_by_onednn])
    error = (multiply_by_onednn() - exact).abs().max() / exact.abs().max()
    return mkl_time > MIN_SPEEDUP * onednn_time and float(error) < MAX_RELATIVE_ERROR


def name_library(device: str) -> str:
    """Name of the library that `fastest_matmul` uses for float32 products on a torch device."""
    if torch.device(device).type != "cpu":
        return torch.device(device).type
    with fastest_matmul():
        if ONEDNN.fp32_precision == ALLOW_BFLOAT16:
            return "oneDNN"
    return "MKL" if torch.backends.mkl.is_available() else "BLAS"  # type: ignore[no-untyped-call]


def kernel_times(products: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Return the shortest time in seconds of each product over repeated, interleaved runs.

    It is the CPU time of a single thread, so that other load cannot distort the comparison: threads
    that share a product wait for each other on a busy machine, and all products then seem to take
    as long as the wait.
    """
    threads = torch.get_num_threads()
    times: list[list[float]] = [[] for _ in products]
    torch.set_num_threads(1)
    try:
        for _ in range(N_REPEATS):
            for product, measured in zip(products, times, strict=True):
                start = time.thread_time()
                product()
                measured.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return [min(measured) for measured in times]

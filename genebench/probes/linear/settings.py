"""Where and how the engine computes: device, precision, memory."""

import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from genebench.probes.linear.designs import BLOCK_BYTES

Precision = Literal["auto", "float32", "bfloat16"]

# A GEMM must be this much faster in bfloat16 to be worth its extra conjugate gradient steps.
WORTHWHILE = 1.5
# Tensors of (rows, columns) that live at once while a block of columns is solved: values, weights
# and their copies as threads share them and as systems leave.
ROW_TENSORS = 8
# Tensors of (width, columns): coefficients, gradient, those of the conjugate gradients, scales.
WIDTH_TENSORS = 14


@dataclass(frozen=True)
class Settings:
    """Where and how the engine computes.

    Attributes:
        device: `cpu`, `cuda` or as torch names it.
        memory_bytes: What matrices and columns together may take; columns are solved in blocks
            that fit.
        precision: Products that only steer: `bfloat16`, `float32`, or whichever a quick timing on
            this machine finds faster.
        tolerance: Gradient norm over the number of training rows at which a large task's column
            has converged, features taken at unit root mean square length.
        own_tolerance: The same for tasks small enough to be solved in float64.
        own_rows: Up to this many samples a task gets its own rotation, in float64.
        own_rows_standardised: The same where each fold's scaling needs a rotation of its own.
    """

    device: str = "cpu"
    memory_bytes: int = 6 << 30
    precision: Precision = "auto"
    tolerance: float = 1e-6
    own_tolerance: float = 1e-10
    own_rows: int = 3000
    own_rows_standardised: int = 1000

    def own_limit(self, *, standardise: bool) -> int:
        """Samples up to which a task is solved in float64."""
        return self.own_rows_standardised if standardise else self.own_rows

    @property
    def is_fast(self) -> bool:
        """Whether products that only steer use bfloat16."""
        if self.precision == "auto":
            return is_bfloat16_faster(self.device)
        return self.precision == "bfloat16"

    @property
    def solver(self) -> str:
        """What the evaluation records."""
        return "newton-cg float32" + (" bfloat16" if self.is_fast else "")


@cache
def is_bfloat16_faster(device: str) -> bool:
    """Time one product of the inner loop's shape in float32 and in bfloat16, best of three."""
    rows, width, columns = 4096, 1024, BLOCK_BYTES // (4 * 4096)
    single = torch.ones(rows, width, device=device), torch.ones(width, columns, device=device)
    half = single[0].bfloat16(), single[1].bfloat16()
    return _best_time(*single) > WORTHWHILE * _best_time(*half)


def _best_time(left: torch.Tensor, right: torch.Tensor) -> float:
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product = left @ right
        # Reading a number back waits for a device that works asynchronously.
        float(product[0, 0])
        times.append(time.perf_counter() - start)
    return min(times[1:])


def plan_columns(
    n_rows: int, width: int, itemsize: int, fixed_bytes: int, memory_bytes: int
) -> int:
    """How many columns may be solved together.

    Args:
        n_rows: Rows of the design.
        width: Its coefficients.
        itemsize: Bytes of a number.
        fixed_bytes: What matrices already take.
        memory_bytes: The budget.

    Returns:
        At least 1; a budget that the matrices alone exceed is met as nearly as can be.
    """
    each = itemsize * (ROW_TENSORS * n_rows + WIDTH_TENSORS * width)
    return max((memory_bytes - fixed_bytes) // each, 1)

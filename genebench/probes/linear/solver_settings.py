"""Settings of the linear engine: device, precision, memory limit."""

from dataclasses import dataclass
from typing import Literal

from genebench.probes.linear.low_precision import HessianPrecision, fastest_precision

# Tensors of (rows, columns) that exist at once while a block of columns is solved: the linear
# predictor, its change, weights, sums of pairs, and their copies for threads and subsets.
ROW_TENSORS = 11
# Tensors of (width, columns): coefficients, their change, gradients, those of the conjugate
# gradients, penalty weights and the preconditioner.
WIDTH_TENSORS = 22

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class SolverSettings:
    """Where and how the engine computes.

    Attributes:
        device: `cpu`, `cuda` or another torch device.
        memory_bytes: Memory limit of matrices and columns; columns are solved in blocks that fit.
        precision: Precision of Hessian products; `auto` is the fastest on this machine.
        tolerance: Gradient norm over the number of training rows at which a column of a large task
            has converged, with features at unit root mean square length.
        float64_tolerance: The same for tasks solved in float64.
        float64_rows: Tasks of up to this many samples are solved in float64.
        float64_rows_standardised: The same where features are standardised.
    """

    device: str = "cpu"
    memory_bytes: int = 6 << 30
    precision: Precision = "auto"
    tolerance: float = 1e-6
    float64_tolerance: float = 1e-10
    float64_rows: int = 3000
    float64_rows_standardised: int = 1000

    def float64_limit(self, *, standardise: bool) -> int:
        """Samples up to which a task is solved in float64."""
        return self.float64_rows_standardised if standardise else self.float64_rows

    @property
    def hessian_precision(self) -> HessianPrecision:
        """Precision of Hessian products."""
        return fastest_precision(self.device) if self.precision == "auto" else self.precision


def plan_columns(
    n_rows: int,
    width: int,
    itemsize: int,
    fixed_bytes: int,
    memory_bytes: int,
    column_bytes: int = 0,
) -> int:
    """How many columns may be solved together.

    Args:
        n_rows: Rows of the design.
        width: Its coefficients.
        itemsize: Bytes of a number.
        fixed_bytes: What matrices already take.
        memory_bytes: The budget.
        column_bytes: What each column takes besides.

    Returns:
        At least 1; a budget that the matrices alone exceed is met as nearly as can be.
    """
    each = itemsize * (ROW_TENSORS * n_rows + WIDTH_TENSORS * width) + column_bytes
    return max((memory_bytes - fixed_bytes) // each, 1)

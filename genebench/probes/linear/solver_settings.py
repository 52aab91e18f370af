"""Settings of the linear engine: device, precision, memory limit."""

from dataclasses import dataclass

from genebench.probes.linear.rounded import Steering, find_precision
from genebench.settings import Precision

# Tensors of (rows, columns) that live at once while a block of columns is solved: values, how they
# move, weights, what pairs sum over, and their copies as threads share them, as systems leave and
# as some of them search for a better step.
ROW_TENSORS = 11
# Tensors of (width, columns): coefficients now and ahead, gradient, those of the conjugate
# gradients, scales, the last change, the preconditioner.
WIDTH_TENSORS = 22


@dataclass(frozen=True)
class SolverSettings:
    """Where and how the engine computes.

    Attributes:
        device: `cpu`, `cuda` or as torch names it.
        memory_bytes: What matrices and columns together may take; columns are solved in blocks
            that fit.
        precision: Of products that only steer; `auto` for the one that a quick timing on this
            machine finds fastest.
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

    def __post_init__(self) -> None:
        if self.precision == "int8" and not self.device.startswith("cpu"):
            raise ValueError(
                f"products in 8 bits are for a CPU, not for {self.device}; "
                "set the precision to auto, float32 or bfloat16"
            )

    def own_limit(self, *, standardise: bool) -> int:
        """Samples up to which a task is solved in float64."""
        return self.own_rows_standardised if standardise else self.own_rows

    @property
    def steering(self) -> Steering:
        """The precision of products that only steer."""
        return find_precision(self.device) if self.precision == "auto" else self.precision


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

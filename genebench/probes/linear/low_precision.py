"""Design matrices in bfloat16, for Hessian products only.

Gradients and objectives stay exact, so rounding cannot move the optimum (see `newton_cg`).
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from genebench.matmul import fastest_matmul, kernel_times
from genebench.probes.linear.operators import BLOCK_BYTES, DenseMatrix, LinearOperator

HessianPrecision = Literal["float32", "bfloat16"]

# Rounded products need more iterations, so they must be this much faster.
MIN_SPEEDUP = 1.25
# Rows that are transposed together: more leave the cache.
TRANSPOSED_ROWS = 512


class Bfloat16Matrix(LinearOperator):
    """A dense matrix of 8 significant bits, kept with its transpose for adjoint products.

    Args:
        codes: (n, width) bfloat16.
    """

    is_dense = True
    column_axis = -1
    precision = "bfloat16"
    noise = 0.001
    dtype = torch.bfloat16

    def __init__(self, codes: Tensor) -> None:
        # A row of ones gives the sums over the rows.
        self.codes, self.transposed = codes, _transpose_with_ones(codes)

    def take(self, rows: Tensor) -> "Bfloat16Matrix":
        """The matrix of some of the rows."""
        return Bfloat16Matrix(self.codes[rows])

    @override
    def subset(self, projected: tuple[Tensor, ...], columns: Tensor) -> tuple[Tensor, ...]:
        # Columns come first here: selecting some of them is 50× faster.
        return tuple(tensor.index_select(0, columns) for tensor in projected)

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        return coefficients.bfloat16().T.contiguous(), intercepts.bfloat16()

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        coefficients, intercepts = projected
        return torch.addmm(intercepts, self.codes[block], coefficients.T)

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        shape = self.codes.shape[1] + 1, n_columns
        return (self.codes.new_zeros(shape, dtype=torch.float32),)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[0].add_(self.transposed[:, block] @ values.bfloat16())

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0][:-1], sums[0][-1]


def _transpose_with_ones(codes: Tensor) -> Tensor:
    """(width + 1, n) of (n, width); the last row is ones."""
    n_rows, width = codes.shape
    transposed = codes.new_ones(width + 1, n_rows)
    targets = torch.split(transposed, TRANSPOSED_ROWS, dim=1)
    for columns, rows in zip(targets, torch.split(codes, TRANSPOSED_ROWS), strict=True):
        columns[:width] = rows.T
    return transposed


def to_low_precision(coordinates: Tensor, precision: HessianPrecision) -> Bfloat16Matrix | None:
    """Convert a (n, width) float32 matrix; None for float32, and for a single feature."""
    if precision == "float32" or coordinates.shape[1] == 1:
        return None
    return Bfloat16Matrix(coordinates.bfloat16())


@cache
def fastest_precision(device: str) -> HessianPrecision:
    """Time a forward and an adjoint product in both precisions, once per process."""
    rows, width = slice(0, 2048), 1024
    left = torch.ones(rows.stop, width, device=device)
    right = torch.ones(width, BLOCK_BYTES // (4 * rows.stop), device=device)

    def both_ways(operator: LinearOperator) -> Callable[[], Tensor]:
        projected = operator.project(right, right[0])
        sums = operator.zeros(right.shape[1])

        def multiply() -> Tensor:
            operator.collect(sums, rows, operator.rows(projected, rows))
            return sums[0]

        return multiply

    operators = DenseMatrix(left, None), Bfloat16Matrix(left.bfloat16())
    with fastest_matmul():
        exact, rounded = kernel_times(
            [both_ways(operator) for operator in operators],
            on_cpu=torch.device(device).type == "cpu",
        )
    return "bfloat16" if exact > MIN_SPEEDUP * rounded else "float32"

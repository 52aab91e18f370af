"""Low-precision matrices for Hessian products; gradients stay in full precision.

Newton's steps need second derivatives only roughly, for gradients and objectives are computed
exactly: rounding can make a path longer, never its end another one. (Dembo, Eisenstat and Steihaug
1982, on inexact Newton methods.)
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from genebench.matmul import fastest_matmul, kernel_times
from genebench.probes.linear.designs import BLOCK_BYTES, Dense, Products, row_blocks

Steering = Literal["float32", "bfloat16", "int8"]

# How much quicker products in 8 bits must be than these to be worth the steps that they add.
WORTHWHILE: dict[Steering, float] = {"float32": 1.5, "bfloat16": 1.2, "int8": 1.0}
# The codes of numbers in 8 bits go from -127 to 127.
LEVELS = 127.0
TINY = 1e-30
ABREAST = 4
# Rows that are transposed together: more leave the cache, and take six times as long.
AT_ONCE = 512


class Rounded(Products):
    """A dense matrix in few bits.

    Args:
        codes: (n, width) in few bits.
        across: The same transposed, for adjoint products.
    """

    is_dense = True
    column_axis = -1

    def __init__(self, codes: Tensor, across: Tensor) -> None:
        self.codes, self.across = codes, across

    @abstractmethod
    def take(self, rows: Tensor) -> "Rounded":
        """The matrix of some of the rows."""

    @override
    def some(self, projected: tuple[Tensor, ...], columns: Tensor) -> tuple[Tensor, ...]:
        # Columns first, of which some are copied at a fiftieth of the price.
        return tuple(tensor.index_select(0, columns) for tensor in projected)


class Bfloat16(Rounded):
    """Numbers of 8 significant bits.

    Args:
        codes: (n, width) bfloat16.
    """

    precision = "bfloat16"
    noise = 0.001
    dtype = torch.bfloat16

    def __init__(self, codes: Tensor) -> None:
        # The product of ones is the sum over the rows.
        super().__init__(codes, _transpose(codes, n_ones=1))

    @override
    def take(self, rows: Tensor) -> "Bfloat16":
        return Bfloat16(self.codes[rows])

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
        sums[0].add_(self.across[:, block] @ values.bfloat16())

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0][:-1], sums[0][-1]


class Int8(Rounded):
    """Whole numbers of 8 bits, each column of each factor with a scale of its own.

    Products of whole numbers are exact, and on processors with AVX512-VNNI four times as many a
    second as of float32.

    Args:
        codes: (n, width) int8.
        scale: (width,) float32, what a step of a column's codes is.
    """

    precision = "int8"
    noise = 0.002
    dtype = torch.float32

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        super().__init__(codes, _transpose(codes))
        self.scale = scale

    @override
    def take(self, rows: Tensor) -> "Int8":
        return Int8(self.codes[rows], self.scale)

    @override
    def project(self, coefficients: Tensor, intercepts: Tensor) -> tuple[Tensor, ...]:
        codes, scale = _encode(coefficients * self.scale[:, None])
        return codes.T.contiguous(), scale, intercepts

    @override
    def rows(self, projected: tuple[Tensor, ...], block: slice) -> Tensor:
        codes, scale, intercepts = projected
        products = torch._int_mm(self.codes[block], codes.T).float()
        return torch.addcmul(intercepts, products, scale)

    @override
    def zeros(self, n_columns: int) -> tuple[Tensor, ...]:
        sums = self.scale.new_zeros(self.codes.shape[1], n_columns)
        return sums, sums.new_zeros(n_columns)

    @override
    def collect(self, sums: tuple[Tensor, ...], block: slice, values: Tensor) -> None:
        sums[1].add_(values.sum(dim=0))
        codes, scale = _encode(values)
        sums[0].addcmul_(torch._int_mm(self.across[:, block], codes).float(), scale)

    @override
    def finish(self, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return sums[0] * self.scale[:, None], sums[1]


def _transpose(codes: Tensor, *, n_ones: int = 0) -> Tensor:
    """(width, n) of (n, width), of which adjoint products are up to three times as quick.

    Args:
        codes: (n, width).
        n_ones: Rows of ones to add.
    """
    n_rows, width = codes.shape
    across = codes.new_ones(width + n_ones, n_rows)
    parts = zip(torch.split(across, AT_ONCE, dim=1), torch.split(codes, AT_ONCE), strict=True)
    for columns, rows in parts:
        columns[:width] = rows.T
    return across


def _encode(values: Tensor) -> tuple[Tensor, Tensor]:
    """The (rows, columns) codes of values, which are overwritten, and the scale of each column."""
    scale = _greatest(values).clamp_min_(TINY).div_(LEVELS)
    return values.mul_(1 / scale).round_().to(torch.int8), scale


def _greatest(values: Tensor) -> Tensor:
    """(columns,) greatest absolute values, of rows four abreast: the wider, the quicker."""
    whole = len(values) // ABREAST * ABREAST
    if not whole:
        return values.abs().amax(dim=0)
    abreast = values[:whole].view(-1, ABREAST * values.shape[1])
    ends = torch.cat([abreast.amax(dim=0), abreast.amin(dim=0)]).view(2 * ABREAST, -1)
    return torch.cat([ends, values[whole:]]).abs_().amax(dim=0)


def round_matrix(coordinates: Tensor, precision: Steering) -> Rounded | None:
    """A (n, width) float32 matrix in a precision; None where there is nothing to gain.

    That is for float32, in which it is already, and for a single feature, whose products in 8 bits
    torch 2.13 moreover gets wrong (a matrix of one column, transposed).
    """
    if precision == "float32" or coordinates.shape[1] == 1:
        return None
    if precision == "bfloat16":
        return Bfloat16(coordinates.bfloat16())
    scale = coordinates.abs().amax(dim=0).clamp_min_(TINY).div_(LEVELS)
    codes = torch.empty_like(coordinates, dtype=torch.int8)
    for block in row_blocks(*coordinates.shape):
        codes[block] = (coordinates[block] / scale).round_()
    return Int8(codes, scale)


@cache
def find_precision(device: str) -> Steering:
    """Time products of the inner loop's shape, there and back, in each precision.

    8 bits are tried on a CPU only: elsewhere their products take certain shapes only.
    """
    rows, width = slice(0, 2048), 1024
    left = torch.ones(rows.stop, width, device=device)
    right = torch.ones(width, BLOCK_BYTES // (4 * rows.stop), device=device)

    def both_ways(precision: Steering) -> Callable[[], Tensor]:
        products: Products = round_matrix(left, precision) or Dense(left, None)
        projected = products.project(right, right[0])
        sums = products.zeros(right.shape[1])

        def multiply() -> Tensor:
            products.collect(sums, rows, products.rows(projected, rows))
            return sums[0]

        return multiply

    found: list[Steering] = ["float32", "bfloat16"]
    if on_cpu := torch.device(device).type == "cpu":
        found.append("int8")
    with fastest_matmul():
        times = kernel_times([both_ways(one) for one in found], on_cpu=on_cpu)
    seconds = dict(zip(found, times, strict=True))
    return min(seconds, key=lambda precision: seconds[precision] / WORTHWHILE[precision])

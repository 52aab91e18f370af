"""Settings of the linear engine, and the data that pass between its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from genebench.probes.linear.batch import LossName
from genebench.probes.linear.operators import Precision
from genebench.probes.problem import Problem

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, apart from how it is computed.

    Attributes:
        c: Ascending values of C; of several, inner folds choose one.
        inner: Number of inner folds for each outer one.
        seed: Seed of inner folds that must be shuffled.
        standardise: Scale features to mean 0 and standard deviation 1 on the training rows.
        join: How the vectors of a sample are joined.
        fit_intercept: Whether intercepts are fitted; else they are 0.
        sample_weight: (samples,) float64 weights; None for 1.
        class_weight: Weights of the targets 0, 1, … or `balanced`; not for the squared loss.
        coefficients: Whether results have coefficients of the original features.
    """

    c: tuple[float, ...] = (1.0,)
    inner: int = 2
    seed: int = 0
    standardise: bool = False
    join: str = "concat"
    fit_intercept: bool = True
    sample_weight: Floats | None = None
    class_weight: Sequence[float] | Literal["balanced"] | None = None
    coefficients: bool = False


@dataclass(frozen=True)
class Group:
    """Problems on one set of rows.

    Attributes:
        problems: At least one; all have the same samples.
        rows: (n, positions) rows of the embedding matrix.
        order: (n,) the sample of each row.
        row_segments: Slices of rows that the folds of the widest problem hold out together; all
            rows in one slice if these would be short.
    """

    problems: tuple[Problem, ...]
    rows: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    row_segments: tuple[slice, ...]


class FitResults(Protocol):
    """Where the fits of a problem are put; `ProblemResult` describes the arguments."""

    def put_steps(self, fold: int, label: int, norm: float, c: float, n_steps: int) -> None:
        """Set gradient norm, C and number of Newton steps."""

    def put(self, fold: int, label: int, values: Floats, coefficients: list[Floats]) -> None:
        """Set decision values and coefficients."""

    def refuse(self, fold: int, label: int, reason: str, *, unfittable: bool) -> None:
        """Say why there are none."""


@dataclass(frozen=True)
class TargetColumn:
    """What is fitted once for each fold: a problem, or one label of it.

    Attributes:
        problem: Number of the problem in the group.
        result: Where its fits are put.
        label: Its column of a multi-label problem, 0 otherwise.
        loss: Its loss.
        n_classes: Columns of one fit.
        targets: (n,) on the rows of the group, class numbers if multinomial.
    """

    problem: int
    result: FitResults
    label: int
    loss: LossName
    n_classes: int
    targets: npt.NDArray[Any]

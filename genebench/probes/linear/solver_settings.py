"""Settings of the linear engine: how it computes, and what is fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SolverSettings:
    """Where and how the engine computes."""

    device: str = "cpu"  # a torch device
    memory_bytes: int = 6 << 30  # limit of matrices and columns; columns are solved in blocks
    # |gradient| / n_train at convergence, with features at unit root mean square length.
    tolerance: float = 1e-6
    float64_tolerance: float = 1e-10  # the same for tasks solved in float64
    float64_rows: int = 3000  # tasks of up to this many samples are solved in float64
    float64_rows_standardised: int = 1000  # the same where features are standardised


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, apart from how it is computed."""

    c: tuple[float, ...] = (1.0,)  # ascending values of C; of several, inner folds choose one
    inner: int = 2  # inner folds for each outer one
    seed: int = 0  # of inner folds that must be shuffled
    standardise: bool = False  # to mean 0 and standard deviation 1 on the training rows
    join: str = "concat"  # of the vectors of a sample
    fit_intercept: bool = True  # else intercepts are 0
    sample_weight: Floats | None = None  # (samples,); None for 1
    # Weights of the targets 0, 1, …; not for the squared loss.
    class_weight: Sequence[float] | Literal["balanced"] | None = None
    coefficients: bool = False  # whether results have coefficients of the original features

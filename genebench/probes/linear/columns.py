"""`fit_columns`: many regularised linear models on one matrix, arrays in and arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from genebench.matmul import name_library
from genebench.probes.linear.batch import LossName
from genebench.probes.linear.group_solver import solve_groups
from genebench.probes.linear.solver_settings import FitOptions, SolverSettings
from genebench.probes.problem import TEST, TRAIN, Kind, Problem
from genebench.probes.ties import find_first, number_rows
from genebench.threads import limit_threads

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnFits:
    """Results of `fit_columns`.

    Attributes:
        coef: (folds, columns, features) float64; NaN where not converged.
        intercept: (folds, columns) float64; NaN where not converged.
        C: (folds, columns) float64, the C that was used.
        decision: For each fold, (held-out rows, columns) float64 decision values, equal for equal
            rows of X; NaN where not converged.
        held_out: For each fold, (held-out rows,) int64 row numbers.
        gradient_norm: (folds, columns) float64, norm of the gradient over the number of training
            rows, with features at unit root mean square length.
        n_iter: (folds, columns) int64 steps of L-BFGS.
        converged: (folds, columns) bool.
        reason: (folds, columns) strings, why a column has not converged; empty otherwise.
        solver: Method and precision.
        library: Library and number of threads of the matrix products.
        dropped_axes: Number of principal axes of X that are left out, for their squared length is
            below n · eps (float64) of the longest.
    """

    coef: Floats
    intercept: Floats
    C: Floats
    decision: tuple[Floats, ...]
    held_out: tuple[npt.NDArray[np.int64], ...]
    gradient_norm: Floats
    n_iter: npt.NDArray[np.int64]
    converged: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.object_]
    solver: str
    library: str
    dropped_axes: int


def fit_columns(
    X: Array,
    Y: Array,
    split: Array,
    *,
    loss: LossName = "logistic",
    C: float | Sequence[float] = 1.0,
    inner: int = 2,
    seed: int = 0,
    standardize: bool = False,
    fit_intercept: bool = True,
    sample_weight: Array | None = None,
    class_weight: Sequence[float] | Literal["balanced"] | None = None,
    tol: float = 1e-6,
    device: str = "cpu",
    memory: int = 4 << 30,
    threads: int | None = None,
) -> ColumnFits:
    """Fit every column of Y on the training rows of every fold, and predict the held-out rows.

    Each fit minimises scikit-learn's objective C · sum(loss) + |w|² / 2, with the intercept not
    penalised; for the squared loss, half the squared error, alpha = 1 / C.

    Args:
        X: (n, features) finite numbers.
        Y: (n,) or (n, columns): 0 and 1 if logistic, numbers if squared; (n,) class numbers from 0
            if multinomial, where the columns of the results are the classes. Two classes are fitted
            as one binary column, as in scikit-learn.
        split: (n, folds) int8: 1 on training rows, 2 on held-out rows, 0 elsewhere. A fold may hold
            out no rows.
        loss: `logistic`, `multinomial` or `squared`.
        C: Inverse penalty strength. Of several ascending values, inner folds choose one for each
            fold and column, by the loss on rows that are held out of training rows.
        inner: Number of inner folds for each fold.
        seed: Seed of inner folds, where folds cannot share them.
        standardize: Scale features to mean 0 and standard deviation 1 on the training rows.
        fit_intercept: Whether to fit intercepts.
        sample_weight: (n,) weights of the rows.
        class_weight: Weights of the targets 0, 1, … or `balanced`; ignored by the squared loss.
        tol: Largest gradient norm at convergence; small problems, solved in float64, reach 1e-10.
        device: torch device.
        memory: Memory limit in bytes.
        threads: Number of threads; by default as torch is set.

    Returns:
        Coefficients in feature space, intercepts, decision values and convergence.

    Raises:
        ValueError: Shapes or values are not as described.

    Example:
        >>> split = np.where(np.arange(90)[:, None] % 3 == np.arange(3), 2, 1)
        >>> X = np.random.default_rng(0).normal(size=(90, 4))
        >>> fits = fit_columns(X, X[:, :2] > 0, split)
        >>> fits.coef.shape, bool(fits.converged.all())
        ((3, 2, 4), True)
    """
    X, Y, split = np.asarray(X), np.asarray(Y), np.asarray(split).astype(np.int8)
    path = tuple(float(c) for c in np.atleast_1d(C))
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight, dtype=np.float64)
    _check_arrays(X, Y, split, path, sample_weight)
    problem = _make_problem(Y, split, loss)
    options = FitOptions(
        c=path,
        inner=inner,
        seed=seed,
        standardise=standardize,
        fit_intercept=fit_intercept,
        sample_weight=sample_weight,
        class_weight=class_weight,
        coefficients=True,
    )
    settings = SolverSettings(
        device=device,
        memory_bytes=memory,
        tolerance=tol,
        float64_tolerance=min(tol, 1e-10),
    )
    with limit_threads(threads):
        library = f"{name_library(device)}, {torch.get_num_threads()} threads"
        (result,) = solve_groups(X, [problem], options, settings, lambda _: None)
    if result.failure:
        raise ArithmeticError(result.failure)
    folds, row_numbers = result.outputs, number_rows(X)
    reasons = [[part.reasons.get(label, "") for label in problem.labels] for part in folds]
    return ColumnFits(
        result.coefficients,
        result.intercepts,
        np.stack([part.c for part in folds]),
        tuple(part.scores[find_first(row_numbers[part.rows])] for part in folds),
        tuple(part.rows for part in folds),
        np.stack([part.gradient_norm for part in folds]),
        np.stack([part.n_iterations for part in folds]),
        np.stack([part.fitted for part in folds]),
        np.array(reasons, dtype=object),
        result.solver,
        library,
        result.dropped_axes,
    )


def _check_arrays(
    matrix: Array, targets: Array, split: Array, path: tuple[float, ...], weights: Floats | None
) -> None:
    """Check the arguments of `fit_columns`."""
    n = len(matrix)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError("X must have two dimensions, (n, features), and finite values")
    if not n or len(targets) != n or split.ndim != 2 or len(split) != n:
        raise ValueError(f"X, Y and split have {n}, {len(targets)} and {len(split)} rows")
    if not np.isin(split, (0, TRAIN, TEST)).all():
        raise ValueError("split must hold 0 (unused), 1 (training) and 2 (held out)")
    if not path or min(path) <= 0 or list(path) != sorted(set(path)) or not np.isfinite(path).all():
        raise ValueError(f"C must be positive, finite and ascending, not {path}")
    if weights is not None and not (
        weights.shape == (n,) and np.isfinite(weights).all() and weights.min() >= 0
    ):
        raise ValueError(f"sample_weight must have shape ({n},), finite and not negative")


def _make_problem(targets: Array, split: npt.NDArray[np.int8], loss: LossName) -> Problem:
    rows = np.arange(len(targets))[:, None]
    if loss == "multinomial":
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise ValueError("Y must have one dimension of class numbers for the multinomial loss")
        labels = tuple(map(str, range(int(targets.max()) + 1)))
        return Problem("Y", "multiclass", rows, targets, labels, split)
    if loss not in ("logistic", "squared"):
        raise ValueError(f"loss {loss!r} is unknown; use logistic, multinomial or squared")
    columns = targets[:, None] if targets.ndim == 1 else targets
    if columns.ndim != 2 or not columns.shape[1]:
        raise ValueError("Y must have shape (n,) or (n, columns)")
    labels = tuple(map(str, range(columns.shape[1])))
    kind: Kind = "multilabel" if loss == "logistic" else "regression"
    return Problem("Y", kind, rows, columns.astype(float), labels, split)

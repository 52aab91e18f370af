"""Distance of a fit from the optimum: objective and gradient in float64, on unscaled features."""

import numpy as np
import numpy.typing as npt

from benchmarks.baseline import Fit, Fitted
from genebench.probes.declaration import TRAIN, Problem
from genebench.probes.linear import SolverSettings, fit_columns


def measure(
    vectors: npt.NDArray[np.float32], problem: Problem, fitted: Fitted
) -> tuple[float, float]:
    """Objective per training row, and the greatest entry of its gradient, of a logistic fit.

    The objective is scikit-learn's over C times the rows: mean loss plus |w|² / (2 C n), C = 1.
    """
    label, fold = fitted.fit
    train = problem.split[:, fold] == TRAIN
    x = vectors[problem.rows[train]].reshape(int(train.sum()), -1).astype(np.float64)
    y = problem.targets[train]
    y = (y[:, label] if y.ndim == 2 else y).astype(np.float64)
    w, b = fitted.coefficients[0], float(fitted.intercepts[0])
    values = x @ w + b
    n = len(y)
    objective = (np.logaddexp(0, values) - y * values).mean() + w @ w / (2 * n)
    residuals = 1 / (1 + np.exp(-values)) - y
    gradient = np.abs(x.T @ residuals + w).max()
    return float(objective), float(max(gradient, abs(residuals.sum())) / n)


def fit_by_engine(
    vectors: npt.NDArray[np.float32], problem: Problem, fits: list[Fit], settings: SolverSettings
) -> list[Fitted]:
    """The engine's coefficients of some logistic fits on single entities."""
    targets = problem.targets if problem.targets.ndim == 2 else problem.targets[:, None]
    found = fit_columns(
        vectors[problem.rows[:, 0]],
        targets,
        problem.split,
        tol=settings.tolerance,
        device=settings.device,
        memory=settings.memory_bytes,
    )
    return [
        Fitted(
            (label, fold),
            found.decision[fold][:, label],
            found.coef[fold, label][None],
            found.intercept[fold, label][None],
        )
        for label, fold in fits
    ]

"""Distance of a fit from the optimum: objective and gradient in float64, on unscaled features."""

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.baseline import Fit, Fitted
from genebench.matmul import fastest_matmul
from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import newton
from genebench.probes.linear.batches import Batch, find_start
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.parts import Runs
from genebench.probes.linear.solver_settings import SolverSettings
from genebench.probes.linear.spaces import Space


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
    """The engine's coefficients of some logistic fits on single entities, by its own steps."""
    device = torch.device(settings.device)
    with fastest_matmul():
        space = Space(vectors, standardise=False, device=device, precision=settings.steering)
        design = space.prepare(torch.from_numpy(problem.rows[:, 0])).design
    targets = problem.targets if problem.targets.ndim == 2 else problem.targets[:, None]
    chosen = torch.from_numpy(np.stack([targets[:, label] for label, _ in fits], axis=1))
    masks = torch.from_numpy(
        np.stack([problem.split[:, fold] == TRAIN for _, fold in fits], axis=1)
    )
    batch = Batch(
        design,
        LOSSES["logistic"],
        n_classes=1,
        outcomes=chosen,
        units=torch.arange(len(fits)),
        masks=masks,
        folds=torch.arange(len(fits)),
        strength=torch.ones(len(fits), dtype=torch.float64),
        scales=None,
        tolerance=settings.tolerance,
        runs=Runs.of((slice(0, design.n_rows),), masks),
    )
    with fastest_matmul():
        solution = newton.solve(batch, find_start(batch))
    coefficients = design.to_features(solution.coefficients).double().numpy().T
    means = vectors[problem.rows[:, 0]].mean(axis=0, dtype=np.float64)
    result = []
    for number, fit in enumerate(fits):
        test = problem.split[:, fit[1]] == TEST
        w = coefficients[number]
        b = float(solution.intercepts[number]) - float(means @ w)
        scores = vectors[problem.rows[test, 0]].astype(np.float64) @ w + b
        result.append(Fitted(fit, scores, w[None], np.array([b])))
    return result

"""Adapter from tasks under a protocol to the solver of groups of problems."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.probes.declaration import Probe
from genebench.probes.linear.fold_fits import FitOptions
from genebench.probes.linear.group_solver import ProblemResult, solve_groups
from genebench.probes.linear.least_squares import fit_least_squares
from genebench.probes.linear.solver_settings import SolverSettings
from genebench.probes.linear.targets import FoldFit, TargetColumn
from genebench.probes.problem import HeldOut, Problem
from genebench.protocols.declaration import Protocol


def solve_problems(
    matrix: npt.NDArray[Any],
    problems: Sequence[Problem],
    probe: Probe,
    protocol: Protocol,
    settings: SolverSettings,
    progress: Callable[[int], None] | None = None,
) -> Iterator[HeldOut]:
    """Fit all problems on one embedding matrix.

    Args:
        matrix: (entities, features) float32 or float64, finite.
        problems: Problems of any kind.
        probe: Its regression estimator decides between least squares and ridge.
        protocol: Scaling, penalties, the join of pairs.
        settings: Device, precision, memory, tolerances.
        progress: Called with the number of fits (a label in a fold) done since the last call.

    Yields:
        One output per problem, in the order in which groups are done.
    """
    report = progress or _ignore
    direct = probe.estimator("regression").name == "least_squares"
    direct = direct and protocol.regression == "as_probe"
    iterative = []
    for problem in problems:
        if problem.kind == "regression" and direct:
            yield _solve_directly(matrix, problem, protocol.pair_join, settings.device)
            report(problem.n_folds)
        else:
            iterative.append(problem)
    options = FitOptions(
        c=protocol.penalty.c,
        inner=protocol.penalty.inner,
        seed=protocol.folds.seed,
        standardise=protocol.standardise,
        join=protocol.pair_join,
    )
    for result in solve_groups(matrix, iterative, options, settings, report):
        yield result.held_out()


def _ignore(n_fits: int) -> None:
    """Report to nobody."""


def _solve_directly(matrix: npt.NDArray[Any], problem: Problem, join: str, device: str) -> HeldOut:
    started = time.perf_counter()
    result = ProblemResult(problem, is_scaled=False)
    target = TargetColumn(0, 0, "squared", 1, problem.targets)
    predictions = fit_least_squares(matrix, problem, join, torch.device(device))
    for fold, predicted in enumerate(predictions):
        result.add(target, FoldFit(0, fold, predicted[:, None], "", 0.0, np.inf, 0))
    result.seconds, result.solver = time.perf_counter() - started, "least squares float64"
    return result.held_out()

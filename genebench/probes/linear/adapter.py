"""Adapter from tasks under a protocol to the solver of groups of problems."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.probes.declaration import Probe
from genebench.probes.linear.group_solver import solve_groups
from genebench.probes.linear.groups import Numbers, find_first, number_joined_rows, number_rows
from genebench.probes.linear.least_squares import fit_least_squares
from genebench.probes.linear.solver_settings import FitOptions, SolverSettings
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Problem
from genebench.protocols.declaration import Protocol


def solve_problems(
    matrix: npt.NDArray[Any],
    problems: Sequence[Problem],
    probe: Probe,
    protocol: Protocol,
    settings: SolverSettings,
    progress: Callable[[int], None] = lambda _: None,
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
    is_direct = probe.estimator("regression").name == "least_squares"
    is_direct &= protocol.regression == "as_probe"
    iterative, row_numbers = [], number_rows(matrix)
    for problem in problems:
        if problem.kind == "regression" and is_direct:
            samples = number_joined_rows(row_numbers, problem.rows, protocol.pair_join)
            yield _solve_directly(matrix, problem, samples, protocol.pair_join, settings.device)
            progress(problem.n_folds)
        else:
            iterative.append(problem)
    options = FitOptions(
        c=protocol.penalty.c,
        inner=protocol.penalty.inner,
        seed=protocol.folds.seed,
        standardise=protocol.standardise,
        join=protocol.pair_join,
    )
    for result in solve_groups(matrix, row_numbers, iterative, options, settings, progress):
        yield result.held_out()


def _solve_directly(
    matrix: npt.NDArray[Any], problem: Problem, samples: Numbers, join: str, device: str
) -> HeldOut:
    started, outputs = time.perf_counter(), []
    solved = fit_least_squares(matrix, problem, join, torch.device(device))
    for fold, predicted in zip(problem.split.T, solved, strict=True):
        rows, one = np.flatnonzero(fold == TEST), np.ones(1)
        values, steps = predicted[find_first(samples[rows]), None], np.zeros(1, np.int64)
        outputs.append(FoldOutput(rows, values, one > 0, {}, 0 * one, np.inf * one, steps))
    seconds = time.perf_counter() - started
    return HeldOut(problem.id, tuple(outputs), "", seconds, "least squares float64")

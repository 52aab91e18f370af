"""Adapter from tasks under a protocol to the solver of groups of problems."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy.typing as npt

from genebench.probes.declaration import Probe
from genebench.probes.linear.group_solver import solve_groups
from genebench.probes.linear.least_squares import fit_least_squares
from genebench.probes.linear.solver_settings import FitOptions, SolverSettings
from genebench.probes.problem import HeldOut, Problem
from genebench.probes.ties import number_joined_rows, number_rows, tie_equal_samples
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
    options = FitOptions(
        c=protocol.penalty.c,
        inner=protocol.penalty.inner,
        seed=protocol.folds.seed,
        standardise=protocol.standardise,
        join=protocol.pair_join,
    )
    row_numbers = number_rows(matrix)

    def tie(problem: Problem, held_out: HeldOut) -> HeldOut:
        samples = number_joined_rows(row_numbers, problem.rows, options.join)
        return tie_equal_samples(held_out, samples)

    iterative = []
    for problem in problems:
        if problem.kind == "regression" and is_direct:
            yield tie(problem, fit_least_squares(matrix, problem, options.join, settings.device))
            progress(problem.n_folds)
        else:
            iterative.append(problem)
    for result in solve_groups(matrix, iterative, options, settings, progress):
        yield tie(result.problem, result.held_out())

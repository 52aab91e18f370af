"""Solves problems in groups: which designs they have, which are solved at once, what ends one.

Threads that divide the products of one group wait for each other at every product; threads that
solve different groups do not (`docs/solver.md` has the times).
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from threading import Lock
from typing import Any

import numpy.typing as npt
import torch

from genebench.matmul import fastest_matmul
from genebench.probes.linear.feature_transform import Designs, FeatureTransform
from genebench.probes.linear.fold_fits import FoldFitter
from genebench.probes.linear.groups import (
    Group,
    ProblemResult,
    TargetColumn,
    group_problems,
    target_columns,
)
from genebench.probes.linear.pairs import join_rows, prepare_pairs, take_used
from genebench.probes.linear.solver_settings import FitOptions, SolverSettings
from genebench.probes.problem import Problem
from genebench.threads import Progress, limit_threads, solve_at_once

# Smaller designs are solved by one thread: their products are shorter than the wait of threads.
SERIAL = 1 << 20
# Float32 copies of the embedding matrix, and of the rows of a group, that exist at once.
MATRIX_COPIES = 2
LINALG_ERROR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]

Matrix = npt.NDArray[Any]


def solve_groups(
    matrix: Matrix,
    problems: Sequence[Problem],
    options: FitOptions,
    settings: SolverSettings,
    progress: Progress,
) -> Iterator[ProblemResult]:
    """Solve problems on a finite (entities, features) matrix; a failure ends one problem.

    `progress` is called with the number of fits done since the last call. Results come in the order
    in which groups of problems with the same rows are done.
    """
    solver = _GroupSolver(matrix, options, settings)
    groups = list(group_problems(problems, solver.float64_rows))
    n_at_once = count_at_once(groups, matrix, settings) if len(groups) > 1 else 1
    if n_at_once == 1:
        for group in groups:
            yield from solver.attempt(group, progress)
        return
    solver.settings = replace(settings, memory_bytes=settings.memory_bytes // n_at_once)
    shares = divide_groups(groups, matrix.shape[1])
    for result in solve_at_once(shares, solver.attempt, n_at_once, progress):
        # Its share of the wall time.
        result.seconds /= n_at_once
        yield result


def divide_groups(groups: Sequence[Group], features: int) -> list[list[Group]]:
    """Shares to be solved at once: all small groups, then each large one, the longest first."""
    small = [group for group in groups if group.rows.size * features < SERIAL]
    large = [group for group in groups if group.rows.size * features >= SERIAL]

    def work(group: Group) -> int:
        return len(group.rows) * sum(problem.n_columns for problem in group.problems)

    shares = [[group] for group in sorted(large, key=work, reverse=True)]
    return [small, *shares] if small else shares


def count_at_once(groups: Sequence[Group], matrix: Matrix, settings: SolverSettings) -> int:
    """How many shares of at least one group are solved at once; 1 if not on the CPU.

    Half of the memory of each is left for columns beside its matrices. The vectors of pairs are
    not copied for each pair.
    """
    if torch.device(settings.device).type != "cpu":
        return 1
    n_shares = len(divide_groups(groups, matrix.shape[1]))
    n_copied = max((len(group.rows) for group in groups if group.rows.shape[1] == 1), default=0)
    share_bytes = 2 * MATRIX_COPIES * 4 * (len(matrix) + n_copied) * matrix.shape[1]
    n_fitting: int = settings.memory_bytes // max(share_bytes, 1)
    return max(min(torch.get_num_threads(), n_shares, n_fitting), 1)


def _explain_failure(error: Exception) -> str:
    """Why a problem cannot be computed; empty if the error is a fault of the program."""
    first_line = str(error).partition("\n")[0]
    if isinstance(error, LINALG_ERROR):
        return f"a factorisation failed: {first_line}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return f"out of memory: {first_line}; set GENEBENCH_MEMORY_GB lower"
    return ""


class _GroupSolver:
    """Solves groups of problems on one matrix; see `solve_groups` for the arguments."""

    def __init__(self, matrix: Matrix, options: FitOptions, settings: SolverSettings) -> None:
        self.matrix, self.options, self.settings = matrix, options, settings
        self.device = torch.device(settings.device)
        self.float64_rows = settings.float64_rows
        if options.standardise:
            # Without an intercept, the mean of each fold's training rows matters: it has designs of
            # its own whatever its size.
            small = settings.float64_rows_standardised
            self.float64_rows = small if options.fit_intercept else sys.maxsize
        self._transform: FeatureTransform | None = None
        self._lock = Lock()

    def attempt(self, group: Group, progress: Progress) -> Iterator[ProblemResult]:
        """Solve a group; if it cannot be computed, each problem alone, or give the reason."""
        done = 0

        def advance(n_fits: int) -> None:
            nonlocal done
            done += n_fits
            progress(n_fits)

        n_features = self.matrix.shape[1] if self.options.coefficients else 0
        results = [ProblemResult(problem, n_features) for problem in group.problems]
        try:
            with fastest_matmul():
                self._solve(group, results, advance)
        except (MemoryError, RuntimeError) as error:
            if not (reason := _explain_failure(error)):
                raise
            if len(group.problems) > 1:
                # The fits are done again, each problem alone.
                progress(-done)
                for problem in group.problems:
                    yield from self.attempt(replace(group, problems=(problem,)), progress)
                return
            results[0].failure = reason
            progress(results[0].n_fits - done)
        yield from results

    def _solve(self, group: Group, results: Sequence[ProblemResult], progress: Progress) -> None:
        started = time.perf_counter()
        with limit_threads(1 if group.rows.size * self.matrix.shape[1] < SERIAL else None):
            designs, held_bytes = self._make_designs(group)
            settings = replace(self.settings, memory_bytes=self.settings.memory_bytes - held_bytes)
            fitter = FoldFitter(group, designs, self.options, settings, progress)

            def shape(target: TargetColumn) -> tuple[str, int]:
                return target.loss, target.n_classes

            columns = target_columns(results, fit_intercept=self.options.fit_intercept)
            for _, same in groupby(sorted(columns, key=shape), key=shape):
                fitter.fit_all(list(same))
        each = (time.perf_counter() - started) / sum(result.n_fits for result in results)
        for result in results:
            result.seconds, result.solver = each * result.n_fits, designs.solver
            result.dropped_axes = designs.dropped_axes

    def _make_designs(self, group: Group) -> tuple[Designs, int]:
        """The designs of a group, and the bytes that matrices take while it is solved."""
        matrix, rows, options = self.matrix, group.rows, self.options
        n, positions = rows.shape
        entity_bytes, row_bytes = 4 * matrix.size, 4 * n * matrix.shape[1]
        if n <= self.float64_rows:
            table, index = take_used(matrix, rows, self.device, torch.float64)
            vectors = join_rows(table, index, options.join)
            designs = Designs.in_float64(
                vectors, standardise=options.standardise, center=self.options.fit_intercept
            )
            return designs, 2 * entity_bytes + 4 * 8 * vectors.numel()
        if positions == 1:
            design = self._transform_once().prepare(torch.from_numpy(rows[:, 0]).to(self.device))
            return Designs(design), MATRIX_COPIES * (entity_bytes + row_bytes)
        dense_bytes = self.settings.memory_bytes // 2
        prepare = partial(prepare_pairs, device=self.device, dense_bytes=dense_bytes)
        design = prepare(matrix, rows, options.join, standardise=options.standardise)
        is_formed = options.join in ("product", "difference")
        held = min(3 * row_bytes, dense_bytes) if is_formed else 0
        return Designs(design), held + (1 + 2 * positions) * entity_bytes

    def _transform_once(self) -> FeatureTransform:
        """The matrix, prepared for all groups."""
        with self._lock:
            if self._transform is None:
                self._transform = FeatureTransform(
                    self.matrix,
                    standardise=self.options.standardise,
                    center=self.options.fit_intercept,
                    device=self.device,
                )
        return self._transform

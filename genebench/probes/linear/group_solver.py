"""Solves problems in groups: which share rows, which designs they have, what ends one alone."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.matmul import fastest_matmul
from genebench.probes.linear.batch import LossName
from genebench.probes.linear.feature_transform import Designs, FeatureTransform
from genebench.probes.linear.fold_fits import FoldFitter
from genebench.probes.linear.group_threads import (
    MATRIX_COPIES,
    SERIAL,
    count_at_once,
    divide_groups,
    solve_at_once,
)
from genebench.probes.linear.operators import Numbers, find_first, number_joined_rows
from genebench.probes.linear.pairs import join_rows, prepare_pairs, take_used
from genebench.probes.linear.solver_settings import (
    FitOptions,
    Floats,
    Group,
    SolverSettings,
    TargetColumn,
)
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Kind, Problem
from genebench.threads import limit_threads

# Products of fewer rows than this are slow for their size.
MIN_SEGMENT_ROWS = 512
LINALG_ERROR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
LOSS_OF: dict[Kind, LossName] = {
    "binary": "logistic",
    "multilabel": "logistic",
    "multiclass": "multinomial",
    "regression": "squared",
}

Progress = Callable[[int], None]
Matrix = npt.NDArray[Any]


class ProblemResult:
    """Results of all folds and columns of one problem.

    Args:
        problem: The problem.
        samples: (n,) numbers that are equal where the vectors of samples are; without them there
            are no outputs.
        is_centred: Whether the targets of a regression are centred.

    Attributes:
        failure: Why the problem could not be solved; empty otherwise.
        outputs: One for each fold.
        coefficients: By (fold, first column), (features, classes) and (classes,) arrays of the
            original features and targets, if asked for.
        dropped_axes: See `Prepared`.
    """

    def __init__(
        self, problem: Problem, samples: Numbers | None, *, is_centred: bool = True
    ) -> None:
        self.problem, self.failure, self.seconds, self.solver = problem, "", 0.0, ""
        self.dropped_axes, self._center, self._scale = 0, 0.0, 1.0
        if problem.kind == "regression":
            self._center = float(problem.targets.mean()) * is_centred
            self._scale = float(problem.targets.std()) or 1.0
        self.n_fits = problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)
        self.coefficients: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        self.outputs: list[FoldOutput] = []
        self._first_equal: list[Numbers] = []
        if samples is None:
            return
        for fold in problem.split.T:
            rows, columns = np.flatnonzero(fold == TEST), problem.n_columns
            self._first_equal.append(find_first(samples[rows]))
            self.outputs.append(
                FoldOutput(
                    rows,
                    np.full((len(rows), columns), np.nan),
                    np.zeros(columns, dtype=bool),
                    {},
                    np.full(columns, np.inf),
                    np.full(columns, np.nan),
                    np.zeros(columns, dtype=np.int64),
                )
            )

    def columns(self, label: int) -> slice:
        """Columns of a target: one label, or all classes."""
        return slice(None) if self.problem.kind == "multiclass" else slice(label, label + 1)

    def scaled_targets(self) -> list[npt.NDArray[Any]]:
        """(n,) targets of each fit, scaled if a regression."""
        targets = self.problem.targets
        if self.problem.kind == "regression":
            return [(targets - self._center) / self._scale]
        return list(targets.T) if self.problem.kind == "multilabel" else [targets]

    def put_steps(self, fold: int, label: int, norm: float, c: float, n_steps: int) -> None:
        """Set gradient norm, C and number of Newton steps of a fit."""
        output, columns = self.outputs[fold], self.columns(label)
        output.gradient_norm[columns], output.c[columns] = norm, c
        output.n_iterations[columns] = n_steps

    def refuse(self, fold: int, label: int, reason: str, *, unfittable: bool) -> None:
        """Say why a fit has no scores, and whether the training samples do not allow one."""
        reasons = dict.fromkeys(self.problem.labels[self.columns(label)], reason)
        self.outputs[fold].reasons.update(reasons)  # type: ignore[attr-defined]
        if unfittable:
            self.outputs[fold].unfittable.update(reasons)

    def put(self, fold: int, label: int, values: Floats, coefficients: list[Floats]) -> None:
        """Set the result of a fit.

        Args:
            fold: Number of the fold.
            label: See `columns`.
            values: (test rows, classes) decision values; equal samples get equal ones.
            coefficients: (features, classes) and (classes,) intercepts, or nothing.
        """
        values, *coefficients = map(self._both_classes, (values, *coefficients))
        output, columns = self.outputs[fold], self.columns(label)
        output.scores[:, columns] = values[self._first_equal[fold]] * self._scale + self._center
        output.fitted[columns] = True
        if coefficients:
            weights, intercepts = (part * self._scale for part in coefficients)
            self.coefficients[fold, label] = weights, intercepts + self._center

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = tuple(self.outputs)
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)

    def _both_classes(self, values: Floats) -> Floats:
        """Of two classes, logits of both, (..., 2), from the log odds of the second, (..., 1)."""
        if self.problem.kind != "multiclass" or values.shape[-1] > 1:
            return values
        return np.concatenate([-values / 2, values / 2], axis=-1)


def group_problems(problems: Sequence[Problem], float64_rows: int) -> Iterator[Group]:
    """Group problems by their rows, and sort the rows of each group.

    Rows that the problem of most columns holds out together are neighbours, so that its subproblems
    need no products there; small problems are left as they are.
    """
    equal: dict[bytes, list[Problem]] = {}
    for problem in problems:
        key = bytes([problem.rows.shape[1]]) + problem.rows.tobytes()
        equal.setdefault(key, []).append(problem)
    for same in equal.values():
        order, segments = _sort_rows(same, float64_rows)
        yield Group(tuple(same), same[0].rows[order], order, segments)


def _sort_rows(
    problems: Sequence[Problem], float64_rows: int
) -> tuple[npt.NDArray[np.int64], tuple[slice, ...]]:
    """(n,) the sample of each row, and slices of rows that folds hold out together."""
    n = problems[0].n_samples
    if n > float64_rows and problems[0].rows.shape[1] == 1:
        widest = max(problems, key=lambda problem: problem.n_columns)
        _, run, sizes = np.unique(widest.split, axis=0, return_inverse=True, return_counts=True)
        if sizes.mean() >= MIN_SEGMENT_ROWS:
            bounds = pairwise([0, *np.cumsum(sizes).tolist()])
            return np.argsort(run.ravel(), kind="stable"), tuple(slice(*pair) for pair in bounds)
    return np.arange(n), (slice(0, n),)


def target_columns(group: Group, results: Sequence[ProblemResult]) -> Iterator[TargetColumn]:
    """Target columns of a group's problems."""
    for number, (problem, result) in enumerate(zip(group.problems, results, strict=True)):
        loss, n_classes = LOSS_OF[problem.kind], 1
        if problem.kind == "multiclass" and problem.n_columns == 2:
            # A softmax of two classes would have half the penalty of scikit-learn's one column.
            loss = "logistic"
        elif problem.kind == "multiclass":
            n_classes = problem.n_columns
        for label, targets in enumerate(result.scaled_targets()):
            numbers = targets.astype(np.float64 if loss == "squared" else np.float32)
            yield TargetColumn(number, result, label, loss, n_classes, numbers[group.order])


def solve_groups(
    matrix: Matrix,
    row_numbers: Numbers,
    problems: Sequence[Problem],
    options: FitOptions,
    settings: SolverSettings,
    progress: Progress,
) -> Iterator[ProblemResult]:
    """Solve problems in groups that share rows; a failure ends one problem.

    Args:
        matrix: (entities, features) float32 or float64, finite.
        row_numbers: (entities,) equal where rows of the matrix are, by `number_rows`.
        problems: Problems of any kind.
        options: What is fitted.
        settings: How it is computed.
        progress: Called with the number of fits done since the last call.

    Yields:
        One result per problem, in the order in which groups are done.
    """
    solver = _GroupSolver(matrix, row_numbers, options, settings)
    groups = list(group_problems(problems, solver.float64_rows))
    n_at_once = count_at_once(groups, matrix, settings) if len(groups) > 1 else 1
    if n_at_once == 1:
        for group in groups:
            yield from _attempt(solver, group, progress)
        return
    solver.settings = replace(settings, memory_bytes=settings.memory_bytes // n_at_once)
    shares = divide_groups(groups, matrix.shape[1])
    for result in solve_at_once(shares, partial(_attempt, solver), n_at_once, progress):
        # Its share of the wall time.
        result.seconds /= n_at_once
        yield result


def _attempt(solver: "_GroupSolver", group: Group, progress: Progress) -> Iterator[ProblemResult]:
    """Solve a group; if it cannot be computed, each problem alone, or give the reason."""
    done = 0

    def advance(n_fits: int) -> None:
        nonlocal done
        done += n_fits
        progress(n_fits)

    try:
        with fastest_matmul():
            results = solver.solve(group, advance)
    except (MemoryError, RuntimeError) as error:
        if not (reason := _explain_failure(error)):
            raise
        if len(group.problems) > 1:
            # The fits are done again, each problem alone.
            progress(-done)
            for problem in group.problems:
                yield from _attempt(solver, replace(group, problems=(problem,)), progress)
            return
        results = [ProblemResult(group.problems[0], None)]
        results[0].failure = reason
        progress(results[0].n_fits - done)
    yield from results


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

    def __init__(
        self, matrix: Matrix, row_numbers: Numbers, options: FitOptions, settings: SolverSettings
    ) -> None:
        self.matrix, self.row_numbers = matrix, row_numbers
        self.options, self.settings = options, settings
        self.device = torch.device(settings.device)
        self.is_centred = options.fit_intercept or options.standardise
        self.float64_rows = settings.float64_rows
        if options.standardise:
            self.float64_rows = settings.float64_rows_standardised
        self._transform: FeatureTransform | None = None
        self._lock = Lock()

    def transform(self) -> FeatureTransform:
        """The matrix, prepared for all groups."""
        with self._lock:
            if self._transform is None:
                self._transform = FeatureTransform(
                    self.matrix,
                    standardise=self.options.standardise,
                    device=self.device,
                    precision=self.settings.precision,
                    center=self.is_centred,
                )
        return self._transform

    def solve(self, group: Group, progress: Progress) -> list[ProblemResult]:
        """Solve the problems of a group."""
        started, options = time.perf_counter(), self.options
        results = []
        for problem in group.problems:
            samples = number_joined_rows(self.row_numbers, problem.rows, options.join)
            results.append(ProblemResult(problem, samples, is_centred=options.fit_intercept))
        with limit_threads(1 if group.rows.size * self.matrix.shape[1] < SERIAL else None):
            designs, held_bytes = self._make_designs(group)
            fitter = FoldFitter(group, designs, options, self.settings, held_bytes, progress)

            def shape(target: TargetColumn) -> tuple[str, int]:
                return target.loss, target.n_classes

            for _, same in groupby(sorted(target_columns(group, results), key=shape), key=shape):
                fitter.fit_all(list(same))
        each = (time.perf_counter() - started) / sum(result.n_fits for result in results)
        for result in results:
            result.seconds, result.solver = each * result.n_fits, designs.solver
            result.dropped_axes = designs.dropped_axes
        return results

    def _make_designs(self, group: Group) -> tuple[Designs, int]:
        """The designs of a group, and the bytes that matrices take while it is solved."""
        matrix, rows, join = self.matrix, group.rows, self.options.join
        standardise, (n, positions) = self.options.standardise, rows.shape
        entity_bytes, row_bytes = 4 * matrix.size, 4 * n * matrix.shape[1]
        if n <= self.float64_rows:
            table, index = take_used(matrix, rows, self.device, torch.float64)
            vectors = join_rows(table, index, join)
            designs = Designs.in_float64(vectors, standardise=standardise, center=self.is_centred)
            return designs, 2 * entity_bytes + 4 * 8 * vectors.numel()
        if positions == 1:
            prepared = self.transform().prepare(torch.from_numpy(rows[:, 0]).to(self.device))
            # The matrix in low precision and its transpose take up to the size of the matrix.
            held = MATRIX_COPIES * (entity_bytes + row_bytes)
        else:
            dense_bytes = self.settings.memory_bytes // 2
            prepared = prepare_pairs(
                matrix,
                rows,
                join,
                standardise=standardise,
                device=self.device,
                dense_bytes=dense_bytes,
            )
            is_formed = join in ("product", "difference")
            held = min(3 * row_bytes, dense_bytes) if is_formed else 0
            held += (1 + 2 * positions) * entity_bytes
        return Designs(prepared), held

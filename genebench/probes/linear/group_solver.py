"""Solves problems in groups: which share rows, which designs they have, what ends one alone."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.matmul import fastest_matmul
from genebench.probes.linear.batch import LossName
from genebench.probes.linear.feature_transform import Designs, FeatureTransform
from genebench.probes.linear.fold_fits import FoldFitter
from genebench.probes.linear.pairs import join_rows, prepare_pairs, take_used
from genebench.probes.linear.solver_settings import (
    FitOptions,
    FoldFit,
    Group,
    SolverSettings,
    TargetColumn,
)
from genebench.probes.linear.ties import find_first, number_joined_rows
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Kind, Problem
from genebench.threads import limit_threads

# Products of fewer rows than this are slow for their size.
MIN_SEGMENT_ROWS = 512
# Smaller designs are solved by one thread: their products are shorter than the wait of threads.
SERIAL = 1 << 20
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
        samples: (n,) numbers that are equal where the vectors of samples are; None on a failure.
        failure: Why the problem could not be solved; empty otherwise.
        center: Mean that was subtracted from the targets.
        scale: By which they were then divided.

    Attributes:
        coefficients: By (fold, first column), (features, classes) and (classes,) arrays of the
            original features and targets, if asked for.
        dropped_axes: See `Prepared`.
    """

    def __init__(
        self,
        problem: Problem,
        samples: npt.NDArray[np.int64] | None,
        failure: str = "",
        center: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        self.problem, self.failure, self.center, self.scale = problem, failure, center, scale
        self.n_fits, self.seconds, self.solver, self.dropped_axes = 0, 0.0, "", 0
        self.coefficients: dict[tuple[int, int], tuple[Matrix, Matrix]] = {}
        n_columns = problem.n_columns
        self.outputs: list[FoldOutput] = []
        self.first_equal: list[npt.NDArray[np.int64]] = []
        if samples is None:
            return
        for fold in problem.split.T:
            rows, nothing = np.flatnonzero(fold == TEST), np.zeros(n_columns)
            scores, is_fitted = np.full((len(rows), n_columns), np.nan), nothing.astype(bool)
            steps = nothing.astype(np.int64)
            self.first_equal.append(find_first(samples[rows]))
            self.outputs.append(
                FoldOutput(rows, scores, is_fitted, {}, nothing.copy(), nothing, steps)
            )

    def add(self, fit: FoldFit) -> None:
        """Add one target in one fold."""
        is_whole = self.problem.kind == "multiclass"
        label, output = fit.target.label, self.outputs[fit.fold]
        columns = slice(None) if is_whole else slice(label, label + 1)
        output.gradient_norm[columns], output.c[columns] = fit.gradient_norm, fit.c
        output.n_iterations[columns] = fit.n_iterations
        self.n_fits += 1
        if fit.values is None:
            reasons = dict.fromkeys(self.problem.labels[columns], fit.reason)
            output.reasons.update(reasons)  # type: ignore[attr-defined]
            return
        values = fit.values[self.first_equal[fit.fold]]
        values = _both_classes(values) if is_whole else values
        output.scores[:, columns] = values * self.scale + self.center
        output.fitted[columns] = True
        if fit.coefficients is not None:
            numbers = [part * self.scale for part in fit.coefficients]
            coefficients, intercepts = map(_both_classes, numbers) if is_whole else numbers
            self.coefficients[fit.fold, label] = coefficients, intercepts + self.center

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = tuple(self.outputs)
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)


def _both_classes(values: Matrix) -> Matrix:
    """Logits of both classes, (..., 2), from the log odds of the second, (..., 1)."""
    return np.concatenate([-values / 2, values / 2], axis=-1) if values.shape[-1] == 1 else values


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
    """Target columns of a group's problems, scaled as their results say."""
    for number, (problem, result) in enumerate(zip(group.problems, results, strict=True)):
        loss, n_classes = LOSS_OF[problem.kind], 1
        if problem.kind == "multiclass" and problem.n_columns == 2:
            # A softmax of two classes would have half the penalty of scikit-learn's one column.
            loss = "logistic"
        elif problem.kind == "multiclass":
            n_classes = problem.n_columns
        columns = problem.targets.T if problem.kind == "multilabel" else [problem.targets]
        for label, targets in enumerate(columns):
            dtype = np.float64 if loss == "squared" else np.float32
            numbers = ((targets - result.center) / result.scale).astype(dtype)
            yield TargetColumn(number, label, loss, n_classes, numbers[group.order])


def solve_groups(
    matrix: Matrix,
    row_numbers: npt.NDArray[np.int64],
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
    device, limit = torch.device(settings.device), settings.float64_rows
    if options.standardise:
        limit = settings.float64_rows_standardised

    @cache
    def transform() -> FeatureTransform:
        return FeatureTransform(
            matrix,
            standardise=options.standardise,
            device=device,
            precision=settings.precision,
            center=options.fit_intercept or options.standardise,
        )

    solve = partial(_solve_group, matrix, row_numbers, transform, options, settings, limit)
    for group in group_problems(problems, limit):
        yield from _attempt(solve, group, progress)


def _attempt(
    solve: Callable[[Group, Progress], list[ProblemResult]], group: Group, progress: Progress
) -> Iterator[ProblemResult]:
    """Solve a group; if it cannot be computed, each problem alone, or give the reason."""
    done = 0

    def advance(n_fits: int) -> None:
        nonlocal done
        done += n_fits
        progress(n_fits)

    try:
        with fastest_matmul():
            results = solve(group, advance)
    except (MemoryError, RuntimeError) as error:
        if not (reason := _explain_failure(error)):
            raise
        if len(group.problems) > 1:
            # The fits are done again, each problem alone.
            progress(-done)
            for problem in group.problems:
                yield from _attempt(solve, replace(group, problems=(problem,)), progress)
            return
        (problem,) = group.problems
        n_fits = problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)
        progress(n_fits - done)
        results = [ProblemResult(problem, None, reason)]
    yield from results


def _explain_failure(error: Exception) -> str:
    """Why a problem cannot be computed; empty if the error is a fault of the program."""
    first_line = str(error).partition("\n")[0]
    if isinstance(error, LINALG_ERROR):
        return f"a factorisation failed: {first_line}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return f"out of memory: {first_line}; set GENEBENCH_MEMORY_GB lower"
    return ""


def _solve_group(
    matrix: Matrix,
    row_numbers: npt.NDArray[np.int64],
    transform: Callable[[], FeatureTransform],
    options: FitOptions,
    settings: SolverSettings,
    float64_rows: int,
    group: Group,
    progress: Progress,
) -> list[ProblemResult]:
    started = time.perf_counter()
    results = []
    for problem in group.problems:
        center, scale = 0.0, 1.0
        if problem.kind == "regression":
            center = float(problem.targets.mean()) * options.fit_intercept
            scale = float(problem.targets.std()) or 1.0
        samples = number_joined_rows(row_numbers, problem.rows, options.join)
        results.append(ProblemResult(problem, samples, "", center, scale))
    with limit_threads(1 if group.rows.size * matrix.shape[1] < SERIAL else None):
        designs, held_bytes = _make_designs(
            matrix, group, transform, options, settings, float64_rows
        )
        fitter = FoldFitter(group, designs, options, settings, held_bytes)

        def shape(target: TargetColumn) -> tuple[str, int]:
            return target.loss, target.n_classes

        for _, same in groupby(sorted(target_columns(group, results), key=shape), key=shape):
            for fit in fitter.fit_all(list(same)):
                results[fit.target.problem].add(fit)
                progress(1)
    each = (time.perf_counter() - started) / sum(result.n_fits for result in results)
    for result in results:
        result.seconds, result.solver = each * result.n_fits, designs.solver
        result.dropped_axes = designs.dropped_axes
    return results


def _make_designs(
    matrix: Matrix,
    group: Group,
    transform: Callable[[], FeatureTransform],
    options: FitOptions,
    settings: SolverSettings,
    float64_rows: int,
) -> tuple[Designs, int]:
    """The designs of a group, and the bytes that matrices take while it is solved."""
    n, positions = group.rows.shape
    standardise, device = options.standardise, torch.device(settings.device)
    entity_bytes, row_bytes = 4 * matrix.size, 4 * n * matrix.shape[1]
    center = options.fit_intercept or standardise
    if n <= float64_rows:
        table, index = take_used(matrix, group.rows, device, torch.float64)
        vectors = join_rows(table, index, options.join)
        designs = Designs.in_float64(vectors, standardise=standardise, center=center)
        return designs, 2 * entity_bytes + 4 * 8 * vectors.numel()
    if positions == 1:
        prepared = transform().prepare(torch.from_numpy(group.rows[:, 0]).to(device))
        # The matrix in low precision and its transpose take up to the size of the matrix.
        held = 3 * entity_bytes + 3 * row_bytes
    else:
        dense_bytes = settings.memory_bytes // 2
        prepared = prepare_pairs(
            matrix,
            group.rows,
            options.join,
            standardise=standardise,
            device=device,
            dense_bytes=dense_bytes,
        )
        is_formed = options.join in ("product", "difference")
        held = min(3 * row_bytes, dense_bytes) if is_formed else 0
        held += (1 + 2 * positions) * entity_bytes
    return Designs(prepared, standardise=standardise), held

"""Solves groups of problems: chooses the designs, plans the memory, contains failures."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.matmul import fastest_matmul
from genebench.probes.linear.design_provider import (
    DesignProvider,
    SharedDesignProvider,
    SplitDesignProvider,
)
from genebench.probes.linear.feature_transform import FeatureTransform, prepare_standardised
from genebench.probes.linear.fold_fits import FitOptions, FoldFitter
from genebench.probes.linear.pair_features import join_float64
from genebench.probes.linear.pair_transform import prepare_pairs
from genebench.probes.linear.problem_groups import Group, group_problems
from genebench.probes.linear.solver_settings import SolverSettings, plan_columns
from genebench.probes.linear.targets import FoldFit, TargetColumn, scale_of, target_columns_of
from genebench.probes.linear.threads import limit_threads
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Problem

# Up to this many features for each sample, the folds of a small standardised task share one
# rotation of all features and differ in the penalty; beyond, each has its own rotation to fewer
# axes than features.
SQUARE = 2.0
# Smaller designs are solved by one thread: their products are shorter than the wait of threads.
SERIAL = 1 << 20
LINALG_ERROR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]

Progress = Callable[[int], None]
Matrix = npt.NDArray[Any]


class ProblemResult:
    """Results of all folds and columns of one problem.

    Args:
        problem: The problem.
        failure: Why the problem could not be solved; empty otherwise.
        is_scaled: Whether the targets of a regression were scaled for the fit.
        center: Whether they were centred.

    Attributes:
        failure: Why the problem could not be solved; empty otherwise.
        coefficients: By (fold, first column), (features, classes) and (classes,) arrays of the
            original features and targets, if asked for.
    """

    def __init__(
        self, problem: Problem, failure: str = "", *, is_scaled: bool = True, center: bool = True
    ) -> None:
        self.problem, self.failure = problem, failure
        self.n_fits, self.seconds, self.solver = 0, 0.0, ""
        self.coefficients: dict[tuple[int, int], tuple[Matrix, Matrix]] = {}
        self._center, self._scale = scale_of(problem, center=center) if is_scaled else (0.0, 1.0)
        columns = problem.n_columns
        self._rows = [np.flatnonzero(fold == TEST) for fold in problem.split.T]
        self._scores = [np.full((len(rows), columns), np.nan) for rows in self._rows]
        self._facts = np.zeros((problem.n_folds, 3, columns))
        self._fitted = np.zeros((problem.n_folds, columns), dtype=bool)
        self._reasons: list[dict[str, str]] = [{} for _ in self._rows]

    def add(self, target: TargetColumn, fit: FoldFit) -> None:
        """Add one target in one fold."""
        whole = self.problem.kind == "multiclass"
        columns = slice(None) if whole else slice(target.label, target.label + 1)
        facts = np.array([fit.gradient_norm, fit.c, fit.n_iterations])
        self._facts[fit.fold, :, columns] = facts[:, None]
        self.n_fits += 1
        if fit.values is None:
            for label in self.problem.labels[columns]:
                self._reasons[fit.fold][label] = fit.reason
            return
        values = _both_classes(fit.values) if whole else fit.values
        self._scores[fit.fold][:, columns] = values * self._scale + self._center
        self._fitted[fit.fold, columns] = True
        if fit.coefficients is not None and fit.intercepts is not None:
            coefficients, intercepts = fit.coefficients * self._scale, fit.intercepts[None]
            if whole:
                coefficients, intercepts = _both_classes(coefficients), _both_classes(intercepts)
            self.coefficients[fit.fold, target.label] = (
                coefficients,
                intercepts[0] * self._scale + self._center,
            )

    def outputs(self) -> tuple[FoldOutput, ...]:
        """Held-out predictions, fold by fold."""
        return tuple(
            FoldOutput(rows, scores, fitted, reasons, facts[0], facts[1], facts[2].astype(np.int64))
            for rows, scores, fitted, reasons, facts in zip(
                self._rows, self._scores, self._fitted, self._reasons, self._facts, strict=True
            )
        )

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = () if self.failure else self.outputs()
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)


def _both_classes(values: Matrix) -> Matrix:
    """Logits of both classes, (n, 2), from the log odds of the second, (n, 1)."""
    return np.concatenate([-values / 2, values / 2], axis=1) if values.shape[1] == 1 else values


def solve_groups(
    matrix: Matrix,
    problems: Sequence[Problem],
    options: FitOptions,
    settings: SolverSettings,
    progress: Progress,
) -> Iterator[ProblemResult]:
    """Solve problems in groups that share rows; a failure ends one problem.

    Args:
        matrix: (entities, features) float32 or float64, finite.
        problems: Problems of any kind.
        options: What is fitted.
        settings: How it is computed.
        progress: Called with the number of fits done since the last call.

    Yields:
        One result per problem, in the order in which groups are done.
    """
    transform: FeatureTransform | None = None
    float64_rows = settings.float64_limit(standardise=options.standardise)
    for group in group_problems(problems, float64_rows):
        if len(group.rows) > float64_rows and group.rows.shape[1] == 1 and transform is None:
            with fastest_matmul():
                transform = FeatureTransform(
                    matrix,
                    standardise=options.standardise,
                    device=torch.device(settings.device),
                    precision=settings.hessian_precision,
                    center=options.fit_intercept or options.standardise,
                )
        attempt = partial(_attempt, matrix, transform, options, settings, progress)
        results = attempt(group)
        if results is None:
            alone = (group_problems([problem], float64_rows) for problem in group.problems)
            for part in chain.from_iterable(alone):
                yield from attempt(part) or ()
        else:
            yield from results


def _attempt(
    matrix: Matrix,
    transform: FeatureTransform | None,
    options: FitOptions,
    settings: SolverSettings,
    progress: Progress,
    group: Group,
) -> list[ProblemResult] | None:
    """Solve a group; if it cannot be computed, the reason of a single problem, or None."""
    is_small = group.rows.size * matrix.shape[1] < SERIAL
    done = 0

    def advance(n_fits: int) -> None:
        nonlocal done
        done += n_fits
        progress(n_fits)

    try:
        with limit_threads(1 if is_small else None), fastest_matmul():
            return _solve_group(matrix, group, transform, options, settings, advance)
    except (MemoryError, RuntimeError) as error:
        if not (reason := _explain_failure(error)):
            raise
    if len(group.problems) > 1:
        # The fits are done again, each problem alone.
        progress(-done)
        return None
    (problem,) = group.problems
    n_fits = problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)
    progress(n_fits - done)
    return [ProblemResult(problem, reason)]


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
    group: Group,
    transform: FeatureTransform | None,
    options: FitOptions,
    settings: SolverSettings,
    progress: Progress,
) -> list[ProblemResult]:
    started = time.perf_counter()
    provider, held_bytes = _choose_provider(matrix, group, transform, options, settings)
    fitter = FoldFitter(group, provider, options, settings)
    center = options.fit_intercept
    results = [ProblemResult(problem, center=center) for problem in group.problems]
    at_once = plan_columns(
        len(group.rows),
        provider.width,
        4 if provider.dtype == torch.float32 else 8,
        held_bytes,
        settings.memory_bytes,
        provider.design_bytes,
    )
    by_shape = sorted(target_columns_of(group, center=center), key=lambda target: target.shape)
    for _, same in groupby(by_shape, key=lambda target: target.shape):
        for columns in fitter.blocks(list(same), at_once):
            for fit in fitter.fit(columns):
                target = columns[fit.target]
                results[target.problem].add(target, fit)
                progress(1)
    each = (time.perf_counter() - started) / sum(result.n_fits for result in results)
    for result in results:
        result.seconds, result.solver = each * result.n_fits, provider.solver
    return results


def _choose_provider(
    matrix: Matrix,
    group: Group,
    transform: FeatureTransform | None,
    options: FitOptions,
    settings: SolverSettings,
) -> tuple[DesignProvider, int]:
    """The designs of a group, and the bytes that matrices take while it is solved."""
    n, positions = group.rows.shape
    standardise, device = options.standardise, torch.device(settings.device)
    entity_bytes, row_bytes = 4 * matrix.size, 4 * n * matrix.shape[1]
    if n <= settings.float64_limit(standardise=standardise):
        vectors = join_float64(matrix, group.rows, options.join, device=device)
        held = 2 * entity_bytes + 4 * 8 * vectors.numel()
        if standardise and vectors.shape[1] <= SQUARE * n:
            prepared = prepare_standardised(vectors)
            return SharedDesignProvider(prepared, standardise=True, dtype=torch.float64), held
        center = options.fit_intercept or standardise
        return SplitDesignProvider(vectors, standardise=standardise, center=center), held
    if positions == 1:
        assert transform is not None
        prepared = transform.prepare(torch.from_numpy(group.rows[:, 0]).to(device))
        # The matrix in low precision and its transpose take up to the size of the matrix.
        held = 3 * entity_bytes + 3 * row_bytes
    else:
        prepared = prepare_pairs(
            matrix,
            group.rows,
            options.join,
            standardise=standardise,
            device=device,
            dense_bytes=settings.memory_bytes // 2,
        )
        is_formed = options.join in ("product", "difference")
        held = min(3 * row_bytes, settings.memory_bytes // 2) if is_formed else 0
        held += (1 + 2 * positions) * entity_bytes
    return SharedDesignProvider(prepared, standardise=standardise), held

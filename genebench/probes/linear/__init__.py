"""Linear engine: logistic, multinomial and least-squares fits of all labels and folds together.

`solve_problems` groups problems by their rows, makes one design for each group, and fits all
systems (a label in a fold) of a group in blocks that fit the memory budget. The mathematics is in
`approach` and `newton` (all systems at once), `designs` (the matrices as operators), `losses`,
`spaces` (rotation and scaling), `leastsquares`; `groups`, `parts` and `passes` hold what is solved
together and on which rows, `fits` and `paths` how C is chosen.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from genebench.matmul import fastest_matmul
from genebench.probes.declaration import TEST, FoldOutput, HeldOut, Probe, Problem
from genebench.probes.linear.fits import Fitter
from genebench.probes.linear.groups import Group, group_problems
from genebench.probes.linear.leastsquares import fit_least_squares
from genebench.probes.linear.pairs import prepare_pairs
from genebench.probes.linear.solver_settings import SolverSettings, plan_columns
from genebench.probes.linear.sources import DesignSource, OwnSource, SharedSource
from genebench.probes.linear.spaces import Space, prepare_own, scale_own
from genebench.probes.linear.threads import limit_threads
from genebench.probes.linear.units import Fitted, Unit, scale_of, units_of
from genebench.protocols.declaration import Protocol

__all__ = ["SolverSettings", "solve_problems"]

# Up to this many features for each sample, a small task's folds share one rotation of all features
# and differ in the penalty; beyond, each has a rotation of its own to fewer axes than features.
SQUARE = 2.0

# Designs with fewer numbers are solved by one thread: their products are shorter than the wait of
# two threads for each other, above all where other work wants the cores.
SERIAL = 1 << 20

LINALG_ERROR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]

Progress = Callable[[int], None]


def solve_problems(
    matrix: npt.NDArray[Any],
    problems: Sequence[Problem],
    probe: Probe,
    protocol: Protocol,
    settings: SolverSettings,
    progress: Progress | None = None,
) -> Iterator[HeldOut]:
    """Fit all problems on one embedding matrix.

    Args:
        matrix: (entities, features) float32 or float64, finite.
        problems: Any kinds, rows and folds.
        probe: Its regression estimator decides between least squares and ridge.
        protocol: Scaling, penalties, the join of pairs.
        settings: Device, precision, memory, tolerances.
        progress: Called with the number of fits (a label in a fold) done since the last call.

    Yields:
        One output a problem, in the order in which groups are done.
    """
    device = torch.device(settings.device)
    report = progress or _ignore
    direct = probe.estimator("regression").name == "least_squares"
    direct = direct and protocol.regression == "as_probe"
    iterative = []
    for problem in problems:
        if problem.kind == "regression" and direct:
            yield _solve_directly(matrix, problem, protocol, device)
            report(problem.n_folds)
        else:
            iterative.append(problem)
    space: Space | None = None
    own_rows = settings.own_limit(standardise=protocol.standardise)
    for group in group_problems(iterative, own_rows):
        if len(group.rows) > own_rows and group.rows.shape[1] == 1 and space is None:
            with fastest_matmul():
                space = Space(
                    matrix,
                    standardise=protocol.standardise,
                    device=device,
                    precision=settings.steering,
                )
        attempt = partial(_attempt, matrix, space, protocol, settings, report)
        outputs = attempt(group)
        if outputs is None:
            # One of the problems cannot be computed; the others can without it.
            alone = (group_problems([problem], own_rows) for problem in group.problems)
            for part in chain.from_iterable(alone):
                yield from attempt(part) or ()
        else:
            yield from outputs


def _attempt(
    matrix: npt.NDArray[Any],
    space: Space | None,
    protocol: Protocol,
    settings: SolverSettings,
    report: Progress,
    group: Group,
) -> list[HeldOut] | None:
    """Fit a group; if it cannot be computed, the reason of a single problem, or None."""
    started, device = time.perf_counter(), torch.device(settings.device)
    is_small = group.rows.size * matrix.shape[1] < SERIAL
    done = 0

    def advance(n_fits: int) -> None:
        nonlocal done
        done += n_fits
        report(n_fits)

    try:
        with limit_threads(1 if is_small else None), fastest_matmul():
            source, held = _source(matrix, group, space, protocol, settings, device)
            outputs = _solve_group(group, source, protocol, settings, held, started, advance)
    except (MemoryError, RuntimeError) as error:
        if not (reason := _explain_failure(error)):
            raise
        if len(group.problems) > 1:
            # The fits are done again, each problem alone.
            report(-done)
            return None
        (problem,) = group.problems
        report(problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1) - done)
        return [HeldOut(problem.id, (), reason, 0.0, "")]
    return outputs


def _explain_failure(error: Exception) -> str:
    """Why a problem cannot be computed; empty if the error is a fault of the program."""
    first_line = str(error).partition("\n")[0]
    if isinstance(error, LINALG_ERROR):
        return f"a factorisation failed: {first_line}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return f"out of memory: {first_line}; set GENEBENCH_MEMORY_GB lower"
    return ""


def _ignore(n_fits: int) -> None:
    """Report to nobody."""


def _source(
    matrix: npt.NDArray[Any],
    group: Group,
    space: Space | None,
    protocol: Protocol,
    settings: SolverSettings,
    device: torch.device,
) -> tuple[DesignSource, int]:
    """The designs of a group, and the bytes that matrices take while it is solved."""
    n, positions = group.rows.shape
    entity_bytes, row_bytes = 4 * matrix.size, 4 * n * matrix.shape[1]
    if n <= settings.own_limit(standardise=protocol.standardise):
        vectors = prepare_own(matrix, group.rows, protocol.pair_join, device=device)
        held = 2 * entity_bytes + 4 * 8 * vectors.numel()
        if protocol.standardise and vectors.shape[1] <= SQUARE * n:
            return (
                SharedSource(
                    scale_own(vectors), standardise=True, device=device, dtype=torch.float64
                ),
                held,
            )
        return OwnSource(vectors, standardise=protocol.standardise), held
    if positions == 1:
        assert space is not None
        prepared = space.prepare(torch.from_numpy(group.rows[:, 0]).to(device))
        # Codes of rounded products, there and back, take up to what they stand for once more.
        held = 3 * entity_bytes + 3 * row_bytes
    else:
        prepared = prepare_pairs(
            matrix,
            group.rows,
            protocol.pair_join,
            standardise=protocol.standardise,
            device=device,
            dense_bytes=settings.memory_bytes // 2,
        )
        formed = protocol.pair_join in ("product", "difference")
        held = min(3 * row_bytes, settings.memory_bytes // 2) if formed else 0
        held += (1 + 2 * positions) * entity_bytes
    return SharedSource(prepared, standardise=protocol.standardise, device=device), held


def _solve_directly(
    matrix: npt.NDArray[Any], problem: Problem, protocol: Protocol, device: torch.device
) -> HeldOut:
    started = time.perf_counter()
    gathered = _Gathered(problem)
    unit = Unit(0, 0, "squared", 1, problem.targets)
    predictions = fit_least_squares(matrix, problem, protocol.pair_join, device)
    for fold, predicted in enumerate(predictions):
        gathered.add(unit, Fitted(0, fold, predicted[:, None], "", 0.0, np.inf, 0))
    seconds = time.perf_counter() - started
    return HeldOut(problem.id, gathered.outputs(), "", seconds, "least squares float64")


def _solve_group(
    group: Group,
    source: DesignSource,
    protocol: Protocol,
    settings: SolverSettings,
    held_bytes: int,
    started: float,
    progress: Progress,
) -> list[HeldOut]:
    penalty = protocol.penalty
    fitter = Fitter(group, source, penalty.c, penalty.inner, protocol.folds.seed, settings)
    gathered = [_Gathered(problem, *scale_of(problem)) for problem in group.problems]
    at_once = plan_columns(
        len(group.rows),
        source.width,
        4 if source.dtype == torch.float32 else 8,
        held_bytes,
        settings.memory_bytes,
        source.design_bytes,
    )
    by_shape = sorted(units_of(group), key=lambda unit: unit.shape)
    for _, same in groupby(by_shape, key=lambda unit: unit.shape):
        for units in fitter.blocks(list(same), at_once):
            for fitted in fitter.fit(units):
                unit = units[fitted.unit]
                gathered[unit.problem].add(unit, fitted)
                progress(1)
    each = (time.perf_counter() - started) / sum(item.n_fits for item in gathered)
    return [
        HeldOut(item.problem.id, item.outputs(), "", each * item.n_fits, source.solver)
        for item in gathered
    ]


class _Gathered:
    """What is fitted of one problem so far.

    Args:
        problem: The problem.
        center: Added to what was fitted, once that is multiplied by `scale`.
        scale: Of a regression's targets.
    """

    def __init__(self, problem: Problem, center: float = 0.0, scale: float = 1.0) -> None:
        self.problem = problem
        self.n_fits = 0
        self._center, self._scale = center, scale
        columns = problem.n_columns
        self._rows = [np.flatnonzero(fold == TEST) for fold in problem.split.T]
        self._scores = [np.full((len(rows), columns), np.nan) for rows in self._rows]
        self._facts = np.zeros((problem.n_folds, 3, columns))
        self._fitted = np.zeros((problem.n_folds, columns), dtype=bool)
        self._reasons: list[dict[str, str]] = [{} for _ in self._rows]

    def add(self, unit: Unit, fitted: Fitted) -> None:
        """Take in one unit in one fold."""
        whole = self.problem.kind == "multiclass"
        columns = slice(None) if whole else slice(unit.label, unit.label + 1)
        self._facts[fitted.fold, :, columns] = np.array(
            [fitted.gradient_norm, fitted.c, fitted.n_iterations]
        )[:, None]
        self.n_fits += 1
        if fitted.values is None:
            for label in self.problem.labels[columns]:
                self._reasons[fitted.fold][label] = fitted.reason
        else:
            values = fitted.values * self._scale + self._center
            if whole and values.shape[1] == 1:
                values = np.concatenate([-values / 2, values / 2], axis=1)
            self._scores[fitted.fold][:, columns] = values
            self._fitted[fitted.fold, columns] = True

    def outputs(self) -> tuple[FoldOutput, ...]:
        """Everything, fold by fold."""
        return tuple(
            FoldOutput(rows, scores, fitted, reasons, facts[0], facts[1], facts[2].astype(np.int64))
            for rows, scores, fitted, reasons, facts in zip(
                self._rows, self._scores, self._fitted, self._reasons, self._facts, strict=True
            )
        )

"""Fits all target columns of one group of problems in every fold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.design_provider import DesignProvider, SharedBy
from genebench.probes.linear.losses import LOSSES, WEIGHTED_LOSSES, Loss
from genebench.probes.linear.newton_cg import Solution, polish
from genebench.probes.linear.objective import Forward
from genebench.probes.linear.problem_groups import Group, InnerFold, inner_folds
from genebench.probes.linear.regularization_path import (
    PATH_TOLERANCE,
    PathState,
    RegularizationPath,
)
from genebench.probes.linear.segments import Parameters, RowSegments, columns_of
from genebench.probes.linear.solver_settings import SolverSettings
from genebench.probes.linear.subproblems import Batch, class_weights, initial_parameters
from genebench.probes.linear.targets import Floats, FoldFit, Subproblem, TargetColumn
from genebench.probes.linear.threads import solve_in_threads
from genebench.probes.problem import TEST, TRAIN

# Below this size (rows x width x columns) row segments cost more than they save.
MIN_SEGMENTED_SIZE = 1 << 30
NO_C = "C cannot be chosen: in every inner fold a class is missing or a fit did not converge"


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, apart from how it is computed.

    Attributes:
        c: Ascending values of C; of several, inner folds choose one.
        inner: Number of inner folds for each outer one.
        seed: Seed of inner folds that must be shuffled.
        standardise: Scale features to mean 0 and standard deviation 1 on the training rows.
        join: How the vectors of a sample are joined.
        fit_intercept: Whether intercepts are fitted; else they are 0.
        sample_weight: (samples,) float64 weights; None for 1.
        class_weight: Weights of the targets 0, 1, … or `balanced`; not for the squared loss.
        coefficients: Whether results have coefficients of the original features.
    """

    c: tuple[float, ...] = (1.0,)
    inner: int = 2
    seed: int = 0
    standardise: bool = False
    join: str = "concat"
    fit_intercept: bool = True
    sample_weight: Floats | None = None
    class_weight: Sequence[float] | Literal["balanced"] | None = None
    coefficients: bool = False


@dataclass(frozen=True)
class Targets:
    """Target columns of one shape.

    Attributes:
        loss: Their loss.
        n_classes: Columns of one fit.
        values: (n, target columns), class numbers if multinomial.
    """

    loss: Loss
    n_classes: int
    values: Tensor


class FoldFitter:
    """Fits target columns of one group.

    Args:
        group: The problems.
        provider: Their designs.
        options: What is fitted.
        settings: Tolerances and precision.
    """

    def __init__(
        self, group: Group, provider: DesignProvider, options: FitOptions, settings: SolverSettings
    ) -> None:
        self.group, self.provider, self.settings = group, provider, settings
        self.options, self.path = options, options.c
        is_float64 = provider.dtype == torch.float64
        self.tolerance = settings.float64_tolerance if is_float64 else settings.tolerance
        masks: list[npt.NDArray[np.bool_]] = []
        self.outer: list[list[int]] = []
        self.tested: list[list[int]] = []
        self.inner: list[list[tuple[int, dict[int, int]]]] = []

        def add(samples: npt.NDArray[np.bool_], at: npt.NDArray[np.int64]) -> int:
            mask = np.zeros(len(group.rows), dtype=bool)
            mask[at[samples]] = True
            masks.append(mask)
            return len(masks) - 1

        for problem, at in zip(group.problems, group.at, strict=True):
            self.outer.append([add(fold == TRAIN, at) for fold in problem.split.T])
            self.tested.append([add(fold == TEST, at) for fold in problem.split.T])
            folds: list[InnerFold] = []
            if len(self.path) > 1:
                folds = inner_folds(problem.split, options.inner, options.seed)
            self.inner.append(
                [
                    (add(f.train, at), {k: add(rows, at) for k, rows in f.held.items()})
                    for f in folds
                ]
            )
        self.masks = torch.from_numpy(np.stack(masks)).to(provider.device).T.contiguous()
        self.row_segments = RowSegments.of(group.row_segments, self.masks)
        self.one_segment = RowSegments.of((slice(0, len(group.rows)),), self.masks)
        self.sample_weight: Tensor | None = None
        if options.sample_weight is not None:
            weights = torch.zeros(len(group.rows), 1, dtype=torch.float64)
            weights[group.at[0], 0] = torch.from_numpy(options.sample_weight)
            self.sample_weight = weights.to(provider.device)

    def blocks(
        self, target_columns: Sequence[TargetColumn], n_columns: int
    ) -> Iterator[list[TargetColumn]]:
        """Blocks of at most this many columns, of one target at least."""
        block: list[TargetColumn] = []
        columns = 0
        for target in target_columns:
            fits = max(len(self.outer[target.problem]), len(self.inner[target.problem]))
            needed = fits * target.n_classes
            if block and columns + needed > n_columns:
                yield block
                block, columns = [], 0
            block.append(target)
            columns += needed
        if block:
            yield block

    def fit(self, columns: Sequence[TargetColumn]) -> Iterator[FoldFit]:
        """Fit target columns of one shape in every fold of their problems."""
        values = torch.from_numpy(np.stack([column.targets for column in columns], axis=1))
        targets = Targets(
            LOSSES[columns[0].loss], columns[0].n_classes, values.to(self.provider.device)
        )
        outer: list[Subproblem] = []
        folds: list[int] = []
        for number, column in enumerate(columns):
            for fold, mask in enumerate(self.outer[column.problem]):
                if reason := self._find_obstacle(targets, number, mask):
                    yield FoldFit(number, fold, None, reason, np.inf, np.nan, 0)
                else:
                    outer.append(Subproblem(number, mask))
                    folds.append(fold)
        c = np.full(len(outer), self.path[0])
        warm: Parameters | None = None
        if outer and len(self.path) > 1:
            path = self._follow_path(targets, columns, outer, folds)
            is_known = path.best.isfinite()
            for i in (~is_known).nonzero().flatten().tolist():
                yield FoldFit(outer[i].target, folds[i], None, NO_C, np.inf, np.nan, 0)
            kept = is_known.nonzero().flatten()
            outer, folds = [outer[i] for i in kept.tolist()], [folds[i] for i in kept.tolist()]
            c, warm = path.take(kept, targets.n_classes)
        if not outer:
            return
        for shared in self.provider.designs_of(self.masks, [one.mask for one in outer]):
            here = [outer[place] for place in shared.places]
            batch = self._batch(shared, targets, here, c[shared.places], self.tolerance)
            if warm is None:
                start = initial_parameters(batch)
            else:
                at = torch.tensor(shared.places, device=warm[1].device)
                own = columns_of(at, batch.n_classes)
                start = warm[0][:, own], warm[1][own]
            places = [(columns[outer[i].target].problem, folds[i]) for i in shared.places]
            for fit, place in zip(
                self._solve(shared, batch, start, places), shared.places, strict=True
            ):
                yield replace(fit, target=outer[place].target)

    def _solve(
        self,
        shared: SharedBy,
        batch: Batch,
        start: Parameters,
        places: Sequence[tuple[int, int]],
    ) -> Iterator[FoldFit]:
        """Solve a batch; predict the test rows of each subproblem's (problem, fold)."""
        solution = solve_in_threads(batch, start)
        polished = polish(batch, solution, self.settings.memory_bytes)
        tested = torch.tensor(
            [self.tested[p][fold] for p, fold in places], device=self.masks.device
        )
        rows = [self._test_rows(*place) for place in places]
        scores = _predict(batch, solution.parameters, tested, rows)
        numbers: dict[int, tuple[Batch, Parameters, int]] = {
            i: (batch, solution.parameters, i) for i in range(len(places))
        }
        # Subproblems that were finished in float64 are predicted in float64.
        for part in polished:
            own = part.subproblems.tolist()
            exact = _predict(part.batch, part.parameters, tested[own], [rows[i] for i in own])
            for at, number in enumerate(own):
                scores[number] = exact[at]
                numbers[number] = part.batch, part.parameters, at
        for number, (_, fold) in enumerate(places):
            fit = _read(solution, number, fold, scores[number], batch)
            if self.options.coefficients and fit.values is not None:
                of_batch, parameters, at = numbers[number]
                own_columns = slice(at * batch.n_classes, (at + 1) * batch.n_classes)
                coefficients, intercepts = shared.prepared.to_original(
                    of_batch.design, (parameters[0][:, own_columns], parameters[1][own_columns])
                )
                fit = replace(
                    fit,
                    coefficients=coefficients.cpu().numpy(),
                    intercepts=intercepts.cpu().numpy(),
                )
            yield fit

    def _test_rows(self, problem: int, fold: int) -> Tensor:
        """Rows of the group that a problem holds out in a fold, in the order of its samples."""
        test = self.group.problems[problem].split[:, fold] == TEST
        return torch.from_numpy(self.group.at[problem][test]).to(self.provider.device)

    def _find_obstacle(self, targets: Targets, target: int, mask: int) -> str:
        """Why a target cannot be fitted on these rows; empty if it can."""
        values = targets.values[self.masks[:, mask], target]
        if len(values) == 0:
            return "no training samples"
        if targets.loss.name == "logistic":
            found = int(values.sum())
            if found in {0, len(values)}:
                return f"{found} of {len(values)} training samples are positive"
        if targets.loss.name == "multinomial" and len(torch.unique(values)) < targets.n_classes:
            return "a class has no training sample"
        return ""

    def _batch(
        self,
        shared: SharedBy,
        targets: Targets,
        subproblems: Sequence[Subproblem],
        c: npt.NDArray[np.float64],
        tolerance: float,
    ) -> Batch:
        device, design = self.provider.device, shared.prepared.design
        n_columns = len(subproblems) * targets.n_classes
        is_large = design.n_rows * design.width * n_columns >= MIN_SEGMENTED_SIZE
        batch = Batch(
            design,
            targets.loss,
            n_classes=targets.n_classes,
            all_targets=targets.values,
            target_columns=torch.tensor([one.target for one in subproblems], device=device),
            masks=self.masks,
            folds=torch.tensor([one.mask for one in subproblems], device=device),
            penalty_strength=torch.from_numpy(1 / c).to(device),
            penalty_weights=shared.penalty_weights,
            tolerance=tolerance,
            row_segments=self.row_segments if is_large and design.is_dense else self.one_segment,
            sample_weight=self.sample_weight,
            fit_intercept=self.options.fit_intercept,
        )
        weight = self.options.class_weight
        if weight is not None and targets.loss.name != "squared":
            batch = replace(batch, class_weight=class_weights(batch, weight))
        if batch.sample_weight is not None or batch.class_weight is not None:
            batch = replace(batch, loss=WEIGHTED_LOSSES[targets.loss.name])
        return batch

    def _follow_path(
        self,
        targets: Targets,
        columns: Sequence[TargetColumn],
        outer: Sequence[Subproblem],
        folds: Sequence[int],
    ) -> RegularizationPath:
        """Fit the inner subproblems of these outer ones along the path of C."""
        place = {(s.target, fold): i for i, (s, fold) in enumerate(zip(outer, folds, strict=True))}
        inner = [
            Subproblem(number, mask, tuple((place[number, k], rows) for k, rows in held.items()))
            for number, column in enumerate(columns)
            for mask, held in self.inner[column.problem]
            if not self._find_obstacle(targets, number, mask)
            and all((number, k) in place for k in held)
        ]
        warm = None
        if self.provider.is_shared:
            size = self.provider.width + 1, len(outer) * targets.n_classes
            zeros = targets.values.new_zeros(size, dtype=self.provider.dtype)
            warm = zeros[:-1], zeros[-1]
        path = RegularizationPath(
            len(outer), self.path, self.masks, warm, self.settings.memory_bytes
        )
        if inner:
            states = []
            for shared in self.provider.designs_of(self.masks, [one.mask for one in inner]):
                here = [inner[p] for p in shared.places]
                first = np.full(len(here), self.path[0])
                batch = self._batch(shared, targets, here, first, PATH_TOLERANCE)
                states.append(PathState(batch, initial_parameters(batch), here))
            path.fit(states)
        return path


def _predict(
    batch: Batch, parameters: Parameters, tested: Tensor, rows: Sequence[Tensor]
) -> list[Tensor]:
    """(test rows, classes) float64 scores of each subproblem.

    Intercepts are added in float64: in float32 they would round small scores away.

    Args:
        batch: The subproblems.
        parameters: Their solutions.
        tested: (subproblems,) the mask of each one's test rows.
        rows: The same rows of each subproblem, in the order of its problem.
    """
    coefficients, intercepts = parameters
    values = coefficients.new_empty(batch.design.n_rows, batch.n_columns)
    forward = Forward((coefficients, torch.zeros_like(intercepts)), batch.design)
    for block in replace(batch, folds=tested).blocks():
        values[block.rows].index_copy_(1, block.segment.columns, forward.rows(block))
    size = batch.n_classes
    columns = [slice(i * size, (i + 1) * size) for i in range(batch.n_subproblems)]
    return [
        values[at, own].double() + intercepts[own].double()
        for at, own in zip(rows, columns, strict=True)
    ]


def _read(solution: Solution, number: int, fold: int, scores: Tensor, batch: Batch) -> FoldFit:
    """The result of one subproblem of a batch."""
    norm, n_steps = float(solution.gradient_norm[number]), int(solution.n_steps[number])
    c = 1 / float(batch.penalty_strength[number])
    if bool(solution.converged[number]):
        return FoldFit(0, fold, scores.cpu().numpy(), "", norm, c, n_steps)
    reason = (
        f"did not converge: gradient norm {norm:.1e}, tolerance {batch.tolerance:.0e}, "
        f"after {n_steps} Newton steps"
    )
    return FoldFit(0, fold, None, reason, norm, c, n_steps)

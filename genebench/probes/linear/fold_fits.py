"""Fits all target columns of one group of problems in every fold."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.batch import (
    Batch,
    Parameters,
    RowSegments,
    class_weights,
    initial_parameters,
    take_columns,
)
from genebench.probes.linear.feature_transform import Designs, Shared
from genebench.probes.linear.newton_cg import Solution, polish, solve_in_threads
from genebench.probes.linear.objective import LOSSES, WEIGHTED_LOSSES, point_at
from genebench.probes.linear.regularization_path import (
    PATH_TOLERANCE,
    InnerFits,
    InnerFold,
    choose_c,
    inner_folds,
)
from genebench.probes.linear.solver_settings import (
    FitOptions,
    Group,
    SolverSettings,
    TargetColumn,
)
from genebench.probes.problem import TEST, TRAIN

Floats = npt.NDArray[np.float64]
# Below this size, rows x columns x (width + 1024), row segments cost more than they save. They save
# work of the products, by width, and of losses and masks, which counts like 1024 features.
MIN_SEGMENTED_SIZE = 1 << 31
# Tensors of (rows, columns) that exist at once while a block of columns is solved: the linear
# predictor, its change, weights, products and sums of pairs, and copies for threads and subsets.
ROW_TENSORS = 12
# Tensors of (width, columns): coefficients, their change, gradients, those of the conjugate
# gradients, penalty weights and the preconditioner.
WIDTH_TENSORS = 22
NO_INNER_FOLD = "C cannot be chosen: in every inner fold a class is missing"
NO_INNER_FIT = "C cannot be chosen: the fits of every inner fold did not converge"


class _Subproblem(NamedTuple):
    """Numbers of a target, of the mask of its training rows, and of its outer fold.

    An inner one has `held` in place of the fold: for outer folds, the masks of the rows that are
    held out here.
    """

    target: int
    mask: int
    fold: int
    held: dict[int, int]


class FoldFitter:
    """Fits target columns of one group.

    Args:
        group: The problems.
        designs: Their designs.
        options: What is fitted.
        settings: Tolerances and precision.
        fixed_bytes: Memory that matrices take.
        progress: Called with the number of fits done since the last call.
    """

    def __init__(
        self,
        group: Group,
        designs: Designs,
        options: FitOptions,
        settings: SolverSettings,
        fixed_bytes: int,
        progress: Callable[[int], None],
    ) -> None:
        self.group, self.designs, self.options, self.settings = group, designs, options, settings
        self.progress = progress
        self.device = torch.device(settings.device)
        is_float64 = designs.dtype == torch.float64
        self.tolerance = settings.float64_tolerance if is_float64 else settings.tolerance
        self.at_once = plan_columns(
            len(group.rows),
            designs.width,
            designs.dtype.itemsize,
            fixed_bytes,
            settings.memory_bytes,
            designs.design_bytes,
        )
        masks: list[npt.NDArray[np.bool_]] = []

        def add(samples: npt.NDArray[np.bool_]) -> int:
            masks.append(samples[group.order])
            return len(masks) - 1

        self.place = np.empty_like(group.order)
        self.place[group.order] = np.arange(len(group.order))
        # For each problem, the masks of its folds, and those of its inner folds.
        self.outer: list[list[int]] = []
        self.tested: list[list[int]] = []
        self.inner: list[list[tuple[int, dict[int, int]]]] = []
        for problem in group.problems:
            self.outer.append([add(fold == TRAIN) for fold in problem.split.T])
            self.tested.append([add(fold == TEST) for fold in problem.split.T])
            folds: list[InnerFold] = []
            if len(options.c) > 1:
                folds = inner_folds(problem.split, options.inner, options.seed)
            self.inner.append(
                [(add(f.train), {k: add(rows) for k, rows in f.held.items()}) for f in folds]
            )
        self.masks = torch.from_numpy(np.stack(masks, axis=1)).to(self.device)
        self.row_segments = RowSegments.of(group.row_segments, self.masks)
        self.one_segment = RowSegments.of((slice(0, len(group.rows)),), self.masks)
        # Subproblems in this order train on the rows of a segment in few runs.
        patterns = self.row_segments.some.T.tolist()
        self.order = [(pattern, mask) for mask, pattern in enumerate(patterns)]
        self.sample_weight: Tensor | None = None
        if options.sample_weight is not None:
            weights = torch.from_numpy(options.sample_weight[group.order, None])
            self.sample_weight = weights.to(self.device)

    def fit_all(self, targets: Sequence[TargetColumn]) -> None:
        """Fit targets of one shape in every fold, in blocks that fit the memory limit."""
        block: list[TargetColumn] = []
        columns = 0
        for target in targets:
            fits = max(len(self.outer[target.problem]), len(self.inner[target.problem]))
            if block and columns + fits * target.n_classes > self.at_once:
                self.fit(block)
                block, columns = [], 0
            block.append(target)
            columns += fits * target.n_classes
        self.fit(block)

    def fit(self, targets: Sequence[TargetColumn]) -> None:
        """Fit targets of one shape in every fold of their problems."""
        values = torch.from_numpy(np.stack([target.targets for target in targets], axis=1))
        values = values.to(self.device)
        outer: list[_Subproblem] = []
        for number, target in enumerate(targets):
            for fold, mask in enumerate(self.outer[target.problem]):
                if reason := self._find_obstacle(values, target, number, mask):
                    self._refuse(target, fold, reason, unfittable=True)
                else:
                    outer.append(_Subproblem(number, mask, fold, {}))
        outer.sort(key=lambda one: self.order[one.mask])
        c, warm = np.full(len(outer), self.options.c[0]), None
        if len(self.options.c) > 1:
            c, warm, has_inner = self._follow_path(values, targets, outer)
            for i in np.flatnonzero(np.isnan(c)):
                reason = NO_INNER_FIT if has_inner[i] else NO_INNER_FOLD
                target = targets[outer[i].target]
                self._refuse(target, outer[i].fold, reason, unfittable=not has_inner[i])
        known = np.flatnonzero(~np.isnan(c))
        for shared in self.designs.of(self.masks, [outer[i].mask for i in known]):
            here = known[shared.places]
            own = [outer[i] for i in here]
            batch = self._batch(shared, values, targets, own, c[here], self.tolerance)
            if warm is None:
                start = initial_parameters(batch)
            else:
                start = take_columns(warm, batch.columns_of(torch.from_numpy(here).to(self.device)))
            self._solve(shared, batch, start, [(targets[one.target], one.fold) for one in own])

    def _refuse(self, target: TargetColumn, fold: int, reason: str, *, unfittable: bool) -> None:
        target.result.refuse(fold, target.label, reason, unfittable=unfittable)
        self.progress(1)

    def _solve(
        self,
        shared: Shared,
        batch: Batch,
        start: Parameters,
        places: Sequence[tuple[TargetColumn, int]],
    ) -> None:
        """Solve a batch, whose subproblems are these targets and folds; predict the test rows."""
        solution = solve_in_threads(batch, start)
        polished = self._polish(batch, solution)
        for number, (target, fold) in enumerate(places):
            norm, n_steps = float(solution.gradient_norm[number]), int(solution.n_steps[number])
            c = 1 / float(batch.penalty_strength[number])
            target.result.put_steps(fold, target.label, norm, c, n_steps)
            if not solution.converged[number]:
                reason = (
                    f"did not converge: gradient norm {norm:.1e}, tolerance {batch.tolerance:.0e}, "
                    f"after {n_steps} Newton steps"
                )
                target.result.refuse(fold, target.label, reason, unfittable=False)
        # Results of float64 take the place of those of float32.
        every = torch.arange(batch.n_subproblems, device=self.device)
        for own, part, parameters in [(every, batch, solution.parameters), *polished]:
            scores = self._predict(part, parameters, [places[i] for i in own.tolist()])
            for at, (number, values) in enumerate(zip(own.tolist(), scores, strict=True)):
                if not solution.converged[number]:
                    continue
                (target, fold), coefficients = places[number], []
                if self.options.coefficients:
                    alone = take_columns(parameters, part.columns_of(own.new_tensor([at])))
                    original = shared.prepared.to_original(part.design, alone)
                    coefficients = [numbers.cpu().numpy() for numbers in original]
                target.result.put(fold, target.label, values.cpu().numpy(), coefficients)
        self.progress(len(places))

    def _polish(self, batch: Batch, solution: Solution) -> list[tuple[Tensor, Batch, Parameters]]:
        design = batch.design
        limit = self.settings.memory_bytes // 3
        return polish(batch, solution, plan_columns(design.n_rows, design.width, 8, 0, limit))

    def _solve_inner(self, batch: Batch, start: Parameters) -> Solution:
        solution = solve_in_threads(batch, start)
        self._polish(batch, solution)
        return solution

    def _predict(
        self, batch: Batch, parameters: Parameters, places: Sequence[tuple[TargetColumn, int]]
    ) -> Iterator[Tensor]:
        """(test rows, classes) float64 scores of each subproblem's target and fold."""
        coefficients, intercepts = parameters
        tested = [self.tested[target.problem][fold] for target, fold in places]
        batch = replace(batch, folds=torch.tensor(tested, device=self.device))
        # Intercepts are added in float64: in float32 they would round small scores away.
        values = point_at(batch, (coefficients, torch.zeros_like(intercepts))).values
        size = batch.n_classes
        for number, (target, fold) in enumerate(places):
            test = self.group.problems[target.problem].split[:, fold] == TEST
            at = torch.from_numpy(self.place[test]).to(self.device)
            own = slice(number * size, (number + 1) * size)
            yield values[at, own].double() + intercepts[own].double()

    def _find_obstacle(self, values: Tensor, target: TargetColumn, number: int, mask: int) -> str:
        """Why a target cannot be fitted on these rows; empty if it can."""
        trained = values[self.masks[:, mask], number]
        if len(trained) == 0:
            return "no training samples"
        if target.loss == "logistic" and (found := int(trained.sum())) in {0, len(trained)}:
            return f"{found} of {len(trained)} training samples are positive"
        if target.loss == "multinomial" and len(torch.unique(trained)) < target.n_classes:
            return "a class has no training sample"
        return ""

    def _batch(
        self,
        shared: Shared,
        values: Tensor,
        targets: Sequence[TargetColumn],
        subproblems: Sequence[_Subproblem],
        c: Floats,
        tolerance: float,
    ) -> Batch:
        numbers, masks = ([one[part] for one in subproblems] for part in (0, 1))
        design, loss, n_classes = shared.prepared.design, targets[0].loss, targets[0].n_classes
        n_values = design.n_rows * len(numbers) * n_classes
        is_large = n_values * (design.width + 1024) >= MIN_SEGMENTED_SIZE
        batch = Batch(
            design,
            LOSSES[loss],
            n_classes=n_classes,
            all_targets=values,
            target_columns=torch.tensor(numbers, device=self.device),
            masks=self.masks,
            folds=torch.tensor(masks, device=self.device),
            penalty_strength=torch.from_numpy(1 / c).to(self.device),
            penalty_weights=shared.penalty_weights,
            tolerance=tolerance,
            row_segments=self.row_segments if is_large else self.one_segment,
            sample_weight=self.sample_weight,
            fit_intercept=self.options.fit_intercept,
        )
        weight = self.options.class_weight
        if weight is not None and loss != "squared":
            batch = replace(batch, class_weight=class_weights(batch, weight))
        if batch.sample_weight is not None or batch.class_weight is not None:
            batch = replace(batch, loss=WEIGHTED_LOSSES[loss])
        return batch

    def _follow_path(
        self, values: Tensor, targets: Sequence[TargetColumn], outer: Sequence[_Subproblem]
    ) -> tuple[Floats, Parameters | None, npt.NDArray[np.bool_]]:
        """Choose C of each outer subproblem.

        Returns:
            C, NaN if it cannot be chosen; where to start; and whether the outer subproblem has an
            inner fold whose training rows have all classes.
        """
        place = {(one.target, one.fold): i for i, one in enumerate(outer)}
        inner = [
            _Subproblem(number, mask, -1, {place[number, k]: rows for k, rows in held.items()})
            for number, target in enumerate(targets)
            for mask, held in self.inner[target.problem]
            if not self._find_obstacle(values, target, number, mask)
            and all((number, k) in place for k in held)
        ]
        inner.sort(key=lambda one: self.order[one.mask])
        warm, fits = None, []
        if self.designs.prepared is not None:
            size = self.designs.width, len(outer) * targets[0].n_classes
            zeros = values.new_zeros(size, dtype=self.designs.dtype)
            warm = zeros, zeros.new_zeros(size[1])
        for shared in self.designs.of(self.masks, [one.mask for one in inner]):
            own = [inner[i] for i in shared.places]
            first = np.full(len(own), self.options.c[0])
            batch = self._batch(shared, values, targets, own, first, PATH_TOLERANCE)
            held = [(i, *pair) for i, one in enumerate(own) for pair in one.held.items()]
            held.sort(key=lambda one: self.order[one[2]])
            numbers = torch.tensor(held, device=self.device)
            fits.append(InnerFits(batch, initial_parameters(batch), numbers))
        c = choose_c(fits, self.options.c, len(outer), warm, self._solve_inner)
        has_inner = np.zeros(len(outer), dtype=bool)
        has_inner[[i for one in inner for i in one.held]] = True
        return c.cpu().numpy(), warm, has_inner


def plan_columns(
    n_rows: int,
    width: int,
    itemsize: int,
    fixed_bytes: int,
    memory_bytes: int,
    column_bytes: int = 0,
) -> int:
    """How many columns of a design may be solved together; at least 1, whatever the limit.

    `itemsize` are the bytes of a number, `fixed_bytes` what matrices already take, `memory_bytes`
    the limit, and `column_bytes` what each column takes besides.
    """
    each = itemsize * (ROW_TENSORS * n_rows + WIDTH_TENSORS * width) + column_bytes
    return max((memory_bytes - fixed_bytes) // each, 1)

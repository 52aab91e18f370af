"""Fits all target columns of one group of problems in every fold."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.batch import Batch, RowSegments, class_weights, initial_parameters
from genebench.probes.linear.feature_transform import Designs, Shared
from genebench.probes.linear.groups import Group, TargetColumn
from genebench.probes.linear.lbfgs import N_PAIRS, Part, solve_exactly
from genebench.probes.linear.objective import predict
from genebench.probes.linear.regularization_path import InnerFits, choose_c, inner_folds
from genebench.probes.linear.solver_settings import FitOptions, Floats, SolverSettings
from genebench.probes.problem import TEST, TRAIN

# Choosing a penalty needs less accuracy than scoring with it.
PATH_TOLERANCE = 1e-4
# Tensors of (rows, columns) that exist at once while a block of columns is solved: predictions, or
# products of sparse designs.
ROW_TENSORS = 4
# Tensors of (width, columns) beside the pairs of L-BFGS: parameters, gradients, steps, penalty
# weights and the preconditioner.
WIDTH_TENSORS = 20
NO_INNER_FOLD = "C cannot be chosen: in every inner fold a class is missing"
NO_INNER_FIT = "C cannot be chosen: the fits of every inner fold did not converge"


# Masks by number: training rows, and rows that are held out, for each outer fold.
_Fold = tuple[int, dict[int, int]]


class _Fit(NamedTuple):
    """A target fitted on the training rows of an outer or inner fold, by its numbers.

    `tests` are masks of rows that it does not train on: of an outer fold by its number, of an inner
    one by the numbers of the outer fits that it serves.
    """

    target: int
    mask: int
    tests: dict[int, int]


class FoldFitter:
    """Fits target columns of one group; `settings.memory_bytes` is what columns may take."""

    def __init__(
        self,
        group: Group,
        designs: Designs,
        options: FitOptions,
        settings: SolverSettings,
        progress: Callable[[int], None],
    ) -> None:
        self.group, self.designs, self.options, self.settings = group, designs, options, settings
        self.progress, self.device = progress, torch.device(settings.device)
        is_float64 = designs.dtype == torch.float64
        self.tolerance = settings.float64_tolerance if is_float64 else settings.tolerance
        size = len(group.rows), designs.width, designs.dtype
        self.at_once = plan_columns(*size, settings.memory_bytes, designs.design_bytes)
        self.place = np.argsort(group.order)
        masks: list[npt.NDArray[np.bool_]] = []

        def add(samples: npt.NDArray[np.bool_]) -> int:
            masks.append(samples[group.order])
            return len(masks) - 1

        def number(train: npt.NDArray[np.bool_], held: dict[int, npt.NDArray[np.bool_]]) -> _Fold:
            return add(train), {k: add(rows) for k, rows in held.items()}

        # Masks of the folds of each problem, and of its inner folds.
        self.outer: list[list[_Fold]] = []
        self.inner: list[list[_Fold]] = []
        has_path = len(options.c) > 1
        for problem in group.problems:
            folds = enumerate(problem.split.T)
            self.outer.append([number(fold == TRAIN, {k: fold == TEST}) for k, fold in folds])
            inner = inner_folds(problem.split, options.inner, options.seed) if has_path else []
            self.inner.append([number(*fold) for fold in inner])
        self.masks = torch.from_numpy(np.stack(masks, axis=1)).to(self.device)
        self.row_segments = RowSegments.of(group.row_segments, self.masks)
        # Fits in this order train on the rows of a segment in few runs.
        patterns = (self.row_segments.counts > 0).T.tolist()
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
        self.targets = targets
        values = np.stack([target.targets[self.group.order] for target in targets], axis=1)
        self.values = torch.from_numpy(values).to(self.device)
        outer: list[_Fit] = []
        for number, target in enumerate(targets):
            for mask, tests in self.outer[target.problem]:
                fit = _Fit(number, mask, tests)
                if reason := self._find_obstacle(fit):
                    self._refuse(fit, reason, unfittable=True)
                else:
                    outer.append(fit)
        outer.sort(key=lambda fit: self.order[fit.mask])
        c, warm = np.full(len(outer), self.options.c[0]), None
        if len(self.options.c) > 1:
            c, warm = self._follow_path(outer)
        known = np.flatnonzero(~np.isnan(c))
        for shared in self.designs.of(self.masks, [outer[i].mask for i in known]):
            here = known[shared.places]
            fits = [outer[i] for i in here]
            batch = self._batch(shared, fits, c[here], self.tolerance)
            start = initial_parameters(batch)
            if warm is not None:
                start = warm[:, batch.columns_of(torch.from_numpy(here).to(self.device))]
            self._fit_outer(batch, start, fits)

    def _refuse(self, fit: _Fit, reason: str, *, unfittable: bool) -> None:
        (fold,) = fit.tests
        self.targets[fit.target].refuse(fold, reason, unfittable=unfittable)
        self.progress(1)

    def _solve(self, batch: Batch, start: Tensor) -> list[Part]:
        size = batch.design.n_rows, batch.design.width, torch.float64
        return solve_exactly(batch, start, plan_columns(*size, self.settings.memory_bytes // 3))

    def _fit_outer(self, batch: Batch, start: Tensor, fits: Sequence[_Fit]) -> None:
        """Solve the batch of some outer fits, and put their results."""
        for own, part, solution in self._solve(batch, start):
            found = [fits[i] for i in own.tolist()]
            tested = torch.tensor([mask for fit in found for mask in fit.tests.values()])
            values = predict(replace(part, folds=tested.to(self.device)), solution.parameters)
            for at, fit in enumerate(found):
                (fold,), target = fit.tests, self.targets[fit.target]
                norm, n_steps = float(solution.gradient_norm[at]), int(solution.n_steps[at])
                target.put_steps(fold, norm, 1 / float(part.penalty_strength[at]), n_steps)
                if not solution.converged[at]:
                    reason = (
                        f"did not converge: gradient norm {norm:.1e}, "
                        f"tolerance {batch.tolerance:.0e}, after {n_steps} steps"
                    )
                    self._refuse(fit, reason, unfittable=False)
                    continue
                columns = part.columns_of(own.new_tensor([at]))
                parameters = solution.parameters[:, columns]
                if self.options.coefficients:
                    target.put_coefficients(fold, *part.design.to_original(parameters))
                rows = self.place[target.result.problem.split[:, fold] == TEST]
                here = values[torch.from_numpy(rows).to(self.device)[:, None], columns]
                # In float32 intercepts would round small scores away.
                target.put(fold, here.double() + parameters[-1].double())
                self.progress(1)

    def _find_obstacle(self, fit: _Fit) -> str:
        """Why a target cannot be fitted on these rows; empty if it can."""
        target, trained = self.targets[fit.target], self.values[self.masks[:, fit.mask], fit.target]
        if len(trained) == 0:
            return "no training samples"
        if target.loss == "logistic" and (found := int(trained.sum())) in {0, len(trained)}:
            return f"{found} of {len(trained)} training samples are positive"
        if target.loss == "multinomial" and len(torch.unique(trained)) < target.n_classes:
            return "a class has no training sample"
        return ""

    def _batch(self, shared: Shared, fits: Sequence[_Fit], c: Floats, tolerance: float) -> Batch:
        numbers, masks = (
            torch.tensor([fit[k] for fit in fits], device=self.device) for k in (0, 1)
        )
        design, loss, n_classes = shared.design, self.targets[0].loss, self.targets[0].n_classes
        batch = Batch(
            design,
            loss,
            n_classes=n_classes,
            all_targets=self.values,
            target_columns=numbers,
            masks=self.masks,
            folds=masks,
            penalty_strength=torch.from_numpy(1 / c).to(self.device),
            penalty_weights=shared.penalty_weights,
            tolerance=tolerance,
            row_segments=self.row_segments,
            sample_weight=self.sample_weight,
            fit_intercept=self.options.fit_intercept,
        )
        if self.options.class_weight is None or loss == "squared":
            return batch
        return replace(batch, class_weight=class_weights(batch, self.options.class_weight))

    def _follow_path(self, outer: Sequence[_Fit]) -> tuple[Floats, Tensor | None]:
        """C of each outer fit, NaN and refused if it cannot be chosen; where to start."""
        place = {(fit.target, *fit.tests): i for i, fit in enumerate(outer)}
        inner = []
        for number, target in enumerate(self.targets):
            for mask, held in self.inner[target.problem]:
                if all((number, k) in place for k in held):
                    fit = _Fit(number, mask, {place[number, k]: rows for k, rows in held.items()})
                    inner += [] if self._find_obstacle(fit) else [fit]
        inner.sort(key=lambda fit: self.order[fit.mask])
        warm, groups = None, []
        if self.designs.design is not None:
            size = self.designs.width + 1, len(outer) * self.targets[0].n_classes
            warm = self.values.new_zeros(size, dtype=self.designs.dtype)
        for shared in self.designs.of(self.masks, [fit.mask for fit in inner]):
            fits = [inner[i] for i in shared.places]
            batch = self._batch(shared, fits, np.ones(len(fits)), PATH_TOLERANCE)
            served = [(i, *pair) for i, fit in enumerate(fits) for pair in fit.tests.items()]
            served.sort(key=lambda one: self.order[one[2]])
            numbers = torch.tensor(served, device=self.device)
            groups.append(InnerFits(batch, initial_parameters(batch), numbers))
        c = choose_c(groups, self.options.c, len(outer), warm, self._solve).cpu().numpy()
        has_inner = {i for fit in inner for i in fit.tests}
        for i in np.flatnonzero(np.isnan(c)).tolist():
            reason = NO_INNER_FIT if i in has_inner else NO_INNER_FOLD
            self._refuse(outer[i], reason, unfittable=i not in has_inner)
        return c, warm


def plan_columns(
    n_rows: int, width: int, dtype: torch.dtype, memory_bytes: int, column_bytes: int = 0
) -> int:
    """How many columns of a design may be solved together; at least 1, whatever the limit.

    `memory_bytes` are what is left beside matrices, `column_bytes` what each column takes besides.
    """
    n_width_tensors = WIDTH_TENSORS + 2 * N_PAIRS[dtype]
    each = dtype.itemsize * (ROW_TENSORS * n_rows + n_width_tensors * width) + column_bytes
    return max(memory_bytes // each, 1)

"""Fits the units of one group in every fold of their problems."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes import TEST, TRAIN
from genebench.probes.linear.batches import Batch, Runs, columns_of, move_to, start_point
from genebench.probes.linear.designs import Design
from genebench.probes.linear.groups import Group, InnerFold, inner_folds
from genebench.probes.linear.losses import LOSSES, Loss
from genebench.probes.linear.newton import Solution, solve
from genebench.probes.linear.paths import PATH_TOLERANCE, Choice, Walk
from genebench.probes.linear.settings import Settings, plan_columns
from genebench.probes.linear.sources import Source
from genebench.probes.linear.threads import solve_together
from genebench.probes.linear.units import Fitted, System, Unit


class Fitter:
    """Fits units of one group.

    Args:
        group: Its problems.
        source: Its designs.
        path: Rising values of C; one value is used as it is.
        n_inner: Inner folds for each outer one.
        seed: Of inner folds that must be shuffled.
        settings: Tolerances and precision.
    """

    def __init__(
        self,
        group: Group,
        source: Source,
        path: Sequence[float],
        n_inner: int,
        seed: int,
        settings: Settings,
    ) -> None:
        self.group, self.source, self.path, self.settings = group, source, path, settings
        is_own = source.dtype == torch.float64
        self.tolerance = settings.own_tolerance if is_own else settings.tolerance
        masks: list[npt.NDArray[np.bool_]] = []
        self.outer: list[list[int]] = []
        self.inner: list[list[tuple[int, dict[int, int]]]] = []

        def add(samples: npt.NDArray[np.bool_], at: npt.NDArray[np.int64]) -> int:
            mask = np.zeros(len(group.rows), dtype=bool)
            mask[at[samples]] = True
            masks.append(mask)
            return len(masks) - 1

        for problem, at in zip(group.problems, group.at, strict=True):
            self.outer.append([add(fold == TRAIN, at) for fold in problem.split.T])
            folds: list[InnerFold] = []
            if len(path) > 1:
                folds = inner_folds(problem.split, n_inner, seed)
            self.inner.append(
                [
                    (add(f.train, at), {k: add(rows, at) for k, rows in f.held.items()})
                    for f in folds
                ]
            )
        self.masks = torch.from_numpy(np.stack(masks)).to(source.device).T.contiguous()
        trained = [self.masks[run].any(dim=0) for run in group.runs]
        self.runs = Runs(group.runs, torch.stack(trained))

    def blocks(self, units: Sequence[Unit], n_columns: int) -> Iterator[list[Unit]]:
        """Units in blocks of at most this many columns, one unit at least."""
        block: list[Unit] = []
        columns = 0
        for unit in units:
            systems = max(len(self.outer[unit.problem]), len(self.inner[unit.problem]))
            needed = systems * unit.targets.shape[1]
            if block and columns + needed > n_columns:
                yield block
                block, columns = [], 0
            block.append(unit)
            columns += needed
        if block:
            yield block

    def fit(self, units: Sequence[Unit]) -> Iterator[Fitted]:
        """Fit units of one shape in every fold of their problems."""
        loss = LOSSES[units[0].loss]
        targets = torch.from_numpy(np.stack([unit.targets for unit in units], axis=1))
        targets = targets.to(self.source.device)
        systems: list[System] = []
        folds: list[int] = []
        for number, unit in enumerate(units):
            for fold, mask in enumerate(self.outer[unit.problem]):
                if reason := self._find_obstacle(loss, targets, number, mask):
                    yield Fitted(number, fold, None, reason, np.inf, np.nan, 0)
                else:
                    systems.append(System(number, mask))
                    folds.append(fold)
        if not systems:
            return
        c = np.full(len(systems), self.path[0])
        warm: tuple[Tensor, Tensor] | None = None
        if len(self.path) > 1:
            choice = self._choose(loss, targets, units, systems, folds)
            c, warm = choice.c.cpu().numpy(), choice.warm
        for design, scales, places in self.source.cells(self.masks, [s.mask for s in systems]):
            here = [systems[place] for place in places]
            batch = self._batch(design, scales, loss, targets, here, c[places], self.tolerance)
            if warm is None:
                start = start_point(batch)
            else:
                at = torch.tensor(places, device=self.source.device)
                columns = columns_of(at, batch.n_classes)
                start = move_to(batch, warm[0][:, columns], warm[1][columns])
            solution = solve_together(batch, start)
            if not bool(solution.converged.all()):
                _polish(batch, solution, self.settings.memory_bytes)
            # Without the intercept, beside which float32 would round small scores away.
            solution.point.values.copy_(design.multiply(solution.point.coefficients))
            for number, place in enumerate(places):
                problem = units[systems[place].unit].problem
                yield self._read(
                    solution, batch, number, problem, systems[place].unit, folds[place], c[place]
                )

    def _read(
        self,
        solution: Solution,
        batch: Batch,
        number: int,
        problem: int,
        unit: int,
        fold: int,
        c: float,
    ) -> Fitted:
        """What one system says of the rows held out of it."""
        norm, n_steps = float(solution.gradient_norm[number]), int(solution.n_steps[number])
        if not bool(solution.converged[number]):
            reason = (
                f"did not converge: gradient norm {norm:.1e}, tolerance {batch.tolerance:.0e}, "
                f"after {n_steps} Newton steps"
            )
            return Fitted(unit, fold, None, reason, norm, c, n_steps)
        test = self.group.problems[problem].split[:, fold] == TEST
        rows = torch.from_numpy(self.group.at[problem][test]).to(self.source.device)
        columns = slice(number * batch.n_classes, (number + 1) * batch.n_classes)
        values = solution.point.values[rows, columns].double()
        values += solution.point.intercepts[columns].double()
        return Fitted(unit, fold, values.cpu().numpy(), "", norm, c, n_steps)

    def _find_obstacle(self, loss: Loss, targets: Tensor, unit: int, mask: int) -> str:
        """Why a unit cannot be fitted on these rows; empty if it can."""
        rows = targets[self.masks[:, mask], unit]
        if len(rows) == 0:
            return "no training samples"
        if loss.name == "logistic":
            found = int(rows.sum())
            if found in {0, len(rows)}:
                return f"{found} of {len(rows)} training samples are positive"
        if loss.name == "multinomial" and bool((rows.sum(dim=0) == 0).any()):
            return "a class has no training sample"
        return ""

    def _batch(
        self,
        design: Design,
        scales: Tensor | None,
        loss: Loss,
        targets: Tensor,
        systems: Sequence[System],
        c: npt.NDArray[np.float64],
        tolerance: float,
    ) -> Batch:
        device = self.source.device
        return Batch(
            design,
            loss,
            n_classes=targets.shape[2],
            outcomes=targets.flatten(1),
            units=torch.tensor([system.unit for system in systems], device=device),
            masks=self.masks,
            folds=torch.tensor([system.mask for system in systems], device=device),
            strength=torch.from_numpy(1 / c).to(device),
            scales=scales,
            tolerance=tolerance,
            runs=self.runs,
        )

    def _choose(
        self,
        loss: Loss,
        targets: Tensor,
        units: Sequence[Unit],
        outer: Sequence[System],
        folds: Sequence[int],
    ) -> Choice:
        """Set the inner systems of these outer ones up, and let them walk."""
        place = {(s.unit, fold): i for i, (s, fold) in enumerate(zip(outer, folds, strict=True))}
        inner = [
            System(number, mask, tuple((place[number, k], rows) for k, rows in held.items()))
            for number, unit in enumerate(units)
            for mask, held in self.inner[unit.problem]
            if not self._find_obstacle(loss, targets, number, mask)
            and all((number, k) in place for k in held)
        ]
        warm = None
        if self.source.is_shared:
            zeros = targets.new_zeros(
                self.source.width + 1, len(outer) * targets.shape[2], dtype=self.source.dtype
            )
            warm = zeros[:-1], zeros[-1]
        choice = Choice(len(outer), self.path, self.masks, warm)
        walks = []
        if inner:
            for design, scales, places in self.source.cells(self.masks, [s.mask for s in inner]):
                here = [inner[p] for p in places]
                first = np.full(len(here), self.path[0])
                batch = self._batch(design, scales, loss, targets, here, first, PATH_TOLERANCE)
                walks.append(Walk(batch, start_point(batch), here))
            choice.walk(walks)
        return choice


def _polish(batch: Batch, rough: Solution, memory_bytes: int) -> None:
    """Finish in float64, in place, the systems that float32 could not bring to the tolerance."""
    if batch.dtype == torch.float64:
        return
    point, design = rough.point, batch.design.double()
    columns_at_once = plan_columns(design.n_rows, design.width, 8, 0, memory_bytes // 3)
    at_once = max(columns_at_once // batch.n_classes, 1)
    for part in torch.split((~rough.converged).nonzero().flatten(), at_once):
        columns = columns_of(part, batch.n_classes)
        some = batch.take(part)
        some = replace(
            some,
            design=design,
            scales=None if some.scales is None else some.scales.double(),
        )
        start = move_to(
            some, point.coefficients[:, columns].double(), point.intercepts[columns].double()
        )
        solution = solve(some, start)
        rough.gradient_norm[part], rough.converged[part] = (
            solution.gradient_norm,
            solution.converged,
        )
        rough.n_steps[part] += solution.n_steps
        dtype = point.values.dtype
        point.coefficients[:, columns] = solution.point.coefficients.to(dtype)
        point.intercepts[columns] = solution.point.intercepts.to(dtype)

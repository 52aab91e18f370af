"""Fits all labels of one group of problems in every fold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.declaration import TEST, TRAIN
from genebench.probes.linear.batches import Batch, find_start
from genebench.probes.linear.designs import Design
from genebench.probes.linear.groups import Group, InnerFold, inner_folds
from genebench.probes.linear.losses import LOSSES, Loss
from genebench.probes.linear.newton import Solution, polish
from genebench.probes.linear.parts import Pair, Runs, columns_of
from genebench.probes.linear.passes import Forward
from genebench.probes.linear.paths import PATH_TOLERANCE, Choice, Walk
from genebench.probes.linear.solver_settings import SolverSettings
from genebench.probes.linear.sources import DesignSource
from genebench.probes.linear.threads import solve_together
from genebench.probes.linear.units import Fitted, System, Unit

# Products of fewer numbers are done sooner than rows are told apart by who trains on them.
WORTH_PARTS = 1 << 30

NO_CHOICE = "C cannot be chosen: in every inner fold a class is missing or a fit did not converge"


@dataclass(frozen=True)
class Outcomes:
    """What units of one shape predict.

    Attributes:
        loss: Theirs.
        n_classes: Columns of one fit.
        targets: (n, units), of classes their numbers.
    """

    loss: Loss
    n_classes: int
    targets: Tensor


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
        source: DesignSource,
        path: Sequence[float],
        n_inner: int,
        seed: int,
        settings: SolverSettings,
    ) -> None:
        self.group, self.source, self.path, self.settings = group, source, path, settings
        is_own = source.dtype == torch.float64
        self.tolerance = settings.own_tolerance if is_own else settings.tolerance
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
            if len(path) > 1:
                folds = inner_folds(problem.split, n_inner, seed)
            self.inner.append(
                [
                    (add(f.train, at), {k: add(rows, at) for k, rows in f.held.items()})
                    for f in folds
                ]
            )
        self.masks = torch.from_numpy(np.stack(masks)).to(source.device).T.contiguous()
        self.runs = Runs.of(group.runs, self.masks)
        self.whole = Runs.of((slice(0, len(group.rows)),), self.masks)

    def blocks(self, units: Sequence[Unit], n_columns: int) -> Iterator[list[Unit]]:
        """Units in blocks of at most this many columns, one unit at least."""
        block: list[Unit] = []
        columns = 0
        for unit in units:
            systems = max(len(self.outer[unit.problem]), len(self.inner[unit.problem]))
            needed = systems * unit.n_classes
            if block and columns + needed > n_columns:
                yield block
                block, columns = [], 0
            block.append(unit)
            columns += needed
        if block:
            yield block

    def fit(self, units: Sequence[Unit]) -> Iterator[Fitted]:
        """Fit units of one shape in every fold of their problems."""
        targets = torch.from_numpy(np.stack([unit.targets for unit in units], axis=1))
        outcomes = Outcomes(
            LOSSES[units[0].loss], units[0].n_classes, targets.to(self.source.device)
        )
        systems: list[System] = []
        folds: list[int] = []
        for number, unit in enumerate(units):
            for fold, mask in enumerate(self.outer[unit.problem]):
                if reason := self._find_obstacle(outcomes, number, mask):
                    yield Fitted(number, fold, None, reason, np.inf, np.nan, 0)
                else:
                    systems.append(System(number, mask))
                    folds.append(fold)
        c = np.full(len(systems), self.path[0])
        warm: Pair | None = None
        if systems and len(self.path) > 1:
            choice = self._choose(outcomes, units, systems, folds)
            is_known = choice.best.isfinite()
            for at in (~is_known).nonzero().flatten().tolist():
                yield Fitted(systems[at].unit, folds[at], None, NO_CHOICE, np.inf, np.nan, 0)
            kept = is_known.nonzero().flatten()
            systems, folds = (
                [systems[at] for at in kept.tolist()],
                [folds[at] for at in kept.tolist()],
            )
            c, warm = choice.take(kept, outcomes.n_classes)
        if systems:
            yield from self._fit_systems(outcomes, units, systems, folds, c, warm)

    def _fit_systems(
        self,
        outcomes: Outcomes,
        units: Sequence[Unit],
        systems: Sequence[System],
        folds: Sequence[int],
        c: npt.NDArray[np.float64],
        warm: Pair | None,
    ) -> Iterator[Fitted]:
        """Fit systems, each in a fold and with a C, from where the path has ended if it has."""
        for design, scales, places in self.source.cells(self.masks, [s.mask for s in systems]):
            here = [systems[place] for place in places]
            batch = self._batch(design, scales, outcomes, here, c[places], self.tolerance)
            if warm is None:
                start = find_start(batch)
            else:
                columns = columns_of(torch.tensor(places, device=warm[1].device), batch.n_classes)
                start = warm[0][:, columns], warm[1][columns]
            solution = solve_together(batch, start)
            finished = polish(batch, solution, self.settings.memory_bytes)
            problems = [units[system.unit].problem for system in here]
            tested = torch.tensor(
                [self.tested[p][folds[at]] for p, at in zip(problems, places, strict=True)],
                device=batch.folds.device,
            )
            rows = [self._test_rows(p, folds[at]) for p, at in zip(problems, places, strict=True)]
            scores = _predict(batch, solution.pair, tested, rows)
            # What float64 has finished is predicted in float64 too.
            for part in finished:
                numbers = part.systems.tolist()
                exact = _predict(
                    part.batch, part.pair, tested[part.systems], [rows[i] for i in numbers]
                )
                for number, values in zip(numbers, exact, strict=True):
                    scores[number] = values
            for number, place in enumerate(places):
                yield _read(
                    solution,
                    number,
                    scores[number],
                    batch.tolerance,
                    (systems[place].unit, folds[place]),
                    c[place],
                )

    def _test_rows(self, problem: int, fold: int) -> Tensor:
        """Rows of the group that a problem holds out in a fold, in the order of its samples."""
        test = self.group.problems[problem].split[:, fold] == TEST
        return torch.from_numpy(self.group.at[problem][test]).to(self.source.device)

    def _find_obstacle(self, outcomes: Outcomes, unit: int, mask: int) -> str:
        """Why a unit cannot be fitted on these rows; empty if it can."""
        rows = outcomes.targets[self.masks[:, mask], unit]
        if len(rows) == 0:
            return "no training samples"
        if outcomes.loss.name == "logistic":
            found = int(rows.sum())
            if found in {0, len(rows)}:
                return f"{found} of {len(rows)} training samples are positive"
        if outcomes.loss.name == "multinomial" and len(torch.unique(rows)) < outcomes.n_classes:
            return "a class has no training sample"
        return ""

    def _batch(
        self,
        design: Design,
        scales: Tensor | None,
        outcomes: Outcomes,
        systems: Sequence[System],
        c: npt.NDArray[np.float64],
        tolerance: float,
    ) -> Batch:
        device = self.source.device
        n_columns = len(systems) * outcomes.n_classes
        is_long = design.n_rows * design.width * n_columns >= WORTH_PARTS
        return Batch(
            design,
            outcomes.loss,
            n_classes=outcomes.n_classes,
            outcomes=outcomes.targets,
            units=torch.tensor([system.unit for system in systems], device=device),
            masks=self.masks,
            folds=torch.tensor([system.mask for system in systems], device=device),
            strength=torch.from_numpy(1 / c).to(device),
            scales=scales,
            tolerance=tolerance,
            runs=self.runs if is_long and design.is_dense else self.whole,
        )

    def _choose(
        self,
        outcomes: Outcomes,
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
            if not self._find_obstacle(outcomes, number, mask)
            and all((number, k) in place for k in held)
        ]
        warm = None
        if self.source.is_shared:
            size = self.source.width + 1, len(outer) * outcomes.n_classes
            zeros = outcomes.targets.new_zeros(size, dtype=self.source.dtype)
            warm = zeros[:-1], zeros[-1]
        choice = Choice(len(outer), self.path, self.masks, warm, self.settings.memory_bytes)
        walks = []
        if inner:
            for design, scales, places in self.source.cells(self.masks, [s.mask for s in inner]):
                here = [inner[p] for p in places]
                first = np.full(len(here), self.path[0])
                batch = self._batch(design, scales, outcomes, here, first, PATH_TOLERANCE)
                walks.append(Walk(batch, find_start(batch), here))
            choice.walk(walks)
        return choice


def _predict(batch: Batch, pair: Pair, tested: Tensor, rows: Sequence[Tensor]) -> list[Tensor]:
    """(test rows, classes) float64 scores of each system.

    The intercepts are added in float64: beside them float32 would round small scores away.

    Args:
        batch: The systems.
        pair: Where they ended.
        tested: (systems,) the mask of each one's test rows.
        rows: The same rows of each system, in the order of its problem.
    """
    coefficients, intercepts = pair
    values = coefficients.new_empty(batch.design.n_rows, batch.n_columns)
    forward = Forward((coefficients, torch.zeros_like(intercepts)), batch.design)
    for block in replace(batch, folds=tested).blocks():
        values[block.rows].index_copy_(1, block.part.columns, forward.rows(block))
    size = batch.n_classes
    columns = [slice(i * size, (i + 1) * size) for i in range(batch.n_systems)]
    return [
        values[at, own].double() + intercepts[own].double()
        for at, own in zip(rows, columns, strict=True)
    ]


def _read(
    solution: Solution,
    number: int,
    scores: Tensor,
    tolerance: float,
    place: tuple[int, int],
    c: float,
) -> Fitted:
    """What one system says of the rows held out of it; its place is a unit and a fold."""
    norm, n_steps = float(solution.gradient_norm[number]), int(solution.n_steps[number])
    if not bool(solution.converged[number]):
        reason = (
            f"did not converge: gradient norm {norm:.1e}, tolerance {tolerance:.0e}, "
            f"after {n_steps} Newton steps"
        )
        return Fitted(*place, None, reason, norm, c, n_steps)
    return Fitted(*place, scores.cpu().numpy(), "", norm, c, n_steps)

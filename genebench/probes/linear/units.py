"""Targets of the fits: a task, or one label of a multi-label task."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import Kind, Problem
from genebench.probes.linear.groups import Group
from genebench.probes.linear.losses import LossName

LOSS_OF: dict[Kind, LossName] = {
    "binary": "logistic",
    "multilabel": "logistic",
    "multiclass": "multinomial",
    "regression": "squared",
}


@dataclass(frozen=True)
class Unit:
    """What is fitted once for each fold: a task, or one label of it.

    Attributes:
        problem: Its number in the group.
        label: Its column of a multi-label task, 0 otherwise.
        loss: Its loss.
        n_classes: Columns of one fit.
        targets: (n,) on the rows of the group, of classes their numbers; 0 on others' rows.
    """

    problem: int
    label: int
    loss: LossName
    n_classes: int
    targets: npt.NDArray[np.floating[Any]]

    @property
    def shape(self) -> tuple[LossName, int]:
        """Units of one shape can be solved in one batch."""
        return self.loss, self.n_classes


@dataclass(frozen=True)
class System:
    """One unit on one set of training rows.

    Attributes:
        unit: Number of the unit in its block.
        mask: Number of the mask of its training rows.
        held: What an inner system is for: pairs of an outer system and the mask of those of its
            training rows that are held out here.
    """

    unit: int
    mask: int
    held: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Fitted:
    """Where one unit ended in one fold.

    Attributes:
        unit: Number of the unit in its block.
        fold: Number of the fold.
        values: (test rows, classes) float64; None if there is a reason.
        reason: Why nothing could be fitted; empty otherwise.
        gradient_norm: Reached.
        c: Used.
        n_iterations: Newton steps.
    """

    unit: int
    fold: int
    values: npt.NDArray[np.float64] | None
    reason: str
    gradient_norm: float
    c: float
    n_iterations: int


def units_of(group: Group) -> Iterator[Unit]:
    """The units of a group's problems; numbers to predict are at mean 0 and deviation 1."""
    n = len(group.rows)
    for number, (problem, at) in enumerate(zip(group.problems, group.at, strict=True)):
        loss, n_classes = LOSS_OF[problem.kind], 1
        if problem.kind == "multiclass" and problem.n_columns == 2:
            # A softmax of two classes would have half the penalty of scikit-learn's one column.
            loss = "logistic"
        elif problem.kind == "multiclass":
            n_classes = problem.n_columns
        for label, targets in enumerate(_unit_targets(problem)):
            dtype = np.float64 if loss == "squared" else np.float32
            wide: npt.NDArray[np.floating[Any]] = np.zeros(n, dtype)
            wide[at] = targets
            yield Unit(number, label, loss, n_classes, wide)


def _unit_targets(problem: Problem) -> Iterator[npt.NDArray[Any]]:
    if problem.kind == "multilabel":
        yield from problem.targets.T
    elif problem.kind == "regression":
        center, scale = scale_of(problem)
        yield (problem.targets - center) / scale
    else:
        yield problem.targets


def scale_of(problem: Problem) -> tuple[float, float]:
    """Mean and standard deviation of the numbers a regression problem predicts; else 0 and 1."""
    if problem.kind != "regression":
        return 0.0, 1.0
    deviation = float(problem.targets.std())
    return float(problem.targets.mean()), deviation if deviation > 0 else 1.0

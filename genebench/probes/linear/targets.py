"""Target columns, subproblems, and results of fits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.linear.losses import LossName
from genebench.probes.linear.problem_groups import Group
from genebench.probes.problem import Kind, Problem

Floats = npt.NDArray[np.float64]

LOSS_OF: dict[Kind, LossName] = {
    "binary": "logistic",
    "multilabel": "logistic",
    "multiclass": "multinomial",
    "regression": "squared",
}


@dataclass(frozen=True)
class TargetColumn:
    """What is fitted once for each fold: a problem, or one label of it.

    Attributes:
        problem: Number of the problem in the group.
        label: Its column of a multi-label problem, 0 otherwise.
        loss: Its loss.
        n_classes: Columns of one fit.
        targets: (n,) on the rows of the group, class numbers if multinomial; 0 on rows of other
            problems.
    """

    problem: int
    label: int
    loss: LossName
    n_classes: int
    targets: npt.NDArray[np.floating[Any]]

    @property
    def shape(self) -> tuple[LossName, int]:
        """Targets of one shape can be solved in one batch."""
        return self.loss, self.n_classes


@dataclass(frozen=True)
class Subproblem:
    """One target on one set of training rows.

    Attributes:
        target: Number of the target column in its block.
        mask: Number of the mask of its training rows.
        held: For an inner subproblem: pairs of an outer subproblem and the mask of those of its
            training rows that are held out here.
    """

    target: int
    mask: int
    held: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class FoldFit:
    """Result of one target in one fold.

    Attributes:
        target: Number of the target column in its block.
        fold: Number of the fold.
        values: (test rows, classes) float64; None if there is a reason.
        reason: Why there is no result; empty otherwise.
        gradient_norm: At the solution.
        c: C that was used.
        n_iterations: Newton steps.
        coefficients: (features, classes) of the original features; None unless asked for.
        intercepts: (classes,); None unless asked for.
    """

    target: int
    fold: int
    values: Floats | None
    reason: str
    gradient_norm: float
    c: float
    n_iterations: int
    coefficients: Floats | None = None
    intercepts: Floats | None = None


def target_columns_of(group: Group, *, center: bool = True) -> Iterator[TargetColumn]:
    """Target columns of a group's problems, scaled by `scale_of`."""
    n = len(group.rows)
    for number, (problem, at) in enumerate(zip(group.problems, group.at, strict=True)):
        loss, n_classes = LOSS_OF[problem.kind], 1
        if problem.kind == "multiclass" and problem.n_columns == 2:
            # A softmax of two classes would have half the penalty of scikit-learn's one column.
            loss = "logistic"
        elif problem.kind == "multiclass":
            n_classes = problem.n_columns
        columns = problem.targets.T if problem.kind == "multilabel" else [problem.targets]
        mean, scale = scale_of(problem, center=center)
        for label, targets in enumerate(columns):
            dtype = np.float64 if loss == "squared" else np.float32
            wide: npt.NDArray[np.floating[Any]] = np.zeros(n, dtype)
            wide[at] = (targets - mean) / scale if loss == "squared" else targets
            yield TargetColumn(number, label, loss, n_classes, wide)


def scale_of(problem: Problem, *, center: bool = True) -> tuple[float, float]:
    """Mean (0 unless centred) and standard deviation of regression targets; else 0 and 1."""
    if problem.kind != "regression":
        return 0.0, 1.0
    deviation = float(problem.targets.std())
    return center * float(problem.targets.mean()), deviation if deviation > 0 else 1.0

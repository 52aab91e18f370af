"""Problems on the same rows as groups of target columns, and the results of their fits."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genebench.probes.linear.batch import LossName
from genebench.probes.linear.solver_settings import Floats
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Problem

# Products of fewer rows than this are slow for their size.
MIN_SEGMENT_ROWS = 512

Numbers = npt.NDArray[np.int64]


class ProblemResult:
    """Results of all folds and columns of one problem; coefficients if it has `n_features`."""

    failure = ""  # why the problem could not be solved
    seconds = 0.0
    solver = ""
    dropped_axes = 0

    def __init__(self, problem: Problem, n_features: int = 0) -> None:
        self.problem, shape = problem, (problem.n_folds, problem.n_columns)
        self.n_fits = problem.n_folds if problem.kind == "multiclass" else math.prod(shape)
        self.coefficients = np.full((*shape, n_features), np.nan)
        self.intercepts = np.full(shape, np.nan)
        tested = [np.flatnonzero(fold == TEST) for fold in problem.split.T]
        self.outputs = [empty_output(rows, problem.n_columns) for rows in tested]

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = () if self.failure else tuple(self.outputs)
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)


def empty_output(rows: Numbers, columns: int) -> FoldOutput:
    """The output of a fold of which nothing is fitted yet."""
    fitted, steps = np.zeros(columns, dtype=bool), np.zeros(columns, dtype=np.int64)
    scores, c = np.full((len(rows), columns), np.nan), np.full(columns, np.nan)
    return FoldOutput(rows, scores, fitted, {}, np.full(columns, np.inf), c, steps)


@dataclass(frozen=True)
class TargetColumn:
    """What is fitted once for each fold: a label of a problem, or all classes of one."""

    problem: int  # number of the problem in the group
    result: ProblemResult  # where its fits are put
    columns: slice  # its columns there
    loss: LossName
    n_classes: int  # columns of one fit
    targets: npt.NDArray[Any]  # (n,), class numbers if multinomial
    center: float = 0.0  # of the numbers that are predicted
    scale: float = 1.0

    def put_steps(self, fold: int, norm: float, c: float, n_steps: int) -> None:
        """Set gradient norm, C and number of steps."""
        output = self.result.outputs[fold]
        output.gradient_norm[self.columns], output.c[self.columns] = norm, c
        output.n_iterations[self.columns] = n_steps

    def refuse(self, fold: int, reason: str, *, unfittable: bool) -> None:
        """Say why a fit has no scores, and whether the training samples do not allow one."""
        reasons = dict.fromkeys(self.result.problem.labels[self.columns], reason)
        self.result.outputs[fold].reasons.update(reasons)  # type: ignore[attr-defined]
        if unfittable:
            self.result.outputs[fold].unfittable.update(reasons)

    def put(self, fold: int, values: Tensor) -> None:
        """Set (test rows, classes) decision values of a fit."""
        output = self.result.outputs[fold]
        output.scores[:, self.columns] = self._both_classes(values) * self.scale + self.center
        output.fitted[self.columns] = True

    def put_coefficients(self, fold: int, weights: Tensor, intercepts: Tensor) -> None:
        """Set (features, classes) coefficients and (classes,) intercepts."""
        own = fold, self.columns
        self.result.coefficients[own] = self._both_classes(weights).T * self.scale
        self.result.intercepts[own] = self._both_classes(intercepts) * self.scale + self.center

    def _both_classes(self, values: Tensor) -> Floats:
        """Of two classes, logits of both, (..., 2), from the log odds of the second, (..., 1)."""
        if self.result.problem.kind == "multiclass" and self.n_classes == 1:
            values = torch.cat([-values / 2, values / 2], dim=-1)
        return values.cpu().numpy()


def target_columns(
    results: Sequence[ProblemResult], *, fit_intercept: bool
) -> Iterator[TargetColumn]:
    """What is fitted for problems; targets of regressions are scaled, and centred by intercepts."""
    for number, result in enumerate(results):
        problem = result.problem
        kind, targets = problem.kind, problem.targets
        loss: LossName = "squared" if kind == "regression" else "logistic"
        n_classes = 1
        # A softmax of two classes would have half the penalty of scikit-learn's one column.
        if kind == "multiclass" and problem.n_columns > 2:
            loss, n_classes = "multinomial", problem.n_columns
        for label, column in enumerate(targets.reshape(len(targets), -1).T):
            own = slice(None) if kind == "multiclass" else slice(label, label + 1)
            center, scale, numbers = 0.0, 1.0, column.astype(np.float32)
            if loss == "squared":
                center, scale = column.mean() * fit_intercept, column.std() or 1.0
                numbers = (column - center) / scale
            yield TargetColumn(number, result, own, loss, n_classes, numbers, center, scale)


@dataclass(frozen=True)
class Group:
    """Problems with the same samples."""

    problems: tuple[Problem, ...]
    rows: Numbers  # (n, positions) rows of the embedding matrix
    order: Numbers  # (n,) the sample of each row
    # Rows that the folds of the widest problem hold out together; one slice if these were short.
    row_segments: tuple[slice, ...]


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


def _sort_rows(problems: Sequence[Problem], float64_rows: int) -> tuple[Numbers, tuple[slice, ...]]:
    """(n,) the sample of each row, and slices of rows that folds hold out together."""
    n = problems[0].n_samples
    if n > float64_rows and problems[0].rows.shape[1] == 1:
        widest = max(problems, key=lambda problem: problem.n_columns)
        _, run, sizes = np.unique(widest.split, axis=0, return_inverse=True, return_counts=True)
        if sizes.mean() >= MIN_SEGMENT_ROWS:
            bounds = pairwise([0, *np.cumsum(sizes).tolist()])
            return np.argsort(run.ravel(), kind="stable"), tuple(slice(*pair) for pair in bounds)
    return np.arange(n), (slice(0, n),)

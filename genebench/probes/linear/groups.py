"""Problems on the same rows as groups of target columns, and the results of their fits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.probes.linear.batch import LossName
from genebench.probes.linear.solver_settings import Floats
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Problem

# Products of fewer rows than this are slow for their size.
MIN_SEGMENT_ROWS = 512

Numbers = npt.NDArray[np.int64]


class ProblemResult:
    """Results of all folds and columns of one problem.

    Args:
        problem: The problem.
        is_centred: Whether the targets of a regression are centred.
    """

    failure = ""  # why the problem could not be solved
    seconds = 0.0
    solver = ""
    dropped_axes = 0

    def __init__(self, problem: Problem, *, is_centred: bool) -> None:
        self.problem, self._center, self._scale = problem, 0.0, 1.0
        if problem.kind == "regression":
            self._center = float(problem.targets.mean()) * is_centred
            self._scale = float(problem.targets.std()) or 1.0
        self.n_fits = problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)
        # By fold and first column: (features, classes) and (classes,), if asked for.
        self.coefficients: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        tested = [np.flatnonzero(fold == TEST) for fold in problem.split.T]
        self.outputs = [empty_output(rows, problem.n_columns) for rows in tested]

    def columns(self, label: int) -> slice:
        """Columns of a target: one label, or all classes."""
        return slice(None) if self.problem.kind == "multiclass" else slice(label, label + 1)

    def scaled_targets(self) -> list[npt.NDArray[Any]]:
        """(n,) targets of each fit, scaled if a regression."""
        targets = self.problem.targets
        if self.problem.kind == "regression":
            return [(targets - self._center) / self._scale]
        return list(targets.T) if self.problem.kind == "multilabel" else [targets]

    def put_steps(self, fold: int, label: int, norm: float, c: float, n_steps: int) -> None:
        """Set gradient norm, C and number of steps."""
        output, columns = self.outputs[fold], self.columns(label)
        output.gradient_norm[columns], output.c[columns] = norm, c
        output.n_iterations[columns] = n_steps

    def refuse(self, fold: int, label: int, reason: str, *, unfittable: bool) -> None:
        """Say why a fit has no scores, and whether the training samples do not allow one."""
        reasons = dict.fromkeys(self.problem.labels[self.columns(label)], reason)
        self.outputs[fold].reasons.update(reasons)  # type: ignore[attr-defined]
        if unfittable:
            self.outputs[fold].unfittable.update(reasons)

    def put(self, fold: int, label: int, values: Floats, coefficients: list[Floats]) -> None:
        """Set (test rows, classes) decision values of a fit.

        `coefficients` are (features, classes) and (classes,) intercepts, or empty.
        """
        values, *coefficients = map(self._both_classes, (values, *coefficients))
        output, columns = self.outputs[fold], self.columns(label)
        output.scores[:, columns] = values * self._scale + self._center
        output.fitted[columns] = True
        if coefficients:
            weights, intercepts = (part * self._scale for part in coefficients)
            self.coefficients[fold, label] = weights, intercepts + self._center

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = () if self.failure else tuple(self.outputs)
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)

    def _both_classes(self, values: Floats) -> Floats:
        """Of two classes, logits of both, (..., 2), from the log odds of the second, (..., 1)."""
        if self.problem.kind != "multiclass" or values.shape[-1] > 1:
            return values
        return np.concatenate([-values / 2, values / 2], axis=-1)


def empty_output(rows: Numbers, columns: int) -> FoldOutput:
    """The output of a fold of which nothing is fitted yet."""
    fitted, steps = np.zeros(columns, dtype=bool), np.zeros(columns, dtype=np.int64)
    scores, c = np.full((len(rows), columns), np.nan), np.full(columns, np.nan)
    return FoldOutput(rows, scores, fitted, {}, np.full(columns, np.inf), c, steps)


@dataclass(frozen=True)
class TargetColumn:
    """What is fitted once for each fold: a problem, or one label of it."""

    problem: int  # number of the problem in the group
    result: ProblemResult  # where its fits are put
    label: int  # its column of a multi-label problem, 0 otherwise
    loss: LossName
    n_classes: int  # columns of one fit
    targets: npt.NDArray[Any]  # (n,) on the rows of the group, class numbers if multinomial


@dataclass(frozen=True)
class Group:
    """Problems with the same samples."""

    problems: tuple[Problem, ...]
    rows: Numbers  # (n, positions) rows of the embedding matrix
    order: Numbers  # (n,) the sample of each row
    # Rows that the folds of the widest problem hold out together; one slice if these were short.
    row_segments: tuple[slice, ...]

    def target_columns(self, results: Sequence[ProblemResult]) -> Iterator[TargetColumn]:
        """Target columns of the problems, whose fits are put into these results."""
        for number, (problem, result) in enumerate(zip(self.problems, results, strict=True)):
            loss: LossName = "squared" if problem.kind == "regression" else "logistic"
            n_classes = 1
            # A softmax of two classes would have half the penalty of scikit-learn's one column.
            if problem.kind == "multiclass" and problem.n_columns > 2:
                loss, n_classes = "multinomial", problem.n_columns
            for label, targets in enumerate(result.scaled_targets()):
                numbers = targets.astype(np.float64 if loss == "squared" else np.float32)
                yield TargetColumn(number, result, label, loss, n_classes, numbers[self.order])


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

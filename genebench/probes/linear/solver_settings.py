"""Settings of the linear engine, what is solved together, and the results of a problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from genebench.probes.linear.batch import LossName
from genebench.probes.linear.operators import Precision
from genebench.probes.linear.ties import Numbers, find_first
from genebench.probes.problem import TEST, FoldOutput, HeldOut, Problem

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SolverSettings:
    """Where and how the engine computes.

    Attributes:
        device: `cpu`, `cuda` or another torch device.
        memory_bytes: Memory limit of matrices and columns; columns are solved in blocks that fit.
        precision: Precision of Hessian products; `auto` is the fastest on this machine.
        tolerance: Gradient norm over the number of training rows at which a column of a large task
            has converged, with features at unit root mean square length.
        float64_tolerance: The same for tasks solved in float64.
        float64_rows: Tasks of up to this many samples are solved in float64.
        float64_rows_standardised: The same where features are standardised.
    """

    device: str = "cpu"
    memory_bytes: int = 6 << 30
    precision: Precision = "auto"
    tolerance: float = 1e-6
    float64_tolerance: float = 1e-10
    float64_rows: int = 3000
    float64_rows_standardised: int = 1000


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
class Group:
    """Problems on one set of rows.

    Attributes:
        problems: At least one; all have the same samples.
        rows: (n, positions) rows of the embedding matrix.
        order: (n,) the sample of each row.
        row_segments: Slices of rows that the folds of the widest problem hold out together; all
            rows in one slice if these would be short.
    """

    problems: tuple[Problem, ...]
    rows: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    row_segments: tuple[slice, ...]


class ProblemResult:
    """Results of all folds and columns of one problem.

    Args:
        problem: The problem.
        samples: (n,) numbers that are equal where the vectors of samples are; without them there
            are no outputs.
        is_centred: Whether the targets of a regression are centred.

    Attributes:
        failure: Why the problem could not be solved; empty otherwise.
        outputs: One for each fold.
        coefficients: By (fold, first column), (features, classes) and (classes,) arrays of the
            original features and targets, if asked for.
        dropped_axes: See `Prepared`.
    """

    def __init__(
        self, problem: Problem, samples: Numbers | None, *, is_centred: bool = True
    ) -> None:
        self.problem, self.failure, self.seconds, self.solver = problem, "", 0.0, ""
        self.dropped_axes, self._center, self._scale = 0, 0.0, 1.0
        if problem.kind == "regression":
            self._center = float(problem.targets.mean()) * is_centred
            self._scale = float(problem.targets.std()) or 1.0
        self.n_fits = problem.n_folds * (problem.n_columns if problem.kind == "multilabel" else 1)
        self.coefficients: dict[tuple[int, int], tuple[Floats, Floats]] = {}
        self.outputs: list[FoldOutput] = []
        self._first_equal: list[Numbers] = []
        if samples is None:
            return
        for fold in problem.split.T:
            rows, columns = np.flatnonzero(fold == TEST), problem.n_columns
            self._first_equal.append(find_first(samples[rows]))
            self.outputs.append(
                FoldOutput(
                    rows,
                    np.full((len(rows), columns), np.nan),
                    np.zeros(columns, dtype=bool),
                    {},
                    np.full(columns, np.inf),
                    np.full(columns, np.nan),
                    np.zeros(columns, dtype=np.int64),
                )
            )

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
        """Set gradient norm, C and number of Newton steps of a fit."""
        output, columns = self.outputs[fold], self.columns(label)
        output.gradient_norm[columns], output.c[columns] = norm, c
        output.n_iterations[columns] = n_steps

    def refuse(self, fold: int, label: int, reason: str) -> None:
        """Say why a fit has no scores."""
        reasons = dict.fromkeys(self.problem.labels[self.columns(label)], reason)
        self.outputs[fold].reasons.update(reasons)  # type: ignore[attr-defined]

    def put(self, fold: int, label: int, values: Floats, coefficients: list[Floats]) -> None:
        """Set the result of a fit.

        Args:
            fold: Number of the fold.
            label: See `columns`.
            values: (test rows, classes) decision values; equal samples get equal ones.
            coefficients: (features, classes) and (classes,) intercepts, or nothing.
        """
        values, *coefficients = map(self._both_classes, (values, *coefficients))
        output, columns = self.outputs[fold], self.columns(label)
        output.scores[:, columns] = values[self._first_equal[fold]] * self._scale + self._center
        output.fitted[columns] = True
        if coefficients:
            weights, intercepts = (part * self._scale for part in coefficients)
            self.coefficients[fold, label] = weights, intercepts + self._center

    def held_out(self) -> HeldOut:
        """The result as `evaluate` takes it."""
        outputs = tuple(self.outputs)
        return HeldOut(self.problem.id, outputs, self.failure, self.seconds, self.solver)

    def _both_classes(self, values: Floats) -> Floats:
        """Of two classes, logits of both, (..., 2), from the log odds of the second, (..., 1)."""
        if self.problem.kind != "multiclass" or values.shape[-1] > 1:
            return values
        return np.concatenate([-values / 2, values / 2], axis=-1)


@dataclass(frozen=True)
class TargetColumn:
    """What is fitted once for each fold: a problem, or one label of it.

    Attributes:
        problem: Number of the problem in the group.
        result: Where its fits are put.
        label: Its column of a multi-label problem, 0 otherwise.
        loss: Its loss.
        n_classes: Columns of one fit.
        targets: (n,) on the rows of the group, class numbers if multinomial.
    """

    problem: int
    result: ProblemResult
    label: int
    loss: LossName
    n_classes: int
    targets: npt.NDArray[Any]

"""Arrays that pass between `evaluate` and the probes; needs numpy only.

Each engine (`probes.linear`, `probes.scikit_learn`, `probes.incidence`) takes `Problem`s and
returns `HeldOut`s, so `evaluate` works the same with all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["binary", "multiclass", "multilabel", "regression"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel", "regression")

UNUSED, TRAIN, TEST = 0, 1, 2

# A cell of `Problem.later` that no score counts.
NOT_SCORED = 255


@dataclass(frozen=True)
class Problem:
    """One task as arrays: rows of the embedding matrix, targets and folds.

    Attributes:
        id: Id, unique among the problems of one call.
        kind: Kind of the task.
        rows: (n, positions) int64, the row of the embedding matrix for each position of a sample.
        targets: binary (n,) of 0 and 1, 1 the positive class; multilabel (n, labels) of 0 and 1;
            multiclass (n,) int64 codes into `labels`; regression (n,) float64.
        labels: Names of the classes or labels; (positive,) if binary, ("value",) if regression.
        split: (n, folds) int8 of UNUSED, TRAIN and TEST.
        later: For a multi-label problem that trains on earlier labels, (n, labels) uint8: what
            held-out samples are scored against, 0, 1 or NOT_SCORED. None if `targets` are.

    Raises:
        ValueError: Shapes do not agree, or targets are not as the kind needs them.
    """

    id: str
    kind: Kind
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]
    split: npt.NDArray[np.int8]
    later: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        n = len(self.targets)
        if self.rows.ndim != 2 or self.split.ndim != 2:
            raise ValueError(f"problem {self.id!r}: rows and split must have two dimensions")
        if len(self.rows) != n or len(self.split) != n:
            raise ValueError(
                f"problem {self.id!r}: {len(self.rows)} rows, {n} targets and a split of "
                f"{len(self.split)}; they must agree"
            )
        if self.later is not None and (
            self.kind != "multilabel" or self.later.shape != self.targets.shape
        ):
            raise ValueError(
                f"problem {self.id!r}: later labels need a multilabel problem and its shape"
            )
        if self.kind in ("binary", "multilabel"):
            if not np.isin(self.targets, (0, 1)).all():
                raise ValueError(
                    f"problem {self.id!r}: {self.kind} targets must be 0 or 1; "
                    "write 1 for the positive class and 0 for the other"
                )
        elif self.kind == "multiclass":
            if n and not (self.targets.min() >= 0 and self.targets.max() < len(self.labels)):
                raise ValueError(
                    f"problem {self.id!r}: multiclass targets must be positions in its "
                    f"{len(self.labels)} labels, from 0"
                )
        elif not np.isfinite(self.targets).all():
            raise ValueError(f"problem {self.id!r}: regression targets must be finite")

    def truth(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What some held-out samples are scored against: rows of `later` or of `targets`."""
        found: npt.NDArray[Any] = (self.targets if self.later is None else self.later)[rows]
        return found

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.targets)

    @property
    def n_folds(self) -> int:
        """Number of folds, including those of repeats."""
        return int(self.split.shape[1])

    @property
    def n_columns(self) -> int:
        """Number of score columns: one per class or label; 1 if binary or regression."""
        return len(self.labels)


def count_outcomes(
    truth: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the positives and the scored rows of each column of a multi-label truth.

    Args:
        truth: (n, labels) of 0, 1 and NOT_SCORED, from `Problem.truth`.
    """
    return (truth == 1).sum(axis=0), (truth != NOT_SCORED).sum(axis=0)


@dataclass(frozen=True)
class FoldOutput:
    """Predictions of a probe for the held-out rows of one fold.

    Attributes:
        rows: (n_test,) int64, positions of the held-out samples in the problem.
        scores: (n_test, columns) float64. Log odds if binary or multilabel (0 is the threshold of
            the hard label), logits if multiclass (their softmax is the probability), the predicted
            value if regression.
        fitted: (columns,) bool, False where a label could not be fitted; ignore its scores.
        reasons: Reason by label, for labels that could not be fitted.
        gradient_norm: (columns,) float64, Euclidean norm of the gradient of the objective at the
            solution, divided by the number of training rows; 0 where the solution is direct or the
            estimator does not report it.
        c: (columns,) float64, inverse penalty strength used; inf without penalty, NaN if unknown.
        n_iterations: (columns,) int64, steps of L-BFGS or `n_iter_` of the estimator; 0 if direct.
        unfittable: Labels of `reasons` that no solver could fit to the training samples, such as
            those that all samples have.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    fitted: npt.NDArray[np.bool_]
    reasons: Mapping[str, str]
    gradient_norm: npt.NDArray[np.float64]
    c: npt.NDArray[np.float64]
    n_iterations: npt.NDArray[np.int64]
    unfittable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class HeldOut:
    """Held-out predictions of one problem, in the order of the folds of its split.

    Attributes:
        problem_id: Id of the problem.
        folds: One output per fold; empty if `failure` is set.
        failure: Why no fold could be fitted; empty otherwise.
        seconds: Wall time of the problem; of problems solved together, its share.
        solver: Solver and precision, such as `lbfgs float32`.
    """

    problem_id: str
    folds: tuple[FoldOutput, ...]
    failure: str
    seconds: float
    solver: str

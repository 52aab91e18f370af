"""What a probe may say, and the arrays that pass between `evaluate` and the probes.

A probe is a simple model fitted on embeddings: an estimator for each kind of task. The rules
around it (folds, scaling, penalty, metrics) are a protocol. Behaviour is in `probes.linear`, the
engine, and `probes.sklearn`, any scikit-learn estimator by name; both take `Problem`s and give
`HeldOut`s, so that `evaluate` does not know which one worked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genebench.digest import digest_json

Kind = Literal["binary", "multiclass", "multilabel", "regression"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "multilabel", "regression")

UNUSED, TRAIN, TEST = 0, 1, 2

Slug = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


@dataclass(frozen=True)
class Problem:
    """One task as arrays: which rows of the embedding matrix, which targets, which folds.

    Attributes:
        id: Unique among the problems given together.
        kind: What the targets are.
        rows: (n, positions) int64, the row of the embedding matrix for each slot of each sample.
        targets: binary (n,) of 0 and 1, 1 the positive class; multilabel (n, labels) of 0 and 1;
            multiclass (n,) int64 codes into `labels`; regression (n,) float64.
        labels: Names of the classes or labels; (positive,) if binary, ("value",) if regression.
        split: (n, folds) int8 of UNUSED, TRAIN and TEST.
    """

    id: str
    kind: Kind
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]
    split: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        n = len(self.targets)
        if self.rows.ndim != 2 or self.split.ndim != 2:
            raise ValueError(f"problem {self.id!r}: rows and split must have two dimensions")
        if len(self.rows) != n or len(self.split) != n:
            raise ValueError(
                f"problem {self.id!r}: {len(self.rows)} rows, {n} targets and a split of "
                f"{len(self.split)}; they must agree"
            )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.targets)

    @property
    def n_folds(self) -> int:
        """Number of folds, those of repeats included."""
        return int(self.split.shape[1])

    @property
    def n_columns(self) -> int:
        """Number of score columns: a class or label each, one if binary or regression."""
        return len(self.labels)


@dataclass(frozen=True)
class FoldOutput:
    """What a probe says about the held-out rows of one fold.

    Attributes:
        rows: (n_test,) int64, positions of the held-out samples in the problem.
        scores: (n_test, columns) float64. Log odds if binary or multilabel (0 is the threshold of
            the hard label), logits if multiclass (their softmax is the probability), the predicted
            value if regression.
        fitted: (columns,) bool, False where a label could not be fitted; its scores mean nothing.
        reasons: Why, for each label that could not be fitted.
        gradient_norm: (columns,) float64, Euclidean norm of the objective's gradient where it
            stopped, over the number of training rows; 0 where the solution is direct or the
            estimator does not tell.
        c: (columns,) float64, the inverse strength of the penalty used; inf if there is none.
        n_iterations: (columns,) int64, Newton steps or the estimator's own count; 0 if direct.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    fitted: npt.NDArray[np.bool_]
    reasons: Mapping[str, str]
    gradient_norm: npt.NDArray[np.float64]
    c: npt.NDArray[np.float64]
    n_iterations: npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """The held-out output of one problem, fold by fold in the order of its split.

    Attributes:
        problem_id: The problem's id.
        folds: One output for each fold; empty if `failure` is set.
        failure: Why nothing could be fitted at all; empty otherwise.
        seconds: The problem's share of the time of the batch it was solved in.
        solver: What did the arithmetic, such as `newton-cg float32`.
    """

    problem_id: str
    folds: tuple[FoldOutput, ...]
    failure: str
    seconds: float
    solver: str


class Estimator(BaseModel):
    """One estimator by name with its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        description="`logistic`, `least_squares` or `ridge` for the engine; for scikit-learn the "
        "path below `sklearn`, such as `ensemble.RandomForestClassifier`",
        min_length=1,
    )
    parameters: dict[str, bool | int | float | str | list[int] | None] = Field(
        default_factory=dict, description="keyword arguments of the estimator"
    )


ENGINE_ESTIMATORS: dict[Kind, tuple[str, ...]] = {
    "binary": ("logistic",),
    "multiclass": ("logistic",),
    "multilabel": ("logistic",),
    "regression": ("least_squares", "ridge"),
}


class Probe(BaseModel):
    """A simple model fitted on embeddings: an estimator for each kind of task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug = Field(description="unique id; never changes")
    title: str = Field(description="what people read")
    description: str = Field(default="", description="one sentence, with the source")
    engine: Literal["linear", "sklearn", "incidence"] = Field(
        description="`linear` solves all labels and folds together; `sklearn` fits one by one; "
        "`incidence` sees which entities a pair has, and no vector"
    )
    binary: Estimator = Field(description="estimator of binary tasks")
    multiclass: Estimator = Field(description="estimator of multiclass tasks")
    multilabel: Estimator = Field(description="estimator of each label of a multi-label task")
    regression: Estimator = Field(description="estimator of regression tasks")

    @model_validator(mode="after")
    def _names_known_estimators(self) -> Self:
        if self.engine == "linear":
            for kind, allowed in ENGINE_ESTIMATORS.items():
                estimator = self.estimator(kind)
                if estimator.name not in allowed:
                    raise ValueError(
                        f"{kind}: the linear engine has {' or '.join(allowed)}, "
                        f"not {estimator.name!r}"
                    )
                if estimator.parameters:
                    raise ValueError(
                        f"{kind}: the linear engine takes no parameters here; C and scaling are "
                        "the protocol's"
                    )
        return self

    def estimator(self, kind: Kind) -> Estimator:
        """The estimator of one kind of task."""
        estimator: Estimator = getattr(self, kind)
        return estimator

    def digest(self) -> str:
        """Digest of what decides the scores; id, title and description do not."""
        return digest_json(self.model_dump(mode="json", exclude={"id", "title", "description"}))

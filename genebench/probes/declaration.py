"""Model of a probe.

A probe names one estimator for each kind of task. Folds, scaling, penalty and metrics belong to the
protocol. The arrays between `evaluate` and the probes are in `problem`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from genebench.digest import digest_json
from genebench.probes.problem import (
    KINDS,
    NOT_SCORED,
    TEST,
    TRAIN,
    UNUSED,
    FoldOutput,
    HeldOut,
    Kind,
    Problem,
    count_outcomes,
)

__all__ = [
    "KINDS",
    "NOT_SCORED",
    "TEST",
    "TRAIN",
    "UNUSED",
    "Estimator",
    "FoldOutput",
    "HeldOut",
    "Kind",
    "Probe",
    "Problem",
    "Slug",
    "count_outcomes",
]

Slug = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Estimator(BaseModel):
    """An estimator: its name and its parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        description="linear engine: `logistic`, `least_squares` or `ridge`; scikit-learn: import "
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
    """A simple model that is fitted to embeddings: one estimator for each kind of task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug = Field(description="unique id; never changes")
    title: str = Field(description="display name")
    description: str = Field(default="", description="one sentence, with the source")
    engine: Literal["linear", "sklearn", "incidence"] = Field(
        description="`linear` fits all labels and folds together; `sklearn` fits them one by one; "
        "`incidence` uses which entities a pair has, and no vectors"
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
                        f"{kind}: no estimator {estimator.name!r} in the linear engine; "
                        f"use {' or '.join(allowed)}"
                    )
                if estimator.parameters:
                    raise ValueError(
                        f"{kind}: the linear engine takes no parameters; set C and scaling in the "
                        "protocol"
                    )
        return self

    def estimator(self, kind: Kind) -> Estimator:
        """The estimator of one kind of task."""
        estimator: Estimator = getattr(self, kind)
        return estimator

    def digest(self) -> str:
        """Digest of all fields that affect scores: not id, title and description."""
        return digest_json(self.model_dump(mode="json", exclude={"id", "title", "description"}))

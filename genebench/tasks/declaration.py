"""Declaration of a task, and `LabelledSamples`, the samples and labels of a built task.

Tasks are declared in `tasks/declared/<profile>/<family>.yaml`; the families of the profile `paper`
are its Tables S1 to S5. A recipe (`genebench.tasks.recipes.recipe`) turns raw rows into samples
and labels.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Kind = Literal["binary", "multiclass", "multilabel", "regression"]
Family = Literal[
    "genomic", "regulatory", "localization", "biological", "protein", "temporal", "own"
]

# Its tasks have a column of their own and are in no mean over families.
TEMPORAL = "temporal"

FAMILY_TITLES: dict[str, str] = {
    "genomic": "Genomic properties",
    "regulatory": "Regulatory functions",
    "localization": "Localization",
    "biological": "Biological processes",
    "protein": "Protein properties",
    TEMPORAL: "Temporal (gained later)",
    "own": "User tasks",
}

REGRESSION_LABEL = "value"

SAMPLES_SCHEMA = pl.Schema(
    {
        "sample_id": pl.String,
        "position": pl.Int8,
        "entity_type": pl.String,
        "entity_id": pl.String,
    }
)
LABELS_SCHEMA = pl.Schema({"sample_id": pl.String, "label": pl.String, "value": pl.Float64})

# The column `status` of the labels of a temporal task. Probes are trained on KNOWN labels, and
# tested on samples without them, of which the GAINED ones are positive and UNCONFIRMED ones are
# left out.
KNOWN, GAINED, UNCONFIRMED = "known", "gained", "unconfirmed"
TEMPORAL_LABELS_SCHEMA = pl.Schema([*LABELS_SCHEMA.items(), ("status", pl.String())])


class PaperTask(BaseModel):
    """The task as published in the paper.

    Args:
        task: The published name (Tables S1 to S5).
        size: The published number of rows; None where the paper leaves it blank.
        reason: Why the published number of rows differs although the same file is read.
        figure_family: The family in the paper's Table 1 and figures, where it differs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    size: int | None = None
    reason: str | None = None
    figure_family: str | None = None


class Task(BaseModel):
    """Declaration of one prediction task."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str = Field(
        pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$",
        max_length=100,
        description="a slug that never changes",
    )
    title: str = Field(min_length=1)
    profile: str
    family: Family
    kind: Kind
    entity: tuple[str, ...] = ("gene",)
    source: tuple[str, ...] = Field(min_length=1, description="source files, as `hpa.proteinatlas`")
    recipe: str
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with")
    expand: Literal["binary"] | None = None
    positive: str | None = Field(default=None, description="the positive class of a binary task")
    description: str = ""
    deviation: str | None = Field(
        default=None, description="how and why this departs from the published definition"
    )
    paper: PaperTask | None = None
    superseded_by: str | None = None

    @field_validator("entity", "source", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _kind_fits(self) -> "Task":
        if self.expand and self.kind != "multilabel":
            raise ValueError(f"`expand: binary` is for multilabel tasks, this one is {self.kind}")
        if self.kind == "binary" and not self.positive:
            raise ValueError("a binary task must declare its positive class: `positive: <class>`")
        if self.kind != "binary" and self.positive:
            raise ValueError(f"`positive` is for binary tasks, this one is {self.kind}")
        return self


@dataclass(frozen=True)
class LabelledSamples:
    """The samples and labels of one task, before any restriction to a universe.

    Attributes:
        samples: `SAMPLES_SCHEMA`; one row for each slot of each sample.
        labels: `LABELS_SCHEMA`; binary and multiclass: one row per sample; multilabel: one for
            each label of a sample; regression: one per sample under the label "value". Temporal
            tasks: `TEMPORAL_LABELS_SCHEMA`.
        label_names: All classes or labels; binary: negative, then positive.
        counts: Numbers of source rows used and dropped, by reason: rows, unresolved, ambiguous, ...
    """

    samples: pl.DataFrame
    labels: pl.DataFrame
    label_names: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def slugify(text: str) -> str:
    """Convert a name to a slug: lower case, every run of other characters replaced by one `_`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def subtask_id(task_id: str, label: str) -> str:
    """Return the id of the binary sub-task for one label of a multi-label task."""
    return f"{task_id}__{slugify(label)}"


def parent_task_id(task_id: str) -> str:
    """Return the multi-label task of a sub-task; other ids are returned unchanged.

    The separator `__` occurs in no declared id.
    """
    return task_id.partition("__")[0]


def is_temporal(labels: pl.DataFrame) -> bool:
    """Whether rows of labels are of a temporal task: whether they have a status."""
    return "status" in labels.columns and labels["status"].null_count() < labels.height


def is_in_overall(family: str = "family") -> pl.Expr:
    """Expression: whether the family of a column is in the mean over families."""
    return pl.col(family) != TEMPORAL


def is_subtask() -> pl.Expr:
    """Expression: whether the column `task_id` is a sub-task."""
    return pl.col("task_id").str.contains("__", literal=True)


def parent_task_expr() -> pl.Expr:
    """Expression: `parent_task_id` of the column `task_id`."""
    return pl.col("task_id").str.split("__").list.first()

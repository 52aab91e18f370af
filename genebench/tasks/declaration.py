"""What a task declaration may say, and what building one gives.

A task lives in `tasks/<profile>/<family>.yaml`, so a file is one of the paper's Tables S1 to S5.
How raw rows become samples and labels is said by a recipe (`genebench.tasks.recipes.recipe`).
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Kind = Literal["binary", "multiclass", "multilabel", "regression"]
Family = Literal["genomic", "regulatory", "localization", "biological", "protein", "own"]

FAMILY_TITLES: dict[str, str] = {
    "genomic": "Genomic properties",
    "regulatory": "Regulatory functions",
    "localization": "Localization",
    "biological": "Biological processes",
    "protein": "Protein properties",
    "own": "Own tasks",
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


class PaperTask(BaseModel):
    """Where the task stands in the paper.

    Args:
        task: The published name (Tables S1 to S5).
        size: The published number of rows; None where the paper leaves it blank.
        reason: Why the published number differs where the same file is read.
        figure_family: The family of the paper's Table 1 and figures where it differs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    size: int | None = None
    reason: str | None = None
    figure_family: str | None = None


class Task(BaseModel):
    """One declared prediction problem."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str = Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", description="a slug that never changes")
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
            raise ValueError(
                f"expand: binary derives a sub-task per label, which a {self.kind} task lacks"
            )
        if self.kind == "binary" and not self.positive:
            raise ValueError("a binary task declares its positive class: `positive: <class>`")
        if self.kind != "binary" and self.positive:
            raise ValueError(f"`positive` belongs to binary tasks, this one is {self.kind}")
        return self


@dataclass(frozen=True)
class Labelled:
    """The samples and labels of one task, before any universe.

    Attributes:
        samples: `SAMPLES_SCHEMA`; one row for each slot of each sample.
        labels: `LABELS_SCHEMA`; binary and multiclass: one row per sample; multilabel: one per
            label present; regression: one per sample under the label "value".
        label_names: All classes or labels; binary: negative, then positive.
        counts: What became of the source's rows, by reason: rows, unresolved, ambiguous, ...
    """

    samples: pl.DataFrame
    labels: pl.DataFrame
    label_names: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def slug(text: str) -> str:
    """Write a name as a slug: lower case, runs of anything but letters and digits as one `_`."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def subtask_id(task_id: str, label: str) -> str:
    """Name the binary sub-task that asks for one label of a multi-label task."""
    return f"{task_id}__{slug(label)}"


def whole_task(task_id: str) -> str:
    """The task that a sub-task is of; any other task is itself.

    No declared task has two underscores side by side.
    """
    return task_id.partition("__")[0]


def is_subtask() -> pl.Expr:
    """Whether `task_id` names a sub-task."""
    return pl.col("task_id").str.contains("__", literal=True)


def parent_task() -> pl.Expr:
    """`whole_task` of a column `task_id`."""
    return pl.col("task_id").str.split("__").list.first()

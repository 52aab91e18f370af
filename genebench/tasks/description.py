"""Describes built tasks as rows of `silver.tasks`: one for a task, one for each sub-task."""

import json
from collections.abc import Mapping, Sequence

import polars as pl

from genebench.digest import digest_frame, digest_json
from genebench.errors import GenebenchError
from genebench.tasks.declaration import LabelledSamples, Task, subtask_id

TASKS_SCHEMA = pl.Schema(
    {
        "task_id": pl.String(),
        "profile_id": pl.String(),
        "family": pl.String(),
        "title": pl.String(),
        "kind": pl.String(),
        "entity_types": pl.String(),
        "source": pl.String(),
        "snapshot_id": pl.String(),
        "recipe": pl.String(),
        "parent_task_id": pl.String(),
        "label_names": pl.List(pl.String()),
        "positive": pl.String(),
        "n_samples": pl.Int64(),
        "n_entities": pl.Int64(),
        "n_labels": pl.Int32(),
        "label_density": pl.Float64(),
        "n_smallest_class": pl.Int64(),
        "counts": pl.String(),
        "label_digest": pl.String(),
        "description": pl.String(),
        "superseded_by": pl.String(),
    }
)


def describe_task(
    task: Task, labelled: LabelledSamples, snapshots: Mapping[str, str]
) -> pl.DataFrame:
    """Describe a task as rows of `silver.tasks`, before any restriction to a universe.

    A multi-label task with `expand: binary` adds a row for each label: a binary task with the same
    samples. A release scores it if the label is frequent enough in its universe.

    Args:
        task: The declaration.
        labelled: The samples and labels that its recipe built.
        snapshots: Source file to the snapshot that was read.

    Returns:
        `TASKS_SCHEMA`. label_density is, for multi-label tasks, the share of (sample, label) cells
        that are set; for binary tasks, the share of positive samples; otherwise 1. counts is a
        JSON object: numbers of source rows used and dropped, by reason.

    Raises:
        GenebenchError: The sub-tasks of two labels would have the same id.
    """
    n_samples = labelled.samples["sample_id"].n_unique()
    n_entities = labelled.samples.select("entity_type", "entity_id").n_unique()
    samples_digest = digest_frame(labelled.samples)
    shared = {
        "profile_id": task.profile,
        "family": task.family,
        "entity_types": ",".join(task.entity),
        "source": ",".join(dict.fromkeys(task.source)),
        "snapshot_id": ",".join(snapshots[name] for name in dict.fromkeys(task.source)),
        "recipe": task.recipe,
        "n_samples": n_samples,
        "n_entities": n_entities,
        "counts": json.dumps(labelled.counts),
        "superseded_by": task.superseded_by,
    }
    sizes = dict(labelled.labels.group_by("label").len().iter_rows())
    rows = [
        {
            **shared,
            "task_id": task.id,
            "title": task.title,
            "kind": task.kind,
            "parent_task_id": None,
            "label_names": labelled.label_names,
            "positive": task.positive,
            "n_labels": len(labelled.label_names),
            "label_density": _density(task, sizes, n_samples),
            "n_smallest_class": None if task.kind == "regression" else min(sizes.values()),
            "label_digest": digest_json([samples_digest, digest_frame(labelled.labels)]),
            "description": task.description,
        }
    ]
    if task.expand == "binary":
        _check_subtask_ids(task, labelled.label_names)
        rows += [
            {
                **shared,
                "task_id": subtask_id(task.id, label),
                "title": f"{task.title}: {label}",
                "kind": "binary",
                "parent_task_id": task.id,
                "label_names": [f"not {label}", label],
                "positive": label,
                "n_labels": 2,
                "label_density": sizes[label] / n_samples,
                "n_smallest_class": min(sizes[label], n_samples - sizes[label]),
                "label_digest": digest_json([samples_digest, label, digest_frame(present)]),
                "description": f"Whether a sample of {task.id} has the label {label}.",
            }
            for (label,), present in sorted(
                labelled.labels.partition_by("label", as_dict=True).items()
            )
        ]
    return pl.DataFrame(rows, schema=TASKS_SCHEMA)


def _check_subtask_ids(task: Task, label_names: Sequence[str]) -> None:
    label_of_id: dict[str, str] = {}
    for label in label_names:
        first = label_of_id.setdefault(subtask_id(task.id, label), label)
        if first != label:
            raise GenebenchError(
                f"{task.id}: the labels {first!r} and {label!r} give the same sub-task id "
                f"{subtask_id(task.id, label)}; rename one so that its letters or digits differ, "
                "or remove `expand: binary`"
            )


def _density(task: Task, sizes: Mapping[str, int], n_samples: int) -> float:
    if task.kind == "multilabel":
        return sum(sizes.values()) / (n_samples * len(sizes))
    if task.kind == "binary":
        return sizes[str(task.positive)] / n_samples
    return 1.0


def label_columns(tasks: pl.DataFrame, samples: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Collect the labels of all single-entity tasks by entity, for the `oracle` encoder.

    Args:
        tasks: Rows of `silver.tasks`.
        samples: Rows of `silver.samples`.
        labels: Rows of `silver.labels`.

    Returns:
        entity_type, entity_id, column (`task=label`) and value; absent labels have no row.
    """
    single = tasks.filter(
        pl.col("parent_task_id").is_null() & ~pl.col("entity_types").str.contains(",")
    )
    one_slot = (
        samples.group_by("task_id").agg(pl.col("position").max()).filter(pl.col("position") == 0)
    )
    wanted = single.join(one_slot, on="task_id", how="semi").select("task_id")
    return (
        labels.join(wanted, on="task_id", how="semi")
        .join(
            samples.select("task_id", "sample_id", "entity_type", "entity_id"),
            on=["task_id", "sample_id"],
        )
        .select(
            "entity_type",
            "entity_id",
            pl.concat_str("task_id", "label", separator="=").alias("column"),
            "value",
        )
    )

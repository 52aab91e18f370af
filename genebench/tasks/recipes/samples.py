"""Builds samples and labels from rows of resolved entities and outcomes."""

from collections.abc import Mapping
from typing import Literal

import polars as pl

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import (
    LABELS_SCHEMA,
    REGRESSION_LABEL,
    SAMPLES_SCHEMA,
    LabelledSamples,
    Task,
)
from genebench.tasks.recipes.rows import keep_rows, slot_types


def class_samples(
    task: Task, rows: pl.DataFrame, conflicts: Literal["drop", "first"], counts: dict[str, int]
) -> LabelledSamples:
    """Build samples with one class each from entity_id and value; repeated rows count once.

    Raises:
        DegenerateTask: No row is left, or a binary task does not have two classes.
    """
    rows = rows.select("entity_id", pl.col("value").alias("label"))
    if conflicts == "drop":
        agreed = pl.col("label").n_unique().over("entity_id") == 1
        before = rows["entity_id"].n_unique()
        rows = rows.filter(agreed)
        counts["entities with conflicting rows"] = before - rows["entity_id"].n_unique()
    unique = rows.unique("entity_id", keep="first", maintain_order=True)
    counts["repeated rows"] = rows.height - unique.height
    names = sorted(unique["label"].unique().to_list())
    if task.kind == "binary":
        names = binary_names(task, names)
    return entity_samples(task, unique.with_columns(pl.lit(1.0).alias("value")), names, counts)


def binary_names(task: Task, names: list[str]) -> list[str]:
    """Return the negative class, then the declared positive one.

    Raises:
        DegenerateTask: There are not exactly two classes, or the positive class is not one of
            them.
    """
    if len(names) != 2 or task.positive not in names:
        raise DegenerateTask(
            f"{task.id}: a binary task needs two classes, {task.positive!r} among them; the source "
            f"gives {', '.join(map(repr, names)) or 'none'}"
        )
    negative = next(name for name in names if name != task.positive)
    return [negative, str(task.positive)]


def number_samples(
    task: Task, rows: pl.DataFrame, transform: Literal["none", "log1p"], counts: dict[str, int]
) -> LabelledSamples:
    """Build samples with a number each from entity_id and value: the mean over repeated rows.

    Raises:
        DegenerateTask: No row with a number is left.
    """
    numbers = rows.select("entity_id", pl.col("value").cast(pl.Float64, strict=False))
    numbers = keep_rows(
        numbers, pl.col("value").is_finite().fill_null(False), "without a number", counts
    )
    if transform == "log1p":
        numbers = keep_rows(numbers, pl.col("value") >= 0, "negative numbers", counts)
        numbers = numbers.with_columns(pl.col("value").log1p())
    means = numbers.group_by("entity_id").agg(pl.col("value").mean())
    counts["repeated rows"] = numbers.height - means.height
    means = means.with_columns(pl.lit(REGRESSION_LABEL).alias("label"))
    return entity_samples(task, means, [REGRESSION_LABEL], counts)


def label_set_samples(task: Task, rows: pl.DataFrame, counts: dict[str, int]) -> LabelledSamples:
    """Build multi-label samples from entity_id and label, one row for each label of an entity.

    Raises:
        DegenerateTask: No row is left.
    """
    rows = rows.select("entity_id", "label").unique()
    names = sorted(rows["label"].unique().to_list())
    return entity_samples(task, rows.with_columns(pl.lit(1.0).alias("value")), names, counts)


def flag_samples(
    task: Task, entity_ids: pl.Series, rows: pl.DataFrame, names: list[str], counts: dict[str, int]
) -> LabelledSamples:
    """Build multi-label samples of all given entities, including those without a label.

    Raises:
        DegenerateTask: No entity has a label.
    """
    rows = rows.with_columns(pl.lit(1.0).alias("value"))
    names = [name for name in names if name in set(rows["label"])]
    return entity_samples(task, rows, names, counts, entity_ids)


def entity_samples(
    task: Task,
    rows: pl.DataFrame,
    label_names: list[str],
    counts: dict[str, int],
    entity_ids: pl.Series | None = None,
) -> LabelledSamples:
    """Build samples of one entity each, whose sample_id is the entity_id.

    Args:
        task: The declaration.
        rows: entity_id, label and value.
        label_names: All classes or labels.
        counts: Counts of the source's rows, by reason.
        entity_ids: Entities of the samples; by default those of the rows.

    Raises:
        DegenerateTask: No row is left.
    """
    entity_ids = rows["entity_id"] if entity_ids is None else entity_ids
    if not rows.height:
        raise DegenerateTask(
            f"{task.id}: no usable row in {', '.join(task.source)} ({format_counts(counts)})"
        )
    samples = entity_ids.unique().sort().to_frame("sample_id")
    samples = samples.with_columns(
        pl.lit(0).cast(pl.Int8).alias("position"),
        pl.lit(task.entity[0]).alias("entity_type"),
        pl.col("sample_id").alias("entity_id"),
    )
    labels = rows.select(pl.col("entity_id").alias("sample_id"), "label", "value")
    return LabelledSamples(
        samples.cast(SAMPLES_SCHEMA).select(SAMPLES_SCHEMA.names()),
        labels.cast(LABELS_SCHEMA).sort("sample_id", "label"),
        label_names,
        counts,
    )


def pair_samples(task: Task, rows: pl.DataFrame, counts: dict[str, int]) -> LabelledSamples:
    """Build samples of two entities each, with sample_id `first|second`; repeats get `#2`, `#3`.

    Raises:
        DegenerateTask: No row is left, or a binary task does not have two classes.
    """
    if not rows.height:
        raise DegenerateTask(
            f"{task.id}: no usable pair in {', '.join(task.source)} ({format_counts(counts)})"
        )
    pair = pl.col("first_id") + "|" + pl.col("second_id")
    repeat = pl.int_range(pl.len()).over("first_id", "second_id") + 1
    suffix = pl.when(repeat > 1).then("#" + repeat.cast(pl.String)).otherwise(pl.lit(""))
    rows = rows.sort("first_id", "second_id", "label").with_columns(
        (pair + suffix).alias("sample_id")
    )
    types = slot_types(task)
    slots = [
        rows.select(
            "sample_id",
            pl.lit(position).cast(pl.Int8).alias("position"),
            pl.lit(types[position]).alias("entity_type"),
            pl.col(slot).alias("entity_id"),
        )
        for position, slot in enumerate(("first_id", "second_id"))
    ]
    names = sorted(rows["label"].unique().to_list())
    if task.kind == "binary":
        names = binary_names(task, names)
    return LabelledSamples(
        pl.concat(slots).cast(SAMPLES_SCHEMA).sort("sample_id", "position"),
        rows.select("sample_id", "label", "value").cast(LABELS_SCHEMA),
        names,
        counts,
    )


def format_counts(counts: Mapping[str, int]) -> str:
    """Format counts as text: `rows 12, unresolved 3`."""
    return ", ".join(f"{name} {number}" for name, number in counts.items())

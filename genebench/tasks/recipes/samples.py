"""How rows with an entity and an outcome become the samples and labels of a task."""

from collections.abc import Mapping
from typing import Literal

import polars as pl

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import (
    LABELS_SCHEMA,
    REGRESSION_LABEL,
    SAMPLES_SCHEMA,
    Labelled,
    Task,
)
from genebench.tasks.recipes.rows import keep, slot_types


def class_samples(
    task: Task, rows: pl.DataFrame, conflicts: Literal["drop", "first"], counts: dict[str, int]
) -> Labelled:
    """Samples of entity_id and value, one class each; repeated rows count once.

    Raises:
        DegenerateTask: No row is left, or a binary task has not two classes.
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
    """The negative class, then the declared positive one.

    Raises:
        DegenerateTask: There are not two classes, or the positive one is not among them.
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
) -> Labelled:
    """Samples of entity_id and a number, the mean over repeated rows.

    Raises:
        DegenerateTask: No row with a number is left.
    """
    numbers = rows.select("entity_id", pl.col("value").cast(pl.Float64, strict=False))
    numbers = keep(
        numbers, pl.col("value").is_finite().fill_null(False), "without a number", counts
    )
    if transform == "log1p":
        numbers = keep(numbers, pl.col("value") >= 0, "negative numbers", counts)
        numbers = numbers.with_columns(pl.col("value").log1p())
    means = numbers.group_by("entity_id").agg(pl.col("value").mean())
    counts["repeated rows"] = numbers.height - means.height
    means = means.with_columns(pl.lit(REGRESSION_LABEL).alias("label"))
    return entity_samples(task, means, [REGRESSION_LABEL], counts)


def label_set_samples(task: Task, rows: pl.DataFrame, counts: dict[str, int]) -> Labelled:
    """Samples of entity_id and label, one row a label that is present.

    Raises:
        DegenerateTask: No row is left.
    """
    rows = rows.select("entity_id", "label").unique()
    names = sorted(rows["label"].unique().to_list())
    return entity_samples(task, rows.with_columns(pl.lit(1.0).alias("value")), names, counts)


def flag_samples(
    task: Task, entity_ids: pl.Series, rows: pl.DataFrame, names: list[str], counts: dict[str, int]
) -> Labelled:
    """Samples of all given entities, with the labels of rows of entity_id and label.

    Raises:
        DegenerateTask: There is no entity.
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
) -> Labelled:
    """Lay out samples of one entity each, named by it: of the rows, or of all entities given.

    Raises:
        DegenerateTask: No row is left.
    """
    entity_ids = rows["entity_id"] if entity_ids is None else entity_ids
    if not rows.height:
        raise DegenerateTask(
            f"{task.id}: no row of {', '.join(task.source)} is left ({told(counts)})"
        )
    samples = entity_ids.unique().sort().to_frame("sample_id")
    samples = samples.with_columns(
        pl.lit(0).cast(pl.Int8).alias("position"),
        pl.lit(task.entity[0]).alias("entity_type"),
        pl.col("sample_id").alias("entity_id"),
    )
    labels = rows.select(pl.col("entity_id").alias("sample_id"), "label", "value")
    return Labelled(
        samples.cast(SAMPLES_SCHEMA).select(SAMPLES_SCHEMA.names()),
        labels.cast(LABELS_SCHEMA).sort("sample_id", "label"),
        label_names,
        counts,
    )


def pair_samples(task: Task, rows: pl.DataFrame, counts: dict[str, int]) -> Labelled:
    """Lay out samples of two entities each, named by both; an exact repeat gets `#2`, `#3`.

    Raises:
        DegenerateTask: No row is left, or a binary task has not two classes.
    """
    if not rows.height:
        raise DegenerateTask(
            f"{task.id}: no pair of {', '.join(task.source)} is left ({told(counts)})"
        )
    pair = pl.col("first_id") + "|" + pl.col("second_id")
    again = pl.int_range(pl.len()).over("first_id", "second_id") + 1
    suffix = pl.when(again > 1).then("#" + again.cast(pl.String)).otherwise(pl.lit(""))
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
    return Labelled(
        pl.concat(slots).cast(SAMPLES_SCHEMA).sort("sample_id", "position"),
        rows.select("sample_id", "label", "value").cast(LABELS_SCHEMA),
        names,
        counts,
    )


def told(counts: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {number}" for name, number in counts.items())

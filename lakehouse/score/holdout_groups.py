"""Groups of entities that folds hold out whole: chromosomes, families, whatever a task labels."""

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import LakeError


def group_entities(
    entity_ids: pl.Series, samples: pl.DataFrame, labels: pl.DataFrame, task_id: str
) -> npt.NDArray[np.int64]:
    """Group entities by their labels in a task of single entities.

    Of several labels the rarest counts, which of gene families is the closest; an entity without a
    label is a group by itself.

    Args:
        entity_ids: The entities, each once.
        samples: Rows of `silver.samples`.
        labels: Rows of `silver.labels`.
        task_id: The task whose labels are the groups, such as `chromosome`; the protocol's
            `folds.groups`.

    Returns:
        (entities,) int64 number of each entity's group.

    Raises:
        LakeError: The lake has no such task, or it is a task of pairs.
    """
    mine = samples.filter(pl.col("task_id") == task_id)
    if not mine.height or mine["position"].max():
        known = sorted(samples.filter(pl.col("position") == 0)["task_id"].unique())
        raise LakeError(
            f"folds hold out the groups of {task_id!r}, which is no task of single entities in "
            f"this lake; `folds.groups` names one of {', '.join(known)}, or one of your own "
            "(`genebench curate --task-file`)"
        )
    found = (
        labels.filter(pl.col("task_id") == task_id)
        .join(mine.select("sample_id", "entity_id"), on="sample_id")
        .with_columns(pl.len().over("label").alias("size"))
        .sort("size", "label")
        .unique("entity_id", keep="first", maintain_order=True)
    )
    grouped = pl.DataFrame({"entity_id": entity_ids}).join(
        found.select("entity_id", "label"), on="entity_id", how="left", maintain_order="left"
    )
    alone = pl.concat_str(pl.lit("alone "), "entity_id")
    named = pl.when(pl.col("label").is_null()).then(alone).otherwise("in " + pl.col("label"))
    names = grouped.select(named.alias("name"))["name"].to_numpy().astype(str)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)

"""Groups of entities for grouped cross-validation: each group is held out in one fold."""

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import LakeError
from genebench.protocols.declaration import Protocol
from lakehouse.score.relatives import RELATIVES, read_relatives
from lakehouse.tables.time_travel import Tables


def read_holdout_groups(
    tables: Tables, universe: pl.Series, protocol: Protocol
) -> npt.NDArray[np.int64] | None:
    """Read the group of each entity of a universe for the protocol's grouped cross-validation.

    Args:
        tables: The tables of the lake.
        universe: Entity ids, each once.
        protocol: The protocol; `folds.groups` names the task whose labels are the groups, or is
            `relatives`.

    Returns:
        (entities,) int64 group numbers; None where the protocol does not group its folds.

    Raises:
        LakeError: The lake has no task that `folds.groups` names, or it is a task of pairs.
    """
    if protocol.folds.groups is None:
        return None
    if protocol.folds.groups == RELATIVES:
        return number_groups(universe, read_relatives(tables))
    samples, labels = (tables.table(f"silver.{name}").collect() for name in ("samples", "labels"))
    return group_entities(universe, samples, labels, protocol.folds.groups)


def group_entities(
    entity_ids: pl.Series, samples: pl.DataFrame, labels: pl.DataFrame, task_id: str
) -> npt.NDArray[np.int64]:
    """Group entities by their labels in a single-entity task.

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
    task_samples = samples.filter(pl.col("task_id") == task_id)
    if not task_samples.height or task_samples["position"].max():
        known = sorted(samples.filter(pl.col("position") == 0)["task_id"].unique())
        raise LakeError(
            f"the protocol sets `folds.groups: {task_id}`, but this lake has no single-entity task "
            f"{task_id!r}; name one of {', '.join(known)}, or add a task with "
            "`genebench curate --task-file`"
        )
    own = labels.filter(pl.col("task_id") == task_id)
    return number_groups(
        entity_ids, own.join(task_samples.select("sample_id", "entity_id"), on="sample_id")
    )


def number_groups(entity_ids: pl.Series, labels: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Number the group of each entity.

    An entity with several labels belongs to the group of its rarest label, which among gene
    families is the most specific one. An entity without a label forms a group of its own.

    Args:
        entity_ids: The entities, each once.
        labels: entity_id and label.

    Returns:
        (entities,) int64.
    """
    rarest = (
        labels.with_columns(pl.len().over("label").alias("size"))
        .sort("size", "label")
        .unique("entity_id", keep="first", maintain_order=True)
    )
    grouped = pl.DataFrame({"entity_id": entity_ids}).join(
        rarest.select("entity_id", "label"), on="entity_id", how="left", maintain_order="left"
    )
    alone = pl.concat_str(pl.lit("alone "), "entity_id")
    named = pl.when(pl.col("label").is_null()).then(alone).otherwise("in " + pl.col("label"))
    names = grouped.select(named.alias("name"))["name"].to_numpy().astype(str)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)

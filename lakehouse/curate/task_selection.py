"""Selects tasks of the registry and of the lake by name."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from genebench.errors import LakeError
from genebench.registry.registry import Registry
from lakehouse.tables.delta import Delta
from lakehouse.tables.names import did_you_mean
from lakehouse.tables.time_travel import Tables


def read_task(lake: Tables, task_id: str) -> dict[str, Any]:
    """Read the row of a task in `silver.tasks`.

    Raises:
        LakeError: The lake has no such task; the message suggests the nearest.
    """
    tasks = lake.table("silver.tasks").collect()
    found = tasks.filter(pl.col("task_id") == task_id)
    if tasks.is_empty():
        raise LakeError(
            f"the lake {lake.delta.storage.root} has no tasks yet; run `genebench refresh`, "
            "then `genebench curate`"
        )
    if not found.height:
        raise LakeError(
            f"the lake has no task {task_id!r}{did_you_mean(task_id, tasks['task_id'])}"
        )
    return found.row(0, named=True)


def superseded_tasks(delta: Delta) -> dict[str, str]:
    """The tasks that another task of the lake supersedes, each with its successor."""
    rows = delta.scan("silver.tasks").select("task_id", "superseded_by").collect()
    found = rows.filter(pl.col("superseded_by").is_in(rows["task_id"].implode()))
    return dict(found.iter_rows())


def select_tasks(
    lake: Tables, registry: Registry, patterns: Iterable[str], families: Iterable[str]
) -> list[str]:
    """Select tasks of the registry and of the lake by globs and families.

    The lake may have user tasks that are not declared now. A task that another task of the lake
    supersedes is selected only by its full name, not by a glob.

    Raises:
        RegistryError: A pattern or a family matches no task.
    """
    patterns = list(patterns)
    tasks = lake.table("silver.tasks").filter(pl.col("parent_task_id").is_null())
    curated = dict(tasks.select("task_id", "family").collect().iter_rows())
    hidden = superseded_tasks(lake.delta).keys() - set(patterns)
    chosen = registry.select_tasks(patterns, families, curated)
    return [task for task in chosen if task not in hidden]

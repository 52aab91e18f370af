"""Builds the silver tables from the bronze tables: entities, xrefs, inputs and tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from genebench.cancellation import raise_if_cancelled
from genebench.entities.entity_catalogue import GENE, Catalogue, build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.entities.inputs import catalogue_inputs, source_inputs
from genebench.entities.unresolved import list_unresolved_entities
from genebench.errors import DegenerateTask, GenebenchError
from genebench.registry.registry import Registry
from genebench.tasks.declaration import Task
from genebench.tasks.description import describe_task
from genebench.tasks.recipes.recipe import build
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables


@dataclass
class CuratedTables:
    """The silver tables of a profile, and the tasks and inputs that could not be built.

    Attributes:
        tables: Table to its frame, in the order in which they are written.
        not_applicable: Tasks that cannot be built from the available sources, with the reason.
        failed: Tasks whose build raised an error, with the message.
        missing_inputs: Inputs whose source file is not in the lake, with the file.
        unresolved_inputs: Inputs with rows whose identifier names no entity, with their counts.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing_inputs: dict[str, str] = field(default_factory=dict)
    unresolved_inputs: dict[str, str] = field(default_factory=dict)


def curate_tables(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> CuratedTables:
    """Build all silver tables.

    Args:
        lake: The lake with the bronze tables.
        registry: The declarations.
        snapshots: The snapshot of each source file to read.

    Raises:
        GenebenchError: A catalogue or an input cannot be built. A task that cannot be built does
            not stop the others.
    """
    curated = CuratedTables()
    catalogue = read_catalogues(lake, registry, snapshots)
    resolvers = {name: Resolver(catalogue.xrefs, name) for name in registry.profile.catalogues}
    tasks = build_tasks(lake, registry, snapshots, resolvers, curated)
    unresolved = list_unresolved_entities(
        _snapshots_of(tasks["silver.samples"], tasks["silver.tasks"]), catalogue
    )
    curated.tables = {
        "silver.entities": pl.concat([catalogue.entities, unresolved.entities]),
        "silver.xrefs": pl.concat([catalogue.xrefs, unresolved.xrefs]),
        "silver.inputs": _build_inputs(lake, registry, snapshots, catalogue, resolvers, curated),
        **tasks,
    }
    return curated


def read_catalogues(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> Catalogue:
    """Read the entities and xrefs of all catalogues of the profile.

    Raises:
        SourceError: A catalogue has a duplicate entity or no valid row.
    """
    profile = registry.profile
    parts = []
    for entity_type, file_id in profile.catalogues.items():
        withdrawn = None
        if entity_type == GENE and profile.withdrawn and profile.withdrawn in snapshots:
            withdrawn = lake.raw(profile.withdrawn, snapshots[profile.withdrawn])
        rows = lake.raw(file_id, snapshots[file_id])
        parts.append(build_catalogue(rows, file_id, snapshots[file_id], withdrawn))
    entities, xrefs = zip(*parts, strict=True)
    return Catalogue(pl.concat(entities), pl.concat(xrefs))


def build_tasks(
    lake: Tables,
    registry: Registry,
    snapshots: Mapping[str, str],
    resolvers: Mapping[str, Resolver],
    curated: CuratedTables,
) -> dict[str, pl.DataFrame]:
    """Build `silver.samples`, `labels` and `tasks`; tasks that cannot be built go to `curated`."""
    raw: dict[str, pl.DataFrame] = {}
    content = {**snapshots}
    for user_task in registry.user_tasks.values():
        raw[user_task.task.source[0]] = user_task.table
        content[user_task.task.source[0]] = user_task.snapshot_id
    tasks, samples, labels = (
        [table(name).empty()] for name in ("silver.tasks", "silver.samples", "silver.labels")
    )
    for task in registry.tasks.values():
        raise_if_cancelled()
        missing = [name for name in task.source if name not in content]
        if missing:
            curated.not_applicable[task.id] = (
                f"the lake has no snapshot of {missing[0]}; run `genebench refresh {missing[0]}`"
            )
            continue
        for name in task.source:
            if name not in raw:
                raw[name] = lake.raw(name, content[name])
        try:
            built = build(raw, task, resolvers)
            described = describe_task(task, built, content)
        except DegenerateTask as reason:
            curated.not_applicable[task.id] = str(reason)
            continue
        except GenebenchError as reason:
            curated.failed[task.id] = str(reason)
            continue
        tasks.append(described)
        samples.append(_with_task(task, built.samples))
        labels.append(_with_task(task, built.labels))
    return {
        "silver.samples": pl.concat(samples),
        "silver.labels": pl.concat(labels, how="diagonal"),
        "silver.tasks": pl.concat(tasks),
    }


def _with_task(task: Task, rows: pl.DataFrame) -> pl.DataFrame:
    columns = [pl.lit(task.family).alias("family"), pl.lit(task.id).alias("task_id")]
    return rows.select(*columns, *rows.columns)


def _build_inputs(
    lake: Tables,
    registry: Registry,
    snapshots: Mapping[str, str],
    catalogue: Catalogue,
    resolvers: Mapping[str, Resolver],
    curated: CuratedTables,
) -> pl.DataFrame:
    """Rows of `silver.inputs`: texts of the catalogues, and inputs of the profile's sources."""
    parts = [catalogue_inputs(catalogue.entities)]
    for declared in registry.profile.inputs:
        name = f"{declared.entity} {declared.field}"
        if declared.source not in snapshots:
            curated.missing_inputs[name] = declared.source
            continue
        snapshot_id = snapshots[declared.source]
        raw = lake.raw(declared.source, snapshot_id)
        found = source_inputs(raw, declared, resolvers[declared.entity], snapshot_id)
        if found.n_lost:
            curated.unresolved_inputs[name] = (
                f"{found.n_lost:,} of {found.n_filled:,} rows of {declared.source} name no "
                f"{declared.entity}"
            )
        parts.append(found.rows)
    return pl.concat(parts)


def _snapshots_of(samples: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """entity_type, entity_id and snapshot_id of all entities in samples."""
    first = pl.col("snapshot_id").str.split(",").list.first()
    return (
        samples.select("task_id", "entity_type", "entity_id")
        .unique()
        .join(tasks.select("task_id", first), on="task_id")
        .select("entity_type", "entity_id", "snapshot_id")
    )

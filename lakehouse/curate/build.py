"""Raw tables into silver frames: entities, xrefs, inputs, and every task of a profile."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from genebench.cancellation import raise_if_cancelled
from genebench.entities.entity_catalogue import GENE, Catalogue, catalogue
from genebench.entities.identifiers import Resolver
from genebench.entities.inputs import catalogue_inputs, source_inputs
from genebench.entities.unresolved import list_outsiders
from genebench.errors import DegenerateTask, GenebenchError
from genebench.registry.loading import Registry
from genebench.tasks.declaration import Task
from genebench.tasks.description import describe_task
from genebench.tasks.recipes.recipe import build
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables


@dataclass
class Curated:
    """All silver tables of a profile, and what could not be built.

    Attributes:
        tables: Table to its frame, in the order in which they are written.
        not_applicable: Tasks that the sources at hand cannot give, with the reason.
        failed: Tasks that went wrong, with the reason.
        absent_inputs: Inputs whose source file is not in the lake, with the file.
        lost_inputs: Inputs of which rows name no entity, with how many of how many.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    absent_inputs: dict[str, str] = field(default_factory=dict)
    lost_inputs: dict[str, str] = field(default_factory=dict)


def curate_tables(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> Curated:
    """Build all silver tables.

    Args:
        lake: Whose bronze tables are read.
        registry: The declarations.
        snapshots: Source file to the snapshot that is read of it.

    Raises:
        GenebenchError: A catalogue or an input cannot be built; a task that cannot does not stop
            the others.
    """
    curated = Curated()
    known = read_catalogues(lake, registry, snapshots)
    resolvers = {name: Resolver(known.xrefs, name) for name in registry.profile.catalogues}
    tasks = build_tasks(lake, registry, snapshots, resolvers, curated)
    outsiders = list_outsiders(_snapshots_of(tasks["silver.samples"], tasks["silver.tasks"]), known)
    curated.tables = {
        "silver.entities": pl.concat([known.entities, outsiders.entities]),
        "silver.xrefs": pl.concat([known.xrefs, outsiders.xrefs]),
        "silver.inputs": _build_inputs(lake, registry, snapshots, known, resolvers, curated),
        **tasks,
    }
    return curated


def read_catalogues(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> Catalogue:
    """The entities and xrefs of all catalogues of the profile.

    Raises:
        SourceError: A catalogue has a duplicate entity, or no usable row.
    """
    profile = registry.profile
    parts = []
    for entity_type, file_id in profile.catalogues.items():
        withdrawn = None
        if entity_type == GENE and profile.withdrawn and profile.withdrawn in snapshots:
            withdrawn = lake.raw(profile.withdrawn, snapshots[profile.withdrawn])
        rows = lake.raw(file_id, snapshots[file_id])
        parts.append(catalogue(rows, file_id, snapshots[file_id], withdrawn))
    entities, xrefs = zip(*parts, strict=True)
    return Catalogue(pl.concat(entities), pl.concat(xrefs))


def build_tasks(
    lake: Tables,
    registry: Registry,
    snapshots: Mapping[str, str],
    resolvers: Mapping[str, Resolver],
    curated: Curated,
) -> dict[str, pl.DataFrame]:
    """The tables of samples, labels and tasks; what cannot be built is noted in `curated`."""
    raw: dict[str, pl.DataFrame] = {}
    content = {**snapshots}
    for own in registry.own_tasks.values():
        raw[own.task.source[0]] = own.table
        content[own.task.source[0]] = own.snapshot_id
    tasks, samples, labels = (
        [table(name).empty()] for name in ("silver.tasks", "silver.samples", "silver.labels")
    )
    for task in registry.tasks.values():
        raise_if_cancelled()
        absent = [name for name in task.source if name not in content]
        if absent:
            curated.not_applicable[task.id] = (
                f"the lake has no snapshot of {absent[0]}; run `genebench refresh {absent[0]}`"
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
        samples.append(_of_task(task, built.samples))
        labels.append(_of_task(task, built.labels))
    return {
        "silver.samples": pl.concat(samples),
        "silver.labels": pl.concat(labels),
        "silver.tasks": pl.concat(tasks),
    }


def _of_task(task: Task, rows: pl.DataFrame) -> pl.DataFrame:
    who = [pl.lit(task.family).alias("family"), pl.lit(task.id).alias("task_id")]
    return rows.select(*who, *rows.columns)


def _build_inputs(
    lake: Tables,
    registry: Registry,
    snapshots: Mapping[str, str],
    known: Catalogue,
    resolvers: Mapping[str, Resolver],
    curated: Curated,
) -> pl.DataFrame:
    """Rows of `silver.inputs`: the catalogue's own texts and what the profile's sources add."""
    parts = [catalogue_inputs(known.entities)]
    for declared in registry.profile.inputs:
        name = f"{declared.entity} {declared.field}"
        if declared.source not in snapshots:
            curated.absent_inputs[name] = declared.source
            continue
        snapshot_id = snapshots[declared.source]
        raw = lake.raw(declared.source, snapshot_id)
        found = source_inputs(raw, declared, resolvers[declared.entity], snapshot_id)
        if found.n_lost:
            curated.lost_inputs[name] = (
                f"{found.n_lost:,} of {found.n_filled:,} rows of {declared.source} name no "
                f"{declared.entity}"
            )
        parts.append(found.rows)
    return pl.concat(parts)


def _snapshots_of(samples: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """entity_type, entity_id and snapshot_id of all entities that tasks sample."""
    first = pl.col("snapshot_id").str.split(",").list.first()
    return (
        samples.select("task_id", "entity_type", "entity_id")
        .unique()
        .join(tasks.select("task_id", first), on="task_id")
        .select("entity_type", "entity_id", "snapshot_id")
    )

"""Universes: the entities that encoders are compared on, and the tasks restricted to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from genebench.errors import DegenerateTask
from genebench.evaluation.problems import PreparedTask, derive_subtasks, prepare_task, universe_ids
from genebench.protocols.declaration import Protocol
from lakehouse.embed.stored_vectors import describe_interrupted
from lakehouse.score.holdout_groups import group_entities, number_groups, read_holdout_groups
from lakehouse.tables.time_travel import Tables

MIN_COVERAGE = 0.5
UNIVERSES = ("shared", "full")


@dataclass(frozen=True)
class Universe:
    """The entities that some encoders are compared on, with the tasks restricted to them.

    Attributes:
        encoder_ids: The encoders.
        entities: entity_type, entity_id.
        entity_ids: Sorted ids; `rows` of the prepared tasks are positions in it.
        prepared: Task id to the task, restricted to these entities; sub-tasks included.
    """

    encoder_ids: tuple[str, ...]
    entities: pl.DataFrame
    entity_ids: pl.Series
    prepared: Mapping[str, PreparedTask]


def read_prepared_task(
    tables: Tables, row: Mapping[str, Any], universe: pl.Series, protocol: Protocol
) -> PreparedTask:
    """Read one task from the silver tables and restrict it to a universe.

    Args:
        tables: The tables of the lake.
        row: The task's row of `silver.tasks`.
        universe: Sorted entity ids.
        protocol: The protocol; its minimum shares, positive class and hold-out groups apply.

    Raises:
        DegenerateTask: No sample, or only one class, is left within the universe.
        LakeError: The lake does not have the protocol's hold-out groups.
    """
    of_task = pl.col("task_id") == row["task_id"]
    samples = tables.table("silver.samples").filter(of_task).collect()
    labels = tables.table("silver.labels").filter(of_task).collect()
    groups = read_holdout_groups(tables, universe, protocol)
    return prepare_task(row, samples, labels, universe, protocol, groups)


def drop_low_coverage(
    encoders: pl.DataFrame,
    covered: pl.DataFrame,
    needed: pl.DataFrame,
    min_coverage: float,
    excluded: dict[str, str],
) -> pl.DataFrame:
    """Drop incomplete encoders, and entity types of which an encoder covers too few.

    Coverage is decided for each entity type: an encoder that covers few diseases drops out of the
    universe of diseases and stays in that of genes.

    Args:
        encoders: Rows of `silver.encoders`.
        covered: encoder_id, entity_type and entity_id of the stored vectors of `needed`.
        needed: See `lakehouse.embed.encoder_records.needed_entities`.
        min_coverage: Smallest share of an entity type's needed entities to keep the type.
        excluded: Receives the name of each encoder that is dropped, with the reason.

    Returns:
        The rows of `covered` that are kept.
    """
    counts = needed.group_by("encoder_id", "entity_type").len()
    kept = []
    for encoder_id, is_complete in encoders.select("encoder_id", "is_complete").iter_rows():
        rows = covered.filter(pl.col("encoder_id") == encoder_id)
        n_needed = dict(counts.filter(encoder_id=encoder_id).drop("encoder_id").iter_rows())
        n_covered = sorted(rows.group_by("entity_type").len().iter_rows())
        too_few = {kind: n for kind, n in n_covered if n < min_coverage * n_needed[kind]}
        if not is_complete:
            excluded[encoder_id] = describe_interrupted(encoder_id)
            continue
        if not n_covered:
            excluded[encoder_id] = "has no vector of any entity that a task samples"
        for kind, n in too_few.items():
            name = encoder_id if len(n_covered) == 1 else f"{encoder_id} on {kind} entities"
            excluded[name] = (
                f"covers {n:,} of {n_needed[kind]:,} {kind} entities ({n / n_needed[kind]:.0%}; "
                f"the shared universe requires {MIN_COVERAGE:.0%}); `--universe full` scores each "
                "encoder on the entities that it covers"
            )
        kept.append(rows.filter(~pl.col("entity_type").is_in(list(too_few))))
    return pl.concat([covered.clear(), *kept])


def select_entities(
    universe: str, covered: pl.DataFrame, needed: pl.DataFrame
) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    """Select the entities of each universe from the stored vectors.

    Args:
        universe: `shared` for one universe, the entities that all encoders cover which need them;
            `full` for one universe per encoder, all that it covers.
        covered: What `drop_low_coverage` keeps.
        needed: See `lakehouse.embed.encoder_records.needed_entities`.

    Yields:
        The ids of the encoders, and the entity_type and entity_id of their universe.
    """
    key = ["entity_type", "entity_id"]
    encoder_ids = covered["encoder_id"].unique().sort().to_list()
    if not encoder_ids:
        return
    if universe == "full":
        for encoder_id in encoder_ids:
            yield (encoder_id,), covered.filter(pl.col("encoder_id") == encoder_id).select(key)
        return
    # An encoder that dropped out of an entity type needs none of its entities.
    asked = needed.join(covered, on=["encoder_id", "entity_type"], how="semi")
    lacking = asked.join(covered, on=["encoder_id", *key], how="anti")
    yield tuple(encoder_ids), asked.select(key).unique().join(lacking, on=key, how="anti")


def prepare_universe(
    encoder_ids: tuple[str, ...],
    entities: pl.DataFrame,
    tasks: pl.DataFrame,
    samples: pl.DataFrame,
    labels: pl.DataFrame,
    protocol: Protocol,
    excluded: dict[str, str],
    relatives: pl.DataFrame | None = None,
) -> Universe:
    """Restrict all tasks to the entities of a universe, and derive their sub-tasks.

    Args:
        encoder_ids: The encoders that are compared.
        entities: entity_type and entity_id of the universe.
        tasks: Rows of `silver.tasks`.
        samples: Rows of `silver.samples`.
        labels: Rows of `silver.labels`.
        protocol: The protocol.
        excluded: Receives the id of each task that becomes degenerate, with the reason.
        relatives: entity_id and label, where the protocol holds out relatives.

    Raises:
        LakeError: The lake does not have the protocol's hold-out groups.
    """
    ids = universe_ids(entities)
    grouping = protocol.folds.groups
    groups = None
    if relatives is not None:
        groups = number_groups(ids, relatives)
    elif grouping is not None:
        groups = group_entities(ids, samples, labels, grouping)
    samples_of = samples.partition_by("task_id", as_dict=True)
    labels_of = labels.partition_by("task_id", as_dict=True)
    subtasks = set(tasks.filter(pl.col("parent_task_id").is_not_null())["task_id"])
    prepared: dict[str, PreparedTask] = {}
    for task in tasks.filter(pl.col("parent_task_id").is_null()).iter_rows(named=True):
        key = (task["task_id"],)
        try:
            parent = prepare_task(task, samples_of[key], labels_of[key], ids, protocol, groups)
        except DegenerateTask as reason:
            excluded[task["task_id"]] = str(reason)
            continue
        prepared[parent.task_id] = parent
        if parent.kind == "multilabel":
            for derived in derive_subtasks(parent, protocol):
                if derived.task_id in subtasks:
                    prepared[derived.task_id] = derived
    return Universe(encoder_ids, entities.sort("entity_type", "entity_id"), ids, prepared)

"""The entities that encoders are compared on, and the tasks laid out over them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import DegenerateTask
from genebench.evaluation.problems import PreparedTask, derive_subtasks, prepare, universe_ids
from genebench.protocols.declaration import Protocol
from genebench.tasks.declaration import whole_task
from lakehouse.curate.task_selection import superseded_tasks
from lakehouse.embed.stored_vectors import interrupted
from lakehouse.score.holdout_groups import group_entities
from lakehouse.tables.delta import Delta
from lakehouse.tables.time_travel import Tables

MIN_COVERAGE = 0.5
UNIVERSES = ("shared", "full")


@dataclass(frozen=True)
class Universe:
    """The entities that some encoders are compared on, and the tasks laid out over them.

    Attributes:
        encoder_ids: The encoders.
        entities: entity_type, entity_id.
        entity_ids: Sorted; rows of the prepared tasks point into it.
        prepared: The tasks, by id.
    """

    encoder_ids: tuple[str, ...]
    entities: pl.DataFrame
    entity_ids: pl.Series
    prepared: Mapping[str, PreparedTask]


@dataclass(frozen=True)
class Layout:
    """What of a plan depends on the silver tables and the protocol alone."""

    universes: tuple[Universe, ...]
    covered: pl.DataFrame
    modalities: Mapping[str, str]
    refused: Mapping[str, str]


_READ = ("silver.tasks", "silver.samples", "silver.labels", "silver.encoders", "silver.embeddings")
# The last layout of this process, by the versions it was read at: every encoder's task run of a
# flow asks for the same one, and laying out takes longer than many an encoder's scoring.
_LAST: dict[tuple[object, ...], Layout] = {}


def lay_out(delta: Delta, protocol: Protocol, universe: str, named: frozenset[str]) -> Layout:
    """Lay the tasks of a lake out over what its encoders cover.

    Args:
        delta: The lake.
        protocol: The rules.
        universe: `shared` or `full`; see `lakehouse.score.plan.plan_release`.
        named: Tasks asked for by name; of those that another supersedes, only these are kept.
    """
    versions = tuple(delta.version(name) for name in _READ)
    outdated = superseded_tasks(delta)
    kept = named.intersection(outdated)
    shares = (protocol.min_share, protocol.min_class_share)
    key = (delta.storage.root, versions, protocol.digest(), shares, universe, kept)
    if key not in _LAST:
        layout = _read_layout(delta, protocol, universe)
        layout = _without(layout, {k: v for k, v in outdated.items() if k not in kept})
        _LAST.clear()
        _LAST[key] = layout
    return _LAST[key]


def prepare_task(
    lake: Tables, row: Mapping[str, Any], universe: pl.Series, protocol: Protocol
) -> PreparedTask:
    """Lay one task of a lake out over some entities.

    Args:
        lake: The lake.
        row: The task's row of `silver.tasks`.
        universe: Sorted entity ids.
        protocol: The rules.

    Raises:
        DegenerateTask: The universe leaves nothing to predict.
        LakeError: The protocol holds out groups that the lake does not know.
    """
    mine = pl.col("task_id") == row["task_id"]
    samples = lake.table("silver.samples").filter(mine).collect()
    labels = lake.table("silver.labels").filter(mine).collect()
    return prepare(row, samples, labels, universe, protocol, find_groups(lake, universe, protocol))


def find_groups(
    lake: Tables, universe: pl.Series, protocol: Protocol
) -> npt.NDArray[np.int64] | None:
    """(entities,) number of the group of each entity of a universe; None if no groups are held out.

    Raises:
        LakeError: The lake has no such groups.
    """
    if protocol.folds.groups is None:
        return None
    samples, labels = (lake.table(f"silver.{name}").collect() for name in ("samples", "labels"))
    return group_entities(universe, samples, labels, protocol.folds.groups)


def _without(layout: Layout, outdated: Mapping[str, str]) -> Layout:
    """A layout without superseded tasks; the universe stays that of all tasks.

    So the keys of all other evaluations are the same whether or not such a task is asked for.
    """
    universes = tuple(
        replace(
            universe,
            prepared={
                task_id: task
                for task_id, task in universe.prepared.items()
                if whole_task(task_id) not in outdated
            },
        )
        for universe in layout.universes
    )
    reasons = {
        task_id: f"superseded by {by}; `genebench score --task {task_id}` scores it all the same"
        for task_id, by in outdated.items()
    }
    return replace(layout, universes=universes, refused={**layout.refused, **reasons})


def _read_layout(delta: Delta, protocol: Protocol, universe: str) -> Layout:
    tasks = delta.scan("silver.tasks").collect()
    samples = delta.scan("silver.samples").collect()
    labels = delta.scan("silver.labels").collect()
    encoders = delta.scan("silver.encoders").collect()
    vectors = (
        delta.scan("silver.embeddings")
        .select("encoder_id", "entity_type", "entity_id", "vector_digest")
        .collect()
    )
    refused: dict[str, str] = {}
    needed = samples.select("entity_type", "entity_id").unique()
    covered = vectors.join(needed, on=["entity_type", "entity_id"], how="semi")
    least = 0.0 if universe == "full" else MIN_COVERAGE
    covered = _enough_covered(encoders, covered, needed, least, refused)
    universes = tuple(
        _universe(ids, entities, tasks, samples, labels, protocol, refused)
        for ids, entities in _universes(universe, covered)
    )
    modalities = dict(encoders.select("encoder_id", "modality").iter_rows())
    return Layout(universes, covered, modalities, refused)


def _enough_covered(
    encoders: pl.DataFrame,
    covered: pl.DataFrame,
    needed: pl.DataFrame,
    least: float,
    refused: dict[str, str],
) -> pl.DataFrame:
    """The rows of `covered` that take part: of finished encoders, and of types covered enough.

    Universes intersect type by type, so an encoder that has few diseases takes no part in theirs.
    """
    n_needed = dict(needed.group_by("entity_type").len().iter_rows())
    kept = []
    for encoder_id, is_complete in encoders.select("encoder_id", "is_complete").iter_rows():
        mine = covered.filter(pl.col("encoder_id") == encoder_id)
        n_covered = sorted(mine.group_by("entity_type").len().iter_rows())
        few = {kind: n for kind, n in n_covered if n < least * n_needed[kind]}
        if not is_complete:
            refused[encoder_id] = interrupted(encoder_id)
            continue
        if not n_covered:
            refused[encoder_id] = "has no vector of any entity that a task samples"
        for kind, n in few.items():
            name = encoder_id if len(n_covered) == 1 else f"{encoder_id} on {kind} entities"
            refused[name] = (
                f"covers {n:,} of {n_needed[kind]:,} {kind} entities ({n / n_needed[kind]:.0%}, at "
                f"least {MIN_COVERAGE:.0%} needed to share a universe); `--universe full` takes "
                "each encoder on what it covers"
            )
        kept.append(mine.filter(~pl.col("entity_type").is_in(list(few))))
    return pl.concat([covered.clear(), *kept])


def _universes(
    universe: str, covered: pl.DataFrame
) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    entities = ["entity_type", "entity_id"]
    encoder_ids = covered["encoder_id"].unique().sort().to_list()
    if not encoder_ids:
        return
    if universe == "full":
        for encoder_id in encoder_ids:
            yield (encoder_id,), covered.filter(pl.col("encoder_id") == encoder_id).select(entities)
        return
    readers = covered.group_by("entity_type").agg(
        pl.col("encoder_id").n_unique().alias("n_readers")
    )
    shared = (
        covered.group_by(entities)
        .agg(pl.len().alias("n"))
        .join(readers, on="entity_type")
        .filter(pl.col("n") == pl.col("n_readers"))
        .select(entities)
    )
    yield tuple(encoder_ids), shared


def _universe(
    encoder_ids: tuple[str, ...],
    entities: pl.DataFrame,
    tasks: pl.DataFrame,
    samples: pl.DataFrame,
    labels: pl.DataFrame,
    protocol: Protocol,
    refused: dict[str, str],
) -> Universe:
    ids = universe_ids(entities)
    grouping = protocol.folds.groups
    groups = None if grouping is None else group_entities(ids, samples, labels, grouping)
    samples_of = samples.partition_by("task_id", as_dict=True)
    labels_of = labels.partition_by("task_id", as_dict=True)
    subtasks = set(tasks.filter(pl.col("parent_task_id").is_not_null())["task_id"])
    prepared: dict[str, PreparedTask] = {}
    for task in tasks.filter(pl.col("parent_task_id").is_null()).iter_rows(named=True):
        key = (task["task_id"],)
        try:
            parent = prepare(task, samples_of[key], labels_of[key], ids, protocol, groups)
        except DegenerateTask as reason:
            refused[task["task_id"]] = str(reason)
            continue
        prepared[parent.task_id] = parent
        if parent.kind == "multilabel":
            for derived in derive_subtasks(parent, protocol):
                if derived.task_id in subtasks:
                    prepared[derived.task_id] = derived
    return Universe(encoder_ids, entities.sort("entity_type", "entity_id"), ids, prepared)

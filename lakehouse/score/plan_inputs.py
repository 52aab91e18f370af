"""The part of a plan that depends on the silver tables and the protocol only, cached per process.

`lakehouse.score.plan` combines it with the probes and with the evaluations that are stored.
"""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import polars as pl

from genebench.protocols.declaration import Protocol
from genebench.tasks.declaration import parent_task_id
from lakehouse.curate.task_selection import superseded_tasks
from lakehouse.embed.encoder_records import needed_entities
from lakehouse.embed.stored_vectors import keep_one_vector
from lakehouse.score.relatives import RELATIVES, read_relatives
from lakehouse.score.universes import (
    MIN_COVERAGE,
    Universe,
    drop_low_coverage,
    prepare_universe,
    select_entities,
)
from lakehouse.tables.delta import Delta
from lakehouse.tables.time_travel import Tables


@dataclass(frozen=True)
class PlanInputs:
    """Universes with their prepared tasks, and the vectors that encoders have of them.

    Attributes:
        universes: One if shared, one per encoder if full.
        covered: encoder_id, entity_type, entity_id and vector_digest of the vectors to score.
        modalities: Encoder id to its modality.
        excluded: Task or encoder that is left out, with the reason.
    """

    universes: tuple[Universe, ...]
    covered: pl.DataFrame
    modalities: Mapping[str, str]
    excluded: Mapping[str, str]


_READ = (
    *("silver.tasks", "silver.samples", "silver.labels"),
    *("silver.encoders", "silver.embeddings", "silver.entities"),
)
# Holds the latest result only, by the table versions it was read at. Each Prefect task of a score
# run plans the same release, and preparing all tasks can take longer than scoring an encoder.
_CACHE: dict[tuple[object, ...], PlanInputs] = {}
_LOCK = threading.Lock()


def read_plan_inputs(
    delta: Delta,
    protocol: Protocol,
    universe: str,
    named_tasks: frozenset[str],
    encoder_families: Mapping[str, Collection[str]],
) -> PlanInputs:
    """Read the silver tables and restrict all tasks to the universes of the encoders.

    Args:
        delta: The tables of the lake.
        protocol: The protocol.
        universe: `shared` or `full`; see `lakehouse.score.plan.plan_release`.
        named_tasks: Tasks requested by name. A superseded task is kept only if it is among them.
        encoder_families: Encoder id to the families that its declaration restricts it to.

    Raises:
        LakeError: The lake does not have the protocol's hold-out groups.
    """
    versions = tuple(delta.version(name) for name in _READ)
    superseded = superseded_tasks(delta)
    kept = named_tasks.intersection(superseded)
    shares = (protocol.min_share, protocol.min_class_share)
    families = frozenset((name, *sorted(names)) for name, names in encoder_families.items())
    key = (delta.storage.root, versions, protocol.digest(), shares, universe, kept, families)
    left_out = {task_id: by for task_id, by in superseded.items() if task_id not in kept}
    # Threads that plan the same release wait for one of them to prepare the tasks.
    with _LOCK:
        inputs = _CACHE.get(key)
        if inputs is None:
            inputs = _prepare_all(delta, protocol, universe, encoder_families)
            inputs = _exclude_superseded(inputs, left_out)
            _CACHE.clear()
            _CACHE[key] = inputs
    return inputs


def _exclude_superseded(inputs: PlanInputs, superseded: Mapping[str, str]) -> PlanInputs:
    """Remove superseded tasks after the universe was computed from the samples of all tasks.

    The universe, and with it every other evaluation key, is then the same whether or not a
    superseded task is requested.
    """
    universes = tuple(
        replace(
            universe,
            prepared={
                task_id: task
                for task_id, task in universe.prepared.items()
                if parent_task_id(task_id) not in superseded
            },
        )
        for universe in inputs.universes
    )
    reasons = {
        task_id: f"superseded by {by}; to score it anyway, run `genebench score --task {task_id}`"
        for task_id, by in superseded.items()
    }
    return replace(inputs, universes=universes, excluded={**inputs.excluded, **reasons})


def _prepare_all(
    delta: Delta,
    protocol: Protocol,
    universe: str,
    encoder_families: Mapping[str, Collection[str]],
) -> PlanInputs:
    tasks = delta.scan("silver.tasks").collect()
    samples = delta.scan("silver.samples").collect()
    labels = delta.scan("silver.labels").collect()
    encoders = delta.scan("silver.encoders").collect()
    vectors = (
        delta.scan("silver.embeddings")
        .select("encoder_id", "entity_type", "entity_id", "vector_digest")
        .collect()
    )
    vectors = keep_one_vector(vectors)
    excluded: dict[str, str] = {}
    needed = needed_entities(samples, encoders["encoder_id"], encoder_families)
    covered = vectors.join(needed, on=needed.columns, how="semi")
    min_coverage = 0.0 if universe == "full" else MIN_COVERAGE
    covered = drop_low_coverage(encoders, covered, needed, min_coverage, excluded)
    relatives = None
    if protocol.folds.groups == RELATIVES:
        relatives = read_relatives(Tables(delta.storage.root, delta.storage.options))
    universes = tuple(
        prepare_universe(ids, entities, tasks, samples, labels, protocol, excluded, relatives)
        for ids, entities in select_entities(universe, covered, needed)
    )
    modalities = dict(encoders.select("encoder_id", "modality").iter_rows())
    return PlanInputs(universes, covered, modalities, excluded)

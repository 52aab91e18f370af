"""Evaluates the pending items of one encoder and yields the finished families every few seconds."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.evaluate import Evaluation, evaluate
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.settings import Settings
from lakehouse.embed.stored_vectors import read_stored_matrix
from lakehouse.score.plan import ReleasePlan
from lakehouse.tables.delta import Delta

# Checking and committing a batch takes half a second, so quick families are committed together.
SECONDS_BETWEEN_BATCHES = 5.0


@dataclass(frozen=True)
class FinishedBatch:
    """The evaluations of families that are finished, by one probe.

    Attributes:
        items: Evaluation key to its row of `gold.releases`.
        evaluations: The evaluations, family by family, in the order of their task ids.
    """

    items: Mapping[str, Mapping[str, Any]]
    evaluations: Sequence[Evaluation]


def evaluate_encoder(
    delta: Delta,
    plan: ReleasePlan,
    encoder_id: str,
    pending: pl.DataFrame,
    probes: Mapping[str, Probe],
    protocol: Protocol,
    settings: Settings,
    progress: Callable[[int], None],
    *,
    predictions: bool = False,
    encoder_probe: Probe | None = None,
) -> Iterator[FinishedBatch]:
    """Evaluate an encoder's pending items; all tasks share one feature matrix.

    Args:
        delta: The tables of the lake.
        plan: The plan; its universe and prepared tasks apply.
        encoder_id: The encoder.
        pending: The encoder's pending rows of `gold.releases`, each evaluation key once, as
            `ReleasePlan.select` returns them.
        probes: Probe id to its declaration.
        protocol: The protocol.
        settings: Device, threads and memory of the probes.
        progress: Called with 1 after each evaluation.
        predictions: Whether to return the held-out predictions too.
        encoder_probe: The probe that the encoder's declaration fixes; it replaces the requested
            probes.

    Yields:
        The evaluations of the families that are done, every five seconds and at the end of a probe.

    Raises:
        LakeError: The lake holds no vectors of the encoder.
    """
    universe = plan.universe_of(encoder_id)
    matrix = read_universe_matrix(delta, encoder_id, universe.entity_ids)
    for (probe_id,), of_probe in pending.partition_by("probe_id", as_dict=True).items():
        ordered = of_probe.sort("family", "task_id", maintain_order=True)
        items = {row["evaluation_key"]: row for row in ordered.iter_rows(named=True)}
        problems = [
            universe.prepared[row["task_id"]].problem(key, protocol) for key, row in items.items()
        ]
        keys_of_family = {
            family: rows["evaluation_key"].to_list()
            for (family,), rows in ordered.partition_by("family", as_dict=True).items()
        }
        done: dict[str, Evaluation] = {}
        ready: list[Evaluation] = []
        yielded_at = time.monotonic()
        for evaluation in evaluate(
            matrix,
            problems,
            encoder_probe or probes[str(probe_id)],
            protocol,
            device=_device(settings.device),
            threads=settings.threads,
            memory_bytes=int(settings.memory_gb * 1e9),
            predictions=predictions,
            intervals=protocol.uncertainty.intervals == "bootstrap",
        ):
            done[evaluation.problem_id] = evaluation
            progress(1)
            family = items[evaluation.problem_id]["family"]
            if all(key in done for key in keys_of_family[family]):
                ready += [done.pop(key) for key in keys_of_family[family]]
            if ready and time.monotonic() - yielded_at >= SECONDS_BETWEEN_BATCHES:
                yield FinishedBatch(items, ready)
                ready, yielded_at = [], time.monotonic()
        if ready:
            yield FinishedBatch(items, ready)


def read_universe_matrix(
    delta: Delta, encoder_id: str, entity_ids: pl.Series
) -> npt.NDArray[np.float32]:
    """Read the feature matrix of an encoder for the entities of a universe.

    Returns:
        (entities, features) float32, in the order of `entity_ids`; rows of entities that the
        encoder does not cover are zero.

    Raises:
        LakeError: The lake holds no vectors of the encoder.
    """
    stored, vectors = read_stored_matrix(delta, encoder_id)
    rows = (
        stored.select("entity_id")
        .with_row_index("row")
        .join(entity_ids.to_frame("entity_id").with_row_index("place"), on="entity_id", how="inner")
    )
    matrix = np.zeros((len(entity_ids), vectors.shape[1]), np.float32)
    matrix[rows["place"].to_numpy()] = vectors[rows["row"].to_numpy()]
    return matrix


def _device(setting: str) -> str:
    """Return the device of the probes; `auto` is the CPU, for no GPU has run the solver yet."""
    return "cpu" if setting == "auto" else setting

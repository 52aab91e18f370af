"""An encoder's pending evaluations, family by family."""

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
from lakehouse.embed.stored_vectors import read_stored
from lakehouse.score.plan import Plan
from lakehouse.tables.delta import Delta


@dataclass(frozen=True)
class FamilyResult:
    """The finished evaluations of one family by one probe.

    Attributes:
        probe_id: The probe.
        family: The family.
        items: Evaluation key to its row of `gold.releases`.
        evaluations: What came of them.
    """

    probe_id: str
    family: str
    items: Mapping[str, Mapping[str, Any]]
    evaluations: Sequence[Evaluation]


def evaluate_encoder(
    delta: Delta,
    plan: Plan,
    encoder_id: str,
    pending: pl.DataFrame,
    probes: Mapping[str, Probe],
    protocol: Protocol,
    settings: Settings,
    progress: Callable[[int], None],
    *,
    predictions: bool = False,
    own: Probe | None = None,
) -> Iterator[FamilyResult]:
    """Evaluate an encoder's pending items; all tasks share one matrix.

    Args:
        delta: The lake.
        plan: Whose universe and prepared tasks apply.
        encoder_id: The encoder.
        pending: Its pending rows of `gold.releases`, no key twice (`Plan.select`).
        probes: Probe id to its declaration.
        protocol: The rules.
        settings: Device, threads and memory.
        progress: Called with the number of evaluations done.
        own: The probe that reads this encoder, whichever is asked for.
        predictions: Whether the held-out outputs are wanted too.

    Yields:
        A batch as soon as all of a family's evaluations are there.
    """
    universe = plan.universe_of(encoder_id)
    matrix = read_matrix(delta, encoder_id, universe.entity_ids)
    for (probe_id,), of_probe in pending.partition_by("probe_id", as_dict=True).items():
        ordered = of_probe.sort("family", "task_id", maintain_order=True)
        items = {row["evaluation_key"]: row for row in ordered.iter_rows(named=True)}
        problems = [
            universe.prepared[row["task_id"]].problem(key, protocol) for key, row in items.items()
        ]
        waiting = {
            family: rows["evaluation_key"].to_list()
            for (family,), rows in ordered.partition_by("family", as_dict=True).items()
        }
        done: dict[str, Evaluation] = {}
        for evaluation in evaluate(
            matrix,
            problems,
            own or probes[str(probe_id)],
            protocol,
            device=_device(settings.device),
            threads=settings.threads,
            memory_bytes=int(settings.memory_gb * 1e9),
            precision=settings.precision,
            predictions=predictions,
            intervals=protocol.uncertainty.intervals == "bootstrap",
        ):
            done[evaluation.problem_id] = evaluation
            progress(1)
            family = items[evaluation.problem_id]["family"]
            if all(key in done for key in waiting[family]):
                yield FamilyResult(
                    str(probe_id), family, items, [done.pop(key) for key in waiting[family]]
                )


def read_matrix(delta: Delta, encoder_id: str, entity_ids: pl.Series) -> npt.NDArray[np.float32]:
    """(entities, features) in a universe's order; rows that the encoder does not cover are zero."""
    stored, vectors = read_stored(delta, encoder_id)
    rows = (
        stored.select("entity_id")
        .with_row_index("row")
        .join(entity_ids.to_frame("entity_id").with_row_index("place"), on="entity_id", how="inner")
    )
    matrix = np.zeros((len(entity_ids), vectors.shape[1]), np.float32)
    matrix[rows["place"].to_numpy()] = vectors[rows["row"].to_numpy()]
    return matrix


def _device(wanted: str) -> str:
    """The device of the probes: as set, or a GPU where torch finds one."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

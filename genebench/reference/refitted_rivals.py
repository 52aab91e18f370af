"""Fits the rivals of new vectors again, on the genes that the new vectors cover."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import EncoderError
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.reference.local_embedding import LocalEmbedder
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.stored_scores import StoredScore
from genebench.reference.vectors_evaluation import ScoredTask, place_vectors, score_tasks
from genebench.registry.registry import Registry
from genebench.settings import get_settings


def refit_rivals(
    scored: Sequence[ScoredTask],
    rivals: pl.DataFrame,
    has_vector: npt.NDArray[np.bool_],
    registry: Registry,
    packaged: UniverseTasks,
    probe: Probe,
    protocol: Protocol,
    progress: Callable[[str], None],
) -> Iterator[StoredScore | str]:
    """Embed the rivals on this machine, fit them and score them.

    Args:
        scored: The tasks of the new vectors.
        rivals: Rows of bundles: which rival has which task.
        has_vector: (entities,) bool; the genes that the new vectors cover.
        registry: The declared encoders, with the probe of each.
        packaged: The tasks.
        probe: The probe of encoders that declare none.
        protocol: The protocol.
        progress: Called with one line of text after each task.

    Yields:
        The scores of each rival and task; or, in place of them, why there are none.
    """
    embedder = LocalEmbedder(registry, packaged)
    usable = [one.task.task_id for one in scored if one.evaluation.status == "ok"]
    for encoder_id in rivals["encoder_id"].unique(maintain_order=True):
        if encoder_id not in registry.encoders:
            yield f"{encoder_id}: cannot be fitted again: a bundle has no vectors"
            continue
        try:
            vectors = embedder.embed(registry.encoders[encoder_id], progress)
        except EncoderError as error:
            yield f"{encoder_id}: cannot be fitted again: {error}"
            continue
        matrix, is_embedded = place_vectors(vectors, packaged.entity_ids)
        if n_lacking := int((has_vector & ~is_embedded).sum()):
            yield f"{encoder_id}: has no vectors of {n_lacking:,} genes that yours cover"
            continue
        own = set(rivals.filter(pl.col("encoder_id") == encoder_id)["task_id"])
        own_probe = registry.declared_probes().get(encoder_id, probe)
        for one in score_tasks(
            matrix,
            has_vector,
            packaged,
            [task_id for task_id in usable if task_id in own],
            own_probe,
            protocol,
            get_settings(),
        ):
            progress(f"{encoder_id}: fitted again on {one.task.task_id}")
            score = one.stored_score(encoder_id)
            yield score or f"{encoder_id}: no score of {one.task.task_id}: {one.evaluation.reason}"

"""Writes the reference release of `genebench evaluate` from a lake: `genebench/reference/release`.

Run `genebench benchmark`, then `python -m lakehouse.report.reference_release` in the same folder.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from genebench.digest import digest_bytes
from genebench.errors import LakeError
from genebench.reference.bundle import write_bundle
from genebench.reference.packaged_reference import (
    BUNDLE_FILE,
    ENTITIES_FILE,
    PROBE,
    PROFILE,
    PROTOCOL,
    reference_folder,
)
from genebench.reference.packaged_tasks import prepare_packaged_tasks
from genebench.reference.vectors_evaluation import bundle_rows, score_tasks
from genebench.registry.loading import load_registry
from genebench.settings import get_settings
from genebench.tasks.declaration import TEMPORAL
from lakehouse.score.encoder_evaluation import read_universe_matrix
from lakehouse.tables.time_travel import Tables

# The oracle reads the labels: it is an upper bound, not a rival.
LEFT_OUT = ("oracle",)

# Their predictions of many labels cannot be compressed; the other families show them as rivals.
NOISE = ("random", "shuffled")


def write_reference(tables: Tables, folder: Path) -> pl.DataFrame:
    """Score the encoders of a lake on its universe and write them as the reference release.

    Args:
        tables: A lake of the profile embedded with a release `current`.
        folder: The folder to write to.

    Returns:
        The bundle.

    Raises:
        LakeError: The lake has no release `current`.
    """
    registry = load_registry(PROFILE)
    protocol, probe = registry.protocols[PROTOCOL], registry.probes[PROBE]
    of_release = pl.col("release_id") == "current"
    entities = tables.table("gold.universes").filter(of_release).collect()
    if not entities.height:
        raise LakeError("the lake has no release `current`; run `genebench benchmark`")
    entity_ids = entities["entity_id"].unique().sort()
    packaged = prepare_packaged_tasks(registry, protocol, entity_ids)
    items = tables.table("gold.releases").filter(of_release).collect()
    encoders = tables.table("silver.encoders").collect().sort("encoder_id")
    parts = []
    for encoder_id in encoders["encoder_id"]:
        if encoder_id in LEFT_OUT:
            continue
        declared = registry.encoders[encoder_id]
        tasks = set(items.filter(pl.col("encoder_id") == encoder_id)["task_id"])
        used = registry.declared_probes().get(encoder_id, probe)
        matrix = read_universe_matrix(tables.delta, encoder_id, entity_ids)
        has_vector = np.ones(len(entity_ids), dtype=bool)
        scored = list(
            score_tasks(
                matrix,
                has_vector,
                packaged,
                [
                    name
                    for name, task in packaged.tasks.items()
                    if name in tasks and not (task.family == TEMPORAL and encoder_id in NOISE)
                ],
                used,
                protocol,
                get_settings(),
            )
        )
        card = {
            "encoder_id": encoder_id,
            "title": declared.title,
            "description": declared.description,
            "modality": declared.modality,
            "is_control": declared.is_control,
            "vectors_digest": digest_bytes(matrix.tobytes()),
        }
        parts.append(bundle_rows(scored, entity_ids, used, protocol, PROFILE, card))
        sys.stdout.write(f"{encoder_id}: {len(scored)} tasks\n")
        sys.stdout.flush()
    bundle = pl.concat(parts)
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(folder / BUNDLE_FILE, bundle)
    (folder / ENTITIES_FILE).write_text("\n".join(entity_ids) + "\n", encoding="utf-8")
    return bundle


if __name__ == "__main__":
    settings = get_settings()
    write_reference(Tables(settings.lake, settings.storage_options), reference_folder())

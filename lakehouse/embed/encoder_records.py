"""What an encoder is that has embedded: its row, its probe, and the weights of its vectors."""

import datetime as dt
import json
from collections.abc import Mapping

import polars as pl

from genebench.encoders.declaration import Encoder
from genebench.probes.declaration import Probe
from genebench.registry.loading import Registry
from lakehouse.embed.pending import PendingEmbedding
from lakehouse.tables.delta import Delta
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables


def encoder_row(
    material: PendingEmbedding, is_complete: bool, stored: Mapping[str, int], run_id: str
) -> pl.DataFrame:
    """The row of `silver.encoders` that says what an encoder is and whether it is finished.

    Args:
        material: The encoder's work.
        is_complete: False while it is at work.
        stored: n_entities and dimension, of what is stored.
        run_id: The flow run.
    """
    encoder = material.encoder
    return pl.DataFrame(
        {
            "encoder_id": [encoder.id],
            "title": [encoder.title],
            "modality": [encoder.modality],
            "is_control": [encoder.is_control],
            "encoder_digest": [material.encoder_digest],
            "declaration": [_declaration(encoder)],
            "wanted_digest": [material.wanted_digest],
            "n_wanted": [material.wanted.height],
            "n_entities": [stored["n_entities"]],
            "dimension": [stored["dimension"]],
            "is_complete": [is_complete],
            "run_id": [run_id],
            "embedded_at": [dt.datetime.now(dt.UTC)],
        }
    )


def is_recorded(delta: Delta, encoder: Encoder) -> bool:
    """Whether the row of an encoder has its declaration, of which much is in no digest."""
    mine = (pl.col("encoder_id") == encoder.id) & (pl.col("declaration") == _declaration(encoder))
    return not delta.scan("silver.encoders").filter(mine).collect().is_empty()


def _declaration(encoder: Encoder) -> str:
    return encoder.model_dump_json(by_alias=True, exclude_defaults=True)


def stored_size(delta: Delta, encoder_id: str) -> dict[str, int]:
    """How many entities an encoder has vectors of, and how wide the widest is."""
    row = (
        delta.scan("silver.embeddings")
        .filter(pl.col("encoder_id") == encoder_id)
        .select(pl.len().alias("n_entities"), pl.col("dimension").max().fill_null(0))
        .collect()
    )
    return {name: int(row[name][0]) for name in ("n_entities", "dimension")}


def own_probes(delta: Delta, registry: Registry) -> dict[str, Probe]:
    """Encoder to the probe that always reads it, for the encoders that name one.

    Of an encoder of the user's own whose file is not given now, what it declared when it embedded
    counts.

    Raises:
        LakeError: An encoder of the lake names a probe that there is none of.
    """
    found = registry.own_probes()
    rows = delta.scan("silver.encoders").select("encoder_id", "declaration").collect()
    for encoder_id, declaration in rows.iter_rows():
        probe = json.loads(declaration).get("probe")
        if probe and encoder_id not in {*found, *registry.own_encoders}:
            found[encoder_id] = registry.probes[require_known(probe, registry.probes, "probe")]
    return found


def lineage(encoder: Encoder, weights: Mapping[str, str]) -> dict[str, str]:
    """What the commit of an encoder's row says of its weights.

    Args:
        encoder: The encoder.
        weights: File to its sha256; {} where none was read.
    """
    revision = {"revision": encoder.revision} if encoder.revision else {}
    files = {"weights": json.dumps(dict(weights), sort_keys=True)} if weights else {}
    return {"encoder_id": encoder.id, **revision, **files}


def weights_of(delta: Delta, encoder_id: str) -> dict[str, str]:
    """The weight files that an encoder last read, with their sha256; {} where none is on record.

    A model with a pinned revision has that too, under `revision`.
    """
    for commit in delta.history("silver.encoders"):
        if commit.get("encoder_id") == encoder_id and "weights" in commit:
            pinned = {"revision": commit["revision"]} if "revision" in commit else {}
            return pinned | dict(json.loads(commit["weights"]))
    return {}


def list_encoders(lake: Tables) -> pl.DataFrame:
    """The encoders that have embedded: their rows of `silver.encoders`."""
    return lake.table("silver.encoders").collect().sort("encoder_id")


def read_coverage(lake: Tables) -> pl.DataFrame:
    """How much of what tasks sample each encoder covers.

    Returns:
        encoder_id, entity_type (those that it has embedded any of), n_entities, n_needed
        (sampled by some task), share (0 to 1).
    """
    needed = lake.table("silver.samples").select("entity_type", "entity_id").unique().collect()
    found = (
        lake.table("silver.embeddings")
        .select("encoder_id", "entity_type", "entity_id")
        .collect()
        .join(needed, on=["entity_type", "entity_id"], how="semi")
        .group_by("encoder_id", "entity_type")
        .agg(pl.len().alias("n_entities"))
    )
    sizes = needed.group_by("entity_type").agg(pl.len().alias("n_needed"))
    return (
        found.join(sizes, on="entity_type")
        .with_columns((pl.col("n_entities") / pl.col("n_needed")).alias("share"))
        .sort("encoder_id", "entity_type")
    )

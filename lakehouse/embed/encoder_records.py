"""Records of the encoders in a lake: their rows, fixed probes, weight files and coverage."""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping

import polars as pl

from genebench.encoders.declaration import Encoder
from genebench.probes.declaration import Probe
from genebench.registry.registry import Registry
from lakehouse.embed.pending import ENTITY_KEY, PendingEmbedding
from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables


def encoder_row(
    plan: PendingEmbedding,
    is_complete: bool,
    stored: Mapping[str, int],
    run_id: str,
    weights: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Build the row of `silver.encoders` of one encoder.

    Args:
        plan: The encoder's planned embedding.
        is_complete: Whether all its vectors are stored; False while they are being computed.
        stored: n_entities and dimension of its stored vectors; see `stored_size`.
        run_id: The flow run.
        weights: Weight file to its sha256; None or {} where none is known.
    """
    encoder = plan.encoder
    return pl.DataFrame(
        {
            "encoder_id": [encoder.id],
            "title": [encoder.title],
            "modality": [encoder.modality],
            "is_control": [encoder.is_control],
            "encoder_digest": [plan.encoder_digest],
            "declaration": [_declaration(encoder)],
            "wanted_digest": [plan.wanted_digest],
            "n_wanted": [plan.wanted.height],
            "n_entities": [stored["n_entities"]],
            "dimension": [stored["dimension"]],
            "is_complete": [is_complete],
            "run_id": [run_id],
            "embedded_at": [dt.datetime.now(dt.UTC)],
            "weights": [json.dumps(dict(weights), sort_keys=True) if weights else None],
            "weights_revision": [encoder.revision],
        },
        schema=table("silver.encoders").schema,
    )


def is_declaration_stored(delta: Delta, encoder: Encoder) -> bool:
    """Whether the stored row of an encoder holds its current declaration.

    Parts of a declaration, such as its title, are in no digest; they can change while the vectors
    stay valid.
    """
    matching = (pl.col("encoder_id") == encoder.id) & (
        pl.col("declaration") == _declaration(encoder)
    )
    return not delta.scan("silver.encoders").filter(matching).collect().is_empty()


def _declaration(encoder: Encoder) -> str:
    return encoder.model_dump_json(by_alias=True, exclude_defaults=True)


def stored_size(delta: Delta, encoder_id: str) -> dict[str, int]:
    """Return n_entities and dimension (of the widest vector) of an encoder's stored vectors."""
    row = (
        delta.scan("silver.embeddings")
        .filter(pl.col("encoder_id") == encoder_id)
        .select(
            pl.struct("entity_type", "entity_id").n_unique().alias("n_entities"),
            pl.col("dimension").max().fill_null(0),
        )
        .collect()
    )
    return {name: int(row[name][0]) for name in ("n_entities", "dimension")}


def encoder_probes(delta: Delta, registry: Registry) -> dict[str, Probe]:
    """Map each encoder whose declaration fixes a probe to that probe.

    Declarations of the registry take precedence. A user encoder whose file is not given to this run
    counts with the declaration stored when it was encoded.

    Raises:
        LakeError: A stored declaration names a probe that the registry does not have.
    """
    found = registry.declared_probes()
    rows = delta.scan("silver.encoders").select("encoder_id", "declaration").collect()
    for encoder_id, declaration in rows.iter_rows():
        probe = json.loads(declaration).get("probe")
        if probe and encoder_id not in {*found, *registry.user_encoders}:
            found[encoder_id] = registry.probes[require_known(probe, registry.probes, "probe")]
    return found


def encoder_families(delta: Delta, registry: Registry) -> dict[str, tuple[str, ...]]:
    """Map each encoder that is scored on some families of tasks only to these families.

    Declarations are read as in `encoder_probes`.
    """
    found = {name: tuple(declared.families) for name, declared in registry.encoders.items()}
    stored = _stored_families(delta.scan("silver.encoders").collect())
    return {name: families for name, families in (stored | found).items() if families}


def _stored_families(encoders: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """Read the families that the stored declarations restrict encoders to; () for all."""
    rows = encoders.select("encoder_id", "declaration").iter_rows()
    return {name: tuple(json.loads(text or "{}").get("families", ())) for name, text in rows}


def needed_entities(
    samples: pl.DataFrame, encoder_ids: Iterable[str], families: Mapping[str, Collection[str]]
) -> pl.DataFrame:
    """List the entities that each encoder is scored on: those of all tasks, or of its families.

    Args:
        samples: family, entity_type and entity_id of `silver.samples`.
        encoder_ids: The encoders.
        families: Encoder id to the families that its declaration restricts it to.

    Returns:
        encoder_id, entity_type, entity_id; each once.
    """
    known = samples.select("family", *ENTITY_KEY).unique()
    of_all_tasks = known.select(ENTITY_KEY).unique()
    key = ("encoder_id", *ENTITY_KEY)
    rows = [pl.DataFrame(schema=dict.fromkeys(key, pl.String))]
    for encoder_id in encoder_ids:
        needed = of_all_tasks
        if encoder_id in families:
            is_scored = pl.col("family").is_in(list(families[encoder_id]))
            needed = known.filter(is_scored).select(ENTITY_KEY).unique()
        rows.append(needed.select(pl.lit(encoder_id).alias("encoder_id"), *ENTITY_KEY))
    return pl.concat(rows)


def recorded_weights(delta: Delta, encoder_id: str) -> dict[str, str]:
    """Read the weight files that the stored vectors of an encoder were computed with.

    Returns:
        File to its sha256, and `revision` to the pinned revision of a model that has one; {} if
        nothing is recorded.
    """
    row = delta.scan("silver.encoders").filter(pl.col("encoder_id") == encoder_id).collect()
    if row.height and row["weights"][0]:
        revision = row["weights_revision"][0]
        pinned = {"revision": str(revision)} if revision else {}
        return pinned | dict(json.loads(row["weights"][0]))
    # An earlier version of genebench kept them in the commit metadata.
    for commit in delta.history("silver.encoders"):
        if commit.get("encoder_id") == encoder_id and "weights" in commit:
            pinned = {"revision": commit["revision"]} if "revision" in commit else {}
            return pinned | dict(json.loads(commit["weights"]))
    return {}


def list_encoders(tables: Tables) -> pl.DataFrame:
    """List the encoders that have vectors; see `lakehouse.query.lake.Lake.encoders`."""
    return tables.table("silver.encoders").collect().sort("encoder_id")


def read_coverage(tables: Tables) -> pl.DataFrame:
    """Compute the coverage of each encoder; see `lakehouse.query.lake.Lake.coverage`."""
    samples = tables.table("silver.samples").select("family", *ENTITY_KEY).unique().collect()
    stored = _stored_families(list_encoders(tables))
    restricted = {name: families for name, families in stored.items() if families}
    needed = needed_entities(samples, stored, restricted)
    group = ["encoder_id", "entity_type"]
    found = (
        tables.table("silver.embeddings")
        .select("encoder_id", *ENTITY_KEY)
        .unique()
        .collect()
        .join(needed, on=["encoder_id", *ENTITY_KEY], how="semi")
        .group_by(group)
        .agg(pl.len().alias("n_entities"))
    )
    sizes = needed.group_by(group).agg(pl.len().alias("n_needed"))
    return (
        found.join(sizes, on=group)
        .with_columns((pl.col("n_entities") / pl.col("n_needed")).alias("share"))
        .sort("encoder_id", "entity_type")
    )

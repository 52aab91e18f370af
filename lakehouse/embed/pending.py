"""Plans the embedding of an encoder: which entities need a vector and have none yet.

A stored vector is valid while the digest of its encoder and the digest of its input are unchanged.
Only entities that a task of the encoder's families samples are embedded, because no other vectors
are ever scored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from genebench.digest import digest_frame, digest_json
from genebench.encoders.declaration import Encoder, parse_arguments
from genebench.entities.inputs import render_contents
from genebench.errors import EncoderUnavailable
from genebench.tasks.description import label_columns
from lakehouse.embed.stored_vectors import keep_one_vector
from lakehouse.tables.delta import Delta

CHUNK_ENTITIES = 2048
ENTITY_KEY = ["entity_type", "entity_id"]


@dataclass(frozen=True)
class PendingEmbedding:
    """The embedding of one encoder as planned, and what of it is still missing.

    Attributes:
        encoder: The encoder.
        encoder_digest: Digest of everything its vectors depend on, weights included.
        wanted: entity_type, entity_id, contents and input_digest of all entities that should have
            a vector.
        missing: The rows of `wanted` without a valid vector.
        has_stale: Whether stored vectors are outdated or stored twice, and must be removed.
        is_done: Whether the encoder is recorded as complete with exactly these vectors.
    """

    encoder: Encoder
    encoder_digest: str
    wanted: pl.DataFrame
    missing: pl.DataFrame
    has_stale: bool
    is_done: bool

    @property
    def wanted_digest(self) -> str:
        """Digest of the entities that should have a vector, and of their inputs."""
        return digest_frame(self.wanted.select(*ENTITY_KEY, "input_digest"))

    def without(self, rows: pl.DataFrame) -> "PendingEmbedding":
        """Return the plan without the missing entities of some rows of `silver.embeddings`."""
        return replace(self, missing=self.missing.join(rows, on=ENTITY_KEY, how="anti"))

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Split the missing entities into chunks of one entity type, longest contents first.

        A fitted encoder (such as TF-IDF) gets all its entities in one chunk, with those that have a
        vector already. So does an encoder that reads a file of vectors, to read it only once.
        """
        rows = self.wanted if self.encoder.is_fitted else self.missing
        is_whole = self.encoder.is_fitted or self.encoder.reads in ("identifiers", "nothing")
        size = max(rows.height, 1) if is_whole else CHUNK_ENTITIES
        length = pl.col("contents").list.eval(pl.element().str.len_chars()).list.sum()
        for _, of_type in sorted(rows.partition_by("entity_type", as_dict=True).items()):
            ordered = of_type.sort([length, pl.col("entity_id")], descending=[True, False])
            yield from ordered.iter_slices(size)


def plan_embedding(
    delta: Delta, encoder: Encoder, encoder_digest: str, base_digests: Mapping[str, str]
) -> PendingEmbedding:
    """Compare the vectors that an encoder should have with those that are stored.

    Args:
        delta: The tables of the lake.
        encoder: The encoder.
        encoder_digest: Digest of everything its vectors depend on, weights included.
        base_digests: Base encoder (one whose vectors this encoder reads) to its current digest.

    Raises:
        EncoderUnavailable: The lake has no task of the encoder's families, or no input that it
            reads, or the vectors of a base encoder are missing, incomplete or outdated.
    """
    _require_complete_bases(delta, encoder, base_digests)
    samples = delta.scan("silver.samples").filter(
        pl.col("entity_type").is_in(list(encoder.entities))
    )
    if encoder.families:
        samples = samples.filter(pl.col("family").is_in(list(encoder.families)))
    needed = samples.select(ENTITY_KEY).unique().collect()
    if encoder.families and needed.is_empty():
        raise EncoderUnavailable(
            f"{encoder.id}: it is scored on the family {' or '.join(encoder.families)} only, and "
            "the lake has no task of it; curate such a task, or leave the encoder out"
        )
    wanted = pl.concat(
        [
            _wanted_rows(
                delta, encoder, entity_type, needed.filter(pl.col("entity_type") == entity_type)
            )
            for entity_type in encoder.entities
        ]
    )
    if not wanted.height:
        raise EncoderUnavailable(_describe_missing_input(encoder))
    stored = (
        delta.scan("silver.embeddings")
        .filter(pl.col("encoder_id") == encoder.id)
        .select(*ENTITY_KEY, "encoder_digest", "input_digest")
        .collect()
    )
    valid = (
        stored.filter(pl.col("encoder_digest") == encoder_digest)
        .join(wanted, on=[*ENTITY_KEY, "input_digest"], how="semi")
        .unique(ENTITY_KEY)
    )
    complete = (
        delta.scan("silver.encoders")
        .filter(
            (pl.col("encoder_id") == encoder.id)
            & (pl.col("encoder_digest") == encoder_digest)
            & (pl.col("wanted_digest") == digest_frame(wanted.select(*ENTITY_KEY, "input_digest")))
            & (pl.col("n_entities") == valid.height)
            & pl.col("is_complete")
        )
        .collect()
    )
    has_stale = stored.height > valid.height
    return PendingEmbedding(
        encoder,
        encoder_digest,
        wanted,
        wanted.join(valid, on=ENTITY_KEY, how="anti"),
        has_stale,
        bool(complete.height) and not has_stale,
    )


def _require_complete_bases(
    delta: Delta, encoder: Encoder, base_digests: Mapping[str, str]
) -> None:
    rows = delta.scan("silver.encoders").select("encoder_id", "encoder_digest", "is_complete")
    found = {base: (digest, is_complete) for base, digest, is_complete in rows.collect().rows()}
    for base, digest in base_digests.items():
        stored, is_complete = found.get(base, (None, False))
        if stored == digest and is_complete:
            continue
        if stored is None:
            reason = "has no vectors"
        elif stored != digest:
            reason = "has vectors of an earlier declaration or of other weights"
        else:
            reason = "was interrupted and has no complete vectors"
        raise EncoderUnavailable(
            f"{encoder.id}: its base encoder {base!r} {reason}; run `genebench embed {base}` first"
        )


def _describe_missing_input(encoder: Encoder) -> str:
    if encoder.bases():
        return f"{encoder.id}: no entity has vectors of {' and '.join(encoder.bases())}"
    return (
        f"{encoder.id}: the lake has no {encoder.reads} input for any entity that a task samples; "
        "run `genebench curate`, or check that the profile declares such inputs"
    )


def _wanted_rows(
    delta: Delta, encoder: Encoder, entity_type: str, needed: pl.DataFrame
) -> pl.DataFrame:
    """Return entity_type, entity_id, contents and input_digest of what should have a vector."""
    if encoder.reads in ("text", "dna", "protein"):
        inputs = (
            delta.scan("silver.inputs")
            .filter((pl.col("modality") == encoder.reads) & (pl.col("entity_type") == entity_type))
            .collect()
        )
        rendered = (
            render_contents(inputs, encoder, entity_type, needed["entity_id"])
            if inputs.height
            else _rows_without_contents(needed.clear(), "")
        )
    elif encoder.reads == "vectors":
        bases = encoder.bases(entity_type)
        read = _vector_digests(delta, bases, entity_type)
        covered = [set(rows["entity_id"]) for rows in read.values()]
        in_all_bases = set.intersection(*covered) if covered else set()
        digest = digest_json({base: digest_frame(rows) for base, rows in read.items()})
        rendered = _rows_without_contents(
            needed.filter(pl.col("entity_id").is_in(list(in_all_bases))), digest
        )
    elif encoder.reads == "labels":
        rendered = _rows_without_contents(needed, digest_frame(oracle_labels(delta)))
    elif encoder.reads == "identifiers":
        rendered = _rows_without_contents(needed, _identifiers_digest(delta, encoder, entity_type))
    else:
        rendered = _rows_without_contents(needed, "")
    return rendered.select(
        pl.lit(entity_type).alias("entity_type"), "entity_id", "contents", "input_digest"
    )


def _rows_without_contents(needed: pl.DataFrame, input_digest: str) -> pl.DataFrame:
    return needed.select(
        "entity_id",
        pl.lit([], dtype=pl.List(pl.String)).alias("contents"),
        pl.lit(input_digest).alias("input_digest"),
    )


def _identifiers_digest(delta: Delta, encoder: Encoder, entity_type: str) -> str:
    """Digest of the cross-references by which an encoder finds entities in its vector file."""
    namespace = parse_arguments(encoder).model_dump()["namespace"]
    read = delta.scan("silver.xrefs").filter(
        (pl.col("entity_type") == entity_type) & (pl.col("namespace") == namespace)
    )
    return digest_frame(read.select("identifier", "entity_id", "status").collect())


def _vector_digests(
    delta: Delta, encoder_ids: Sequence[str], entity_type: str
) -> dict[str, pl.DataFrame]:
    rows = (
        delta.scan("silver.embeddings")
        .filter(
            pl.col("encoder_id").is_in(list(encoder_ids)) & (pl.col("entity_type") == entity_type)
        )
        .select("encoder_id", "entity_id", "vector_digest")
        .collect()
    )
    rows = keep_one_vector(rows.with_columns(pl.lit(entity_type).alias("entity_type")))
    rows = rows.drop("entity_type")
    return {
        encoder_id: rows.filter(pl.col("encoder_id") == encoder_id).drop("encoder_id")
        for encoder_id in encoder_ids
    }


def oracle_labels(delta: Delta) -> pl.DataFrame:
    """Read the labels of all single-entity tasks, one column each, for the `oracle` control."""
    return label_columns(
        delta.scan("silver.tasks").collect(),
        delta.scan("silver.samples").collect(),
        delta.scan("silver.labels").collect(),
    )

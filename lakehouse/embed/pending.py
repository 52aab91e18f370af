"""What is left to embed, and vectors as rows of `silver.embeddings`.

An entity is embedded once for each digest of its encoder and of what the encoder reads of it.
Only entities that some task samples are embedded: vectors that nothing is scored on cost disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from genebench.digest import digest_frame, digest_json
from genebench.encoders.declaration import Encoder, parse_arguments
from genebench.entities.inputs import render_contents
from genebench.errors import EncoderUnavailable
from genebench.tasks.description import label_columns
from lakehouse.tables.delta import Delta

CHUNK_ENTITIES = 2048
WHO = ["entity_type", "entity_id"]


@dataclass(frozen=True)
class PendingEmbedding:
    """The work of one encoder.

    Attributes:
        encoder: The encoder.
        encoder_digest: Of what decides its vectors, weights included.
        wanted: entity_type, entity_id, contents, input_digest: all that should have a vector.
        pending: The rows of `wanted` without one.
        has_stale: Whether vectors are stored that should no longer be there.
        is_done: Whether an earlier run finished exactly this work and its vectors are there.
    """

    encoder: Encoder
    encoder_digest: str
    wanted: pl.DataFrame
    pending: pl.DataFrame
    has_stale: bool
    is_done: bool

    @property
    def wanted_digest(self) -> str:
        """Digest of what should have a vector, and of what is read of it."""
        return digest_frame(self.wanted.select(*WHO, "input_digest"))

    def chunks(self) -> Iterator[pl.DataFrame]:
        """The pending entities in pieces of one type, longest contents first.

        A fitted encoder sees all of its entities at once, and a table of vectors is read once.
        """
        rows = self.wanted if self.encoder.is_fitted else self.pending
        is_whole = self.encoder.is_fitted or self.encoder.reads in ("identifiers", "nothing")
        size = max(rows.height, 1) if is_whole else CHUNK_ENTITIES
        length = pl.col("contents").list.eval(pl.element().str.len_chars()).list.sum()
        for _, of_type in sorted(rows.partition_by("entity_type", as_dict=True).items()):
            ordered = of_type.sort([length, pl.col("entity_id")], descending=[True, False])
            yield from ordered.iter_slices(size)


def plan_embedding(
    delta: Delta, encoder: Encoder, encoder_digest: str, base_digests: Mapping[str, str]
) -> PendingEmbedding:
    """Compare what an encoder should have embedded with what is stored.

    Args:
        delta: The lake.
        encoder: The encoder.
        encoder_digest: Of what decides its vectors.
        base_digests: The encoders that it is made from, with the digests that they have now.

    Raises:
        EncoderUnavailable: The lake has nothing that the encoder reads, or not all vectors of a
            base, or those of another digest.
    """
    _refuse_unfinished_bases(delta, encoder, base_digests)
    needed = (
        delta.scan("silver.samples")
        .filter(pl.col("entity_type").is_in(list(encoder.entities)))
        .select(WHO)
        .unique()
        .collect()
    )
    wanted = pl.concat(
        [
            _wanted(
                delta, encoder, entity_type, needed.filter(pl.col("entity_type") == entity_type)
            )
            for entity_type in encoder.entities
        ]
    )
    if not wanted.height:
        raise EncoderUnavailable(_nothing_to_read(encoder))
    stored = (
        delta.scan("silver.embeddings")
        .filter(pl.col("encoder_id") == encoder.id)
        .select(*WHO, "encoder_digest", "input_digest")
        .collect()
    )
    good = stored.filter(pl.col("encoder_digest") == encoder_digest).join(
        wanted, on=[*WHO, "input_digest"], how="semi"
    )
    finished = (
        delta.scan("silver.encoders")
        .filter(
            (pl.col("encoder_id") == encoder.id)
            & (pl.col("encoder_digest") == encoder_digest)
            & (pl.col("wanted_digest") == digest_frame(wanted.select(*WHO, "input_digest")))
            & (pl.col("n_entities") == good.height)
            & pl.col("is_complete")
        )
        .collect()
    )
    has_stale = stored.height > good.height
    return PendingEmbedding(
        encoder,
        encoder_digest,
        wanted,
        wanted.join(good, on=WHO, how="anti"),
        has_stale,
        bool(finished.height) and not has_stale,
    )


def _refuse_unfinished_bases(
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
            reason = "has vectors of another declaration or of other weights"
        else:
            reason = "was interrupted while it embedded"
        raise EncoderUnavailable(
            f"{encoder.id}: its base {base!r} {reason}; run `genebench embed {base}` first"
        )


def _nothing_to_read(encoder: Encoder) -> str:
    if encoder.bases():
        return f"{encoder.id}: no entity has a vector by {' and '.join(encoder.bases())}"
    return (
        f"{encoder.id}: the lake has no {encoder.reads} input for any entity that a task samples; "
        "run `genebench curate`, or check that the profile declares such inputs"
    )


def _wanted(delta: Delta, encoder: Encoder, entity_type: str, needed: pl.DataFrame) -> pl.DataFrame:
    """entity_type, entity_id, contents and input_digest of what should have a vector."""
    if encoder.reads in ("text", "dna", "protein"):
        inputs = (
            delta.scan("silver.inputs")
            .filter((pl.col("modality") == encoder.reads) & (pl.col("entity_type") == entity_type))
            .collect()
        )
        rendered = (
            render_contents(inputs, encoder, entity_type, needed["entity_id"])
            if inputs.height
            else _plain(needed.clear(), "")
        )
    elif encoder.reads == "vectors":
        bases = encoder.bases(entity_type)
        read = _digests_of(delta, bases, entity_type)
        covered = [set(rows["entity_id"]) for rows in read.values()]
        both = set.intersection(*covered) if covered else set()
        digest = digest_json({base: digest_frame(rows) for base, rows in read.items()})
        rendered = _plain(needed.filter(pl.col("entity_id").is_in(list(both))), digest)
    elif encoder.reads == "labels":
        rendered = _plain(needed, digest_frame(oracle_labels(delta)))
    elif encoder.reads == "identifiers":
        rendered = _plain(needed, _identifiers_digest(delta, encoder, entity_type))
    else:
        rendered = _plain(needed, "")
    return rendered.select(
        pl.lit(entity_type).alias("entity_type"), "entity_id", "contents", "input_digest"
    )


def _plain(needed: pl.DataFrame, input_digest: str) -> pl.DataFrame:
    return needed.select(
        "entity_id",
        pl.lit([], dtype=pl.List(pl.String)).alias("contents"),
        pl.lit(input_digest).alias("input_digest"),
    )


def _identifiers_digest(delta: Delta, encoder: Encoder, entity_type: str) -> str:
    """Digest of the identifiers by which an encoder finds entities in its table."""
    namespace = parse_arguments(encoder).model_dump()["namespace"]
    read = delta.scan("silver.xrefs").filter(
        (pl.col("entity_type") == entity_type) & (pl.col("namespace") == namespace)
    )
    return digest_frame(read.select("identifier", "entity_id", "status").collect())


def _digests_of(
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
    return {
        encoder_id: rows.filter(pl.col("encoder_id") == encoder_id).drop("encoder_id")
        for encoder_id in encoder_ids
    }


def oracle_labels(delta: Delta) -> pl.DataFrame:
    """The labels of all single-entity tasks side by side."""
    return label_columns(
        delta.scan("silver.tasks").collect(),
        delta.scan("silver.samples").collect(),
        delta.scan("silver.labels").collect(),
    )

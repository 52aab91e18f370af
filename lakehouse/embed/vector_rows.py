"""Builds the input of an encoder's loader, and the rows of `silver.embeddings` from its output."""

import datetime as dt
from collections.abc import Mapping

import polars as pl

from genebench.digest import digest_vectors
from genebench.encoders.loader import LoaderInput, Vectors
from lakehouse.embed.pending import ENTITY_KEY, PendingEmbedding, oracle_labels
from lakehouse.embed.stored_vectors import keep_one_vector, read_vectors
from lakehouse.tables.delta import Delta
from lakehouse.tables.vectors import to_vectors


def loader_input(delta: Delta, plan: PendingEmbedding, chunk: pl.DataFrame) -> LoaderInput:
    """Build the input of an encoder's loader for a chunk of entities of one type."""
    entity_type = chunk["entity_type"][0]
    encoder = plan.encoder
    xrefs = labels = None
    known_ids: list[str] = []
    if encoder.reads == "identifiers":
        of_type = pl.col("entity_type") == entity_type
        xrefs = delta.scan("silver.xrefs").filter(of_type).collect()
        entities = delta.scan("silver.entities").filter(of_type).select("entity_id").collect()
        known_ids = entities["entity_id"].to_list()
    if encoder.reads == "labels":
        labels = oracle_labels(delta).filter(pl.col("entity_type") == entity_type)
    return LoaderInput(
        entity_type,
        chunk["entity_id"].to_list(),
        [tuple(contents) for contents in chunk["contents"].to_list()],
        xrefs,
        lambda encoder_id: read_vectors(delta, encoder_id, entity_type),
        labels,
        known_ids,
    )


def embedding_rows(
    plan: PendingEmbedding, chunk: pl.DataFrame, vectors: Vectors, run_id: str
) -> pl.DataFrame:
    """Build the rows of `silver.embeddings`; entities that the loader left out have no row."""
    entity_type = chunk["entity_type"][0]
    digests = dict(chunk.select("entity_id", "input_digest").iter_rows())
    kept = [i for i, entity_id in enumerate(vectors.entity_ids) if entity_id in digests]
    matrix = vectors.matrix[kept] if len(kept) < len(vectors.entity_ids) else vectors.matrix
    ids = [vectors.entity_ids[i] for i in kept]
    return pl.DataFrame(
        {
            "entity_id": ids,
            "input_digest": [digests[entity_id] for entity_id in ids],
            "vector_digest": digest_vectors(matrix),
            "n_parts": vectors.n_parts[kept],
        },
        schema_overrides={"entity_id": pl.String, "input_digest": pl.String},
    ).select(
        pl.lit(plan.encoder.id).alias("encoder_id"),
        pl.lit(plan.encoder_digest).alias("encoder_digest"),
        pl.lit(entity_type).alias("entity_type"),
        "entity_id",
        to_vectors(matrix),
        pl.lit(matrix.shape[1]).cast(pl.Int32).alias("dimension"),
        "vector_digest",
        "input_digest",
        "n_parts",
        pl.lit(run_id).alias("run_id"),
        pl.lit(dt.datetime.now(dt.UTC)).alias("embedded_at"),
    )


def copied_rows(
    delta: Delta, plan: PendingEmbedding, same_model: Mapping[str, str], run_id: str
) -> pl.DataFrame:
    """Build rows of missing entities from vectors that other encoders have of the same contents.

    Args:
        delta: The tables of the lake.
        plan: The encoder's planned embedding.
        same_model: Encoders of the same model, by id, with their digests; see
            `genebench.encoders.encoder_digest.encoders_of_same_model`.
        run_id: The flow run.
    """
    stored = (
        delta.scan("silver.embeddings")
        .filter(pl.col("encoder_id").is_in(list(same_model)))
        .filter(pl.col("encoder_digest").is_in(list(same_model.values())))
        .collect()
        .join(plan.missing, on=[*ENTITY_KEY, "input_digest"], how="semi")
    )
    return (
        stored.sort("encoder_id", "vector_digest")
        .unique(ENTITY_KEY, keep="first")
        .with_columns(
            pl.lit(plan.encoder.id).alias("encoder_id"),
            pl.lit(plan.encoder_digest).alias("encoder_digest"),
            pl.lit(run_id).alias("run_id"),
            pl.lit(dt.datetime.now(dt.UTC)).alias("embedded_at"),
        )
    )


def reusable_rows(delta: Delta, plan: PendingEmbedding) -> pl.DataFrame:
    """Read the stored rows of `silver.embeddings` that are still valid for a planned embedding."""
    return keep_one_vector(
        delta.scan("silver.embeddings")
        .filter(
            (pl.col("encoder_id") == plan.encoder.id)
            & (pl.col("encoder_digest") == plan.encoder_digest)
        )
        .collect()
        .join(plan.wanted, on=[*ENTITY_KEY, "input_digest"], how="semi")
    )

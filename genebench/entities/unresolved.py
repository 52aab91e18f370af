"""Entities that a source names and the catalogue does not: they stand for themselves.

A published task may hold rows whose gene is withdrawn, unknown to the catalogue's version, or
named by an identifier with two readings. Guessing would mislabel and dropping would lose rows
unseen, so a task may keep them under the identifier that its source uses (`ensembl:ENSG0000…`,
`hgnc.symbol:SPHAR`). They are listed in `silver.entities` under a locus group of their own. Most
encoders know nothing of them, and then they are outside of every shared universe.
"""

import polars as pl

from genebench.entities.entity_catalogue import (
    ENTITY_COLUMNS,
    XREF_COLUMNS,
    Catalogue,
    disease_curies,
)
from genebench.entities.identifiers import APPROVED, clean_identifier

OUTSIDE = "not in the catalogue"
# Prefixes of https://bioregistry.io.
PREFIXES = {
    "ensembl": "ensembl",
    "entrez": "ncbigene",
    "hgnc": "hgnc",
    "symbol": "hgnc.symbol",
    "uniprot": "uniprot",
}
LOCAL_ID = r"^[A-Za-z0-9_.-]+$"


def outside_ids(identifiers: pl.Series, namespace: str, entity_type: str) -> pl.Series:
    """The CURIE of each identifier in its own namespace; null where it cannot be part of one.

    >>> outside_ids(pl.Series(["SPHAR", "18S rRNA"]), "symbol", "gene").to_list()
    ['hgnc.symbol:SPHAR', None]
    """
    if entity_type == "disease":
        return disease_curies(identifiers)
    cleaned = identifiers.to_frame("identifier").select(clean_identifier("identifier", namespace))
    fits = pl.col("identifier").str.contains(LOCAL_ID)
    curie = pl.lit(f"{PREFIXES[namespace]}:") + pl.col("identifier")
    return cleaned.select(pl.when(fits).then(curie)).to_series().alias("entity_id")


def list_outsiders(sampled: pl.DataFrame, known: Catalogue) -> Catalogue:
    """The entities that samples name and the catalogue does not.

    Args:
        sampled: entity_type, entity_id and snapshot_id of every slot of every sample; rows may
            repeat.
        known: Entities and xrefs of the catalogue.

    Returns:
        Rows of `silver.entities`, and of `silver.xrefs` for identifiers that the catalogue does
        not know; one with two readings stays ambiguous and gets none.
    """
    outside = (
        sampled.join(known.entities, on=["entity_type", "entity_id"], how="anti")
        .sort("entity_type", "entity_id", "snapshot_id")
        .unique(["entity_type", "entity_id"], keep="first", maintain_order=True)
        .with_columns(
            pl.col("entity_id").str.splitn(":", 2).struct.unnest().name.map(_part_name),
        )
    )
    entities = outside.select(
        "entity_type",
        "entity_id",
        pl.col("identifier").alias("symbol"),
        pl.col("identifier").alias("name"),
        pl.lit(OUTSIDE).alias("locus_group"),
        "snapshot_id",
    )
    namespaces = {prefix: namespace for namespace, prefix in PREFIXES.items()}
    xrefs = outside.with_columns(
        pl.col("prefix")
        .replace_strict(namespaces, default=None, return_dtype=pl.String)
        .alias("namespace"),
        pl.lit(APPROVED).alias("status"),
        pl.lit(False).alias("is_ambiguous"),
    ).drop_nulls("namespace")
    fresh = xrefs.join(known.xrefs, on=["entity_type", "namespace", "identifier"], how="anti")
    return Catalogue(entities.select(ENTITY_COLUMNS), fresh.select(XREF_COLUMNS))


def _part_name(field: str) -> str:
    return {"field_0": "prefix", "field_1": "identifier"}[field]

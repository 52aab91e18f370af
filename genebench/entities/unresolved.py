"""Unresolved identifiers as entities: keeps rows whose entity the catalogue lacks.

A published task may contain genes that are withdrawn, missing from this version of the catalogue,
or named by an ambiguous identifier. A task can keep such rows under the source's own identifier
(`ensembl:ENSG0000…`, `hgnc.symbol:SPHAR`) instead of dropping them. `silver.entities` lists these
entities with a separate locus group. Most encoders have no vector for them, so shared universes
exclude them.
"""

import polars as pl

from genebench.entities.entity_catalogue import (
    ENTITY_COLUMNS,
    XREF_COLUMNS,
    Catalogue,
    disease_curies,
)
from genebench.entities.identifiers import APPROVED, clean_identifier

NOT_IN_CATALOGUE = "not in the catalogue"
# Prefixes of https://bioregistry.io.
PREFIXES = {
    "ensembl": "ensembl",
    "entrez": "ncbigene",
    "hgnc": "hgnc",
    "symbol": "hgnc.symbol",
    "uniprot": "uniprot",
}
LOCAL_ID = r"^[A-Za-z0-9_.-]+$"


def unresolved_ids(identifiers: pl.Series, namespace: str, entity_type: str) -> pl.Series:
    """Return each identifier as a CURIE of its namespace; null where it has invalid characters.

    >>> unresolved_ids(pl.Series(["SPHAR", "18S rRNA"]), "symbol", "gene").to_list()
    ['hgnc.symbol:SPHAR', None]
    """
    if entity_type == "disease":
        return disease_curies(identifiers)
    cleaned = identifiers.to_frame("identifier").select(clean_identifier("identifier", namespace))
    fits = pl.col("identifier").str.contains(LOCAL_ID)
    curie = pl.lit(f"{PREFIXES[namespace]}:") + pl.col("identifier")
    return cleaned.select(pl.when(fits).then(curie)).to_series().alias("entity_id")


def list_unresolved_entities(sampled: pl.DataFrame, known: Catalogue) -> Catalogue:
    """List the entities of samples that the catalogue lacks.

    Args:
        sampled: entity_type, entity_id and snapshot_id of every slot of every sample; rows may
            repeat.
        known: Entities and xrefs of the catalogue.

    Returns:
        Rows of `silver.entities`, and rows of `silver.xrefs` for identifiers that the catalogue
        lacks. Ambiguous identifiers stay ambiguous and get no xref.
    """
    unresolved = (
        sampled.join(known.entities, on=["entity_type", "entity_id"], how="anti")
        .sort("entity_type", "entity_id", "snapshot_id")
        .unique(["entity_type", "entity_id"], keep="first", maintain_order=True)
        .with_columns(
            pl.col("entity_id").str.splitn(":", 2).struct.unnest().name.map(_part_name),
        )
    )
    entities = unresolved.select(
        "entity_type",
        "entity_id",
        pl.col("identifier").alias("symbol"),
        pl.col("identifier").alias("name"),
        pl.lit(NOT_IN_CATALOGUE).alias("locus_group"),
        "snapshot_id",
    )
    namespaces = {prefix: namespace for namespace, prefix in PREFIXES.items()}
    xrefs = unresolved.with_columns(
        pl.col("prefix")
        .replace_strict(namespaces, default=None, return_dtype=pl.String)
        .alias("namespace"),
        pl.lit(APPROVED).alias("status"),
        pl.lit(False).alias("is_ambiguous"),
    ).drop_nulls("namespace")
    new = xrefs.join(known.xrefs, on=["entity_type", "namespace", "identifier"], how="anti")
    return Catalogue(entities.select(ENTITY_COLUMNS), new.select(XREF_COLUMNS))


def _part_name(field: str) -> str:
    return {"field_0": "prefix", "field_1": "identifier"}[field]

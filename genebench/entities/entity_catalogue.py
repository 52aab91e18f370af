"""Builds the catalogue of entities and their cross-references (xrefs) from a source file.

An entity's id is a CURIE that stays the same when its symbol changes: `ncbigene:672`, `hgnc:1100`,
`efo:0000270`.
"""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from genebench.entities.identifiers import (
    ALIAS,
    APPROVED,
    N_EXAMPLES,
    PREVIOUS,
    clean_identifier,
    mark_ambiguous,
)
from genebench.errors import SourceError

GENE, DISEASE = "gene", "disease"
# Longest chain of merged HGNC entries that is followed.
MAX_MERGES = 20

ENTITY_COLUMNS = [
    "entity_type",
    "entity_id",
    "symbol",
    "name",
    "locus_group",
    "snapshot_id",
]
XREF_COLUMNS = [
    "entity_type",
    "namespace",
    "identifier",
    "entity_id",
    "status",
    "is_ambiguous",
    "snapshot_id",
]


class Catalogue(NamedTuple):
    """Rows of `silver.entities` and `silver.xrefs`."""

    entities: pl.DataFrame
    xrefs: pl.DataFrame


def build_catalogue(
    frame: pl.DataFrame,
    source_file_id: str,
    snapshot_id: str = "",
    withdrawn: pl.DataFrame | None = None,
) -> Catalogue:
    """Build entities and xrefs from the rows of a catalogue file.

    Args:
        frame: The rows of the file, as `read_source_file` returns them.
        source_file_id: `bioconductor.genes`, `hgnc.complete_set` or `opentargets.diseases`.
        snapshot_id: The snapshot that the rows come from.
        withdrawn: The rows of `hgnc.withdrawn`. The symbol and id of an entry that was merged into
            an approved one become previous identifiers of the approved entry.

    Returns:
        Entities sorted by id, and xrefs, one for each (namespace, identifier, entity).

    Raises:
        SourceError: The file is not a catalogue, is empty, or has an entity without a symbol or
            a duplicate entity.
    """
    if source_file_id not in _CATALOGUES:
        known = ", ".join(_CATALOGUES)
        raise SourceError(
            f"{source_file_id} is no catalogue of entities; the catalogues are {known}"
        )
    entities, xrefs = _CATALOGUES[source_file_id](frame)
    if withdrawn is not None:
        xrefs = pl.concat([xrefs, _merged_xrefs(withdrawn, entities)])
    _check_entities(entities, source_file_id)
    return Catalogue(
        entities.with_columns(
            pl.col("name").fill_null(""), pl.lit(snapshot_id).alias("snapshot_id")
        )
        .select(ENTITY_COLUMNS)
        .sort("entity_id"),
        mark_ambiguous(xrefs)
        .with_columns(pl.lit(snapshot_id).alias("snapshot_id"))
        .select(XREF_COLUMNS)
        .sort("namespace", "identifier", "entity_id"),
    )


def _bioconductor_genes(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = frame.with_columns(("ncbigene:" + pl.col("entrez_id")).alias("entity_id"))
    entities = rows.select(
        pl.lit(GENE).alias("entity_type"),
        "entity_id",
        "symbol",
        "name",
        pl.col("gene_type").alias("locus_group"),
    )
    aliases = ["alias_symbols"] if "alias_symbols" in frame.columns else []
    return entities, pl.concat(
        [
            _xrefs(rows, "entrez_id", "entrez", APPROVED),
            _xrefs(rows, "symbol", "symbol", APPROVED),
            *(_xrefs(rows, column, "symbol", ALIAS) for column in aliases),
            _xrefs(rows, "ensembl_gene_ids", "ensembl", APPROVED),
            _xrefs(rows, "uniprot_ids", "uniprot", APPROVED),
        ]
    )


def _hgnc_complete_set(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    if "status" in frame.columns:
        frame = frame.filter(pl.col("status").is_null() | (pl.col("status") == "Approved"))
    rows = frame.with_columns(
        ("hgnc:" + pl.col("hgnc_id").str.strip_prefix("HGNC:")).alias("entity_id")
    )
    entities = rows.select(
        pl.lit(GENE).alias("entity_type"), "entity_id", "symbol", "name", "locus_group"
    )
    return entities, pl.concat(
        [
            _xrefs(rows, "hgnc_id", "hgnc", APPROVED),
            _xrefs(rows, "symbol", "symbol", APPROVED),
            _xrefs(rows, "prev_symbol", "symbol", PREVIOUS),
            _xrefs(rows, "alias_symbol", "symbol", ALIAS),
            _xrefs(rows, "ensembl_gene_id", "ensembl", APPROVED),
            _xrefs(rows, "entrez_id", "entrez", APPROVED),
            _xrefs(rows, "uniprot_ids", "uniprot", APPROVED),
        ]
    )


def _opentargets_diseases(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = frame.with_columns(disease_curies(frame["id"]).alias("entity_id"))
    bad = rows.filter(pl.col("entity_id").is_null())
    if bad.height:
        raise SourceError(
            f"opentargets.diseases: {bad.height} ids are not of the form EFO_0000270, first "
            f"{bad['id'][0]!r}; run `genebench refresh opentargets.diseases`, or extend "
            "`disease_curies` in genebench/entities/entity_catalogue.py"
        )
    entities = rows.select(
        pl.lit(DISEASE).alias("entity_type"),
        "entity_id",
        pl.col("id").alias("symbol"),
        "name",
        pl.lit(None, pl.String).alias("locus_group"),
    )
    return entities, _xrefs(rows, "id", "efo", APPROVED, DISEASE)


_CATALOGUES: dict[str, Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]] = {
    "bioconductor.genes": _bioconductor_genes,
    "hgnc.complete_set": _hgnc_complete_set,
    "opentargets.diseases": _opentargets_diseases,
}


def disease_curies(identifiers: pl.Series) -> pl.Series:
    """Convert Open Targets ids to CURIEs: `EFO_0000270` to `efo:0000270`; null where malformed."""
    pattern = r"^([A-Za-z]+)[_:](\w+)$"
    parts = identifiers.to_frame("identifier").select(
        pl.col("identifier").str.extract(pattern, 1).str.to_lowercase()
        + ":"
        + pl.col("identifier").str.extract(pattern, 2)
    )
    return parts.to_series().alias("entity_id")


def _xrefs(
    rows: pl.DataFrame,
    column: str,
    namespace: str,
    status: str,
    entity_type: str = GENE,
) -> pl.DataFrame:
    """Xrefs of one column, whose cells may list several identifiers separated by `|`."""
    listed = rows.select("entity_id", pl.col(column).str.split("|").alias("identifier"))
    return (
        listed.explode("identifier")
        .with_columns(clean_identifier("identifier", namespace))
        .filter(pl.col("identifier").str.len_bytes() > 0)
        .select(
            pl.lit(entity_type).alias("entity_type"),
            pl.lit(namespace).alias("namespace"),
            "identifier",
            "entity_id",
            pl.lit(status).alias("status"),
        )
    )


def _merged_xrefs(withdrawn: pl.DataFrame, entities: pl.DataFrame) -> pl.DataFrame:
    """Previous identifiers of the entities into which withdrawn entries were merged or split."""
    merged = (
        withdrawn.select(
            "HGNC_ID",
            "WITHDRAWN_SYMBOL",
            pl.col("MERGED_INTO_REPORTS").str.extract_all(r"HGNC:\d+").alias("target"),
        )
        .explode("target")
        .drop_nulls("target")
    )
    # The target of a merge may itself have been merged; each round follows one more step.
    steps = merged.select(target="HGNC_ID", next="target")
    for _ in range(MAX_MERGES):
        if merged.join(steps, on="target", how="semi").is_empty():
            break
        merged = (
            merged.join(steps, on="target", how="left")
            .select("HGNC_ID", "WITHDRAWN_SYMBOL", pl.coalesce("next", "target").alias("target"))
            .unique(maintain_order=True)
        )
    targets = merged.with_columns(
        ("hgnc:" + pl.col("target").str.strip_prefix("HGNC:")).alias("entity_id")
    ).join(entities.select("entity_id"), on="entity_id", how="semi")
    return pl.concat(
        [
            _xrefs(targets, "HGNC_ID", "hgnc", PREVIOUS),
            _xrefs(targets, "WITHDRAWN_SYMBOL", "symbol", PREVIOUS),
        ]
    )


def _check_entities(entities: pl.DataFrame, source_file_id: str) -> None:
    if not entities.height:
        raise SourceError(
            f"{source_file_id}: the file has no entity; run `genebench refresh {source_file_id}`"
        )
    nameless = entities.filter(pl.col("entity_id").is_null() | pl.col("symbol").is_null())
    if nameless.height:
        raise SourceError(
            f"{source_file_id}: {nameless.height} rows have no id or no symbol, first "
            f"{nameless.row(0)}; run `genebench refresh {source_file_id}`, or report it to the "
            "file's publisher"
        )
    unique = [("entity_id", entities["entity_id"])]
    # HGNC guarantees that symbols are unique; NCBI does not (some tRNA genes share a symbol).
    if source_file_id.startswith("hgnc."):
        unique.append(("symbol", entities["symbol"]))
    for what, values in unique:
        repeated = values.filter(values.is_duplicated()).unique().sort()
        if len(repeated):
            raise SourceError(
                f"{source_file_id}: {len(repeated)} values of {what} are duplicated: "
                f"{', '.join(repeated[:N_EXAMPLES])}; remove the duplicates, or run `genebench "
                f"refresh {source_file_id}`"
            )

"""Who is who: a source's catalogue becomes entities and their outside identifiers.

An entity's id is a CURIE that does not change when its symbol does: `ncbigene:672`, `hgnc:1100`,
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
    Resolution,
    Resolver,
    clean_identifier,
    mark_ambiguous,
)
from genebench.errors import SourceError

__all__ = ["Catalogue", "Resolution", "Resolver", "catalogue", "disease_curies"]

GENE, DISEASE = "gene", "disease"
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
    """The rows of `silver.entities` and of `silver.xrefs` that one snapshot gives."""

    entities: pl.DataFrame
    xrefs: pl.DataFrame


def catalogue(
    frame: pl.DataFrame,
    source_file_id: str,
    snapshot_id: str = "",
    withdrawn: pl.DataFrame | None = None,
) -> Catalogue:
    """Turn a catalogue as delivered into entities and xrefs.

    Args:
        frame: The rows of the file, as `read_source_file` gives them.
        source_file_id: `bioconductor.genes`, `hgnc.complete_set` or `opentargets.diseases`.
        snapshot_id: The snapshot that the rows come from.
        withdrawn: The rows of `hgnc.withdrawn`: an entry merged into an approved one makes its
            symbol and id previous identifiers of that one.

    Returns:
        Entities ordered by id, and xrefs, one for each (namespace, identifier, entity).

    Raises:
        SourceError: No such catalogue, an entity without symbol, or one that stands there twice.
    """
    if source_file_id not in _CATALOGUES:
        known = ", ".join(_CATALOGUES)
        raise SourceError(f"{source_file_id} is no catalogue of entities; known are {known}")
    entities, xrefs = _CATALOGUES[source_file_id](frame)
    if withdrawn is not None:
        xrefs = pl.concat([xrefs, _merged_xrefs(withdrawn, entities)])
    _refuse_faulty(entities, source_file_id)
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
            f"{bad['id'][0]!r}; fetch it again, or extend genebench/entities/entity_catalogue.py"
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
    """Turn Open Targets ids into CURIEs: `EFO_0000270` into `efo:0000270`; null where malformed."""
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
    """The identifiers of one column, several in a cell between `|`."""
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
    """Previous identifiers of the entities that withdrawn entries were merged into or split to."""
    merged = (
        withdrawn.select(
            "HGNC_ID",
            "WITHDRAWN_SYMBOL",
            pl.col("MERGED_INTO_REPORTS").str.extract_all(r"HGNC:\d+").alias("target"),
        )
        .explode("target")
        .drop_nulls("target")
    )
    # An entry may be merged into one that was merged in turn; each round goes one step further.
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


def _refuse_faulty(entities: pl.DataFrame, source_file_id: str) -> None:
    if not entities.height:
        raise SourceError(f"{source_file_id}: not one entity is in it; fetch it again")
    nameless = entities.filter(pl.col("entity_id").is_null() | pl.col("symbol").is_null())
    if nameless.height:
        raise SourceError(
            f"{source_file_id}: {nameless.height} rows have no id or no symbol, first "
            f"{nameless.row(0)}; fetch the file again or report it to its owner"
        )
    unique = [("entity_id", entities["entity_id"])]
    # HGNC promises that a symbol names one gene; NCBI does not (tRNA genes share theirs).
    if source_file_id.startswith("hgnc."):
        unique.append(("symbol", entities["symbol"]))
    for what, values in unique:
        repeated = values.filter(values.is_duplicated()).unique().sort()
        if len(repeated):
            raise SourceError(
                f"{source_file_id}: {len(repeated)} values of {what} stand there more than once: "
                f"{', '.join(repeated[:N_EXAMPLES])}; remove the repeats or fetch the file again"
            )

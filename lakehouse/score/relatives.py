"""Groups of related genes for folds that hold out relatives: HGNC gene groups, or symbol stems."""

import polars as pl

from lakehouse.tables.time_travel import Tables

# The name of this grouping in `folds.groups` of a protocol.
RELATIVES = "relatives"

HGNC_GENES, HGNC_GROUPS = "hgnc.complete_set", "gene_group"

# Symbols that number what has no name yet, and say nothing of relatives.
UNNAMED = r"^(LOC|LINC|KIAA|FAM|C\d+ORF|CXORF|CYORF|TMEM|CCDC|MIR|SNOR|RNU|RN7|TRNA|ORF|CD\d)"


def read_relatives(tables: Tables) -> pl.DataFrame:
    """Read the groups of related genes of a lake.

    The groups are the gene groups of HGNC where the catalogue of genes is HGNC's. Without them they
    are stems of symbols, as a last resort: the letters before the first digit or hyphen (`ZNF12`
    and `ZNF7`, `HLA-A` and `HLA-B`). Stems join genes that only share letters and miss relatives
    of other names; series of unnamed genes (`LOC…`, `LINC…`, `C1orf…`) have none.

    Returns:
        entity_id and label, one row for each group of a gene.
    """
    genes = tables.table("silver.entities").filter(pl.col("entity_type") == "gene").collect()
    snapshots = tables.table("bronze.snapshots").select("snapshot_id", "source", "file").collect()
    source, _, file = HGNC_GENES.partition(".")
    of_hgnc = snapshots.filter(source=source, file=file)
    read = genes.filter(pl.col("snapshot_id").is_in(of_hgnc["snapshot_id"].implode()))
    if read.height:
        raw = tables.raw(HGNC_GENES, read["snapshot_id"][0])
        if HGNC_GROUPS in raw.columns:
            return hgnc_groups(raw)
    return symbol_stems(genes)


def hgnc_groups(raw: pl.DataFrame) -> pl.DataFrame:
    """Return entity_id and label from rows of HGNC's complete set; groups are separated by `|`."""
    return (
        raw.select(
            pl.col("hgnc_id").str.to_lowercase().alias("entity_id"),
            pl.col(HGNC_GROUPS).str.split("|").alias("label"),
        )
        .explode("label")
        .drop_nulls()
        .unique()
    )


def symbol_stems(genes: pl.DataFrame) -> pl.DataFrame:
    """Return entity_id and label from entity_id and symbol; symbols without a stem have no row."""
    symbol = pl.col("symbol").str.to_uppercase()
    stem = pl.when(~symbol.str.contains(UNNAMED)).then(
        symbol.str.extract(r"^([A-Z]{2,})(?:\d|-)", 1)
    )
    return genes.select("entity_id", stem.alias("label")).drop_nulls().unique()

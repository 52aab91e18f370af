"""Groups of related genes for folds that hold out relatives: HGNC's, Pfam families, or stems."""

import polars as pl

from lakehouse.tables.time_travel import Tables

# The name of this grouping in `folds.groups` of a protocol.
RELATIVES = "relatives"

# The files of genes that have a column of groups.
HGNC_GENES, HGNC_GROUPS = "hgnc.complete_set", "gene_group"
NCBI_GENES, PFAM_FAMILIES = "bioconductor.genes", "pfam_ids"

# Symbols that number what has no name yet, and say nothing of relatives.
UNNAMED = r"^(LOC|LINC|KIAA|FAM|C\d+ORF|CXORF|CYORF|TMEM|CCDC|MIR|SNOR|RNU|RN7|TRNA|ORF|CD\d)"


def read_relatives(tables: Tables) -> pl.DataFrame:
    """Read the groups of related genes of a lake.

    The groups are the gene groups of HGNC where the catalogue of genes is HGNC's, and Pfam families
    where the catalogue has them. A gene of several families is in the largest one, which holds
    together 87 % of the pairs of genes that share a family; the rarest one would hold together
    33 %. Genes without a group get stems of symbols, as a last resort: the letters before the first
    digit or hyphen (`ZNF12` and `ZNF7`, `HLA-A` and `HLA-B`). Stems join genes that only share
    letters and miss relatives of other names; series of unnamed genes (`LOC…`, `LINC…`, `C1orf…`)
    have none.

    Returns:
        entity_id and label, one row for each group of a gene.
    """
    genes = tables.table("silver.entities").filter(pl.col("entity_type") == "gene").collect()
    raw = _read_catalogue(tables, genes, HGNC_GENES)
    if HGNC_GROUPS in raw.columns:
        return hgnc_groups(raw)
    stems = symbol_stems(genes)
    raw = _read_catalogue(tables, genes, NCBI_GENES)
    if PFAM_FAMILIES not in raw.columns:
        return stems
    families = largest_families(raw)
    return pl.concat([families, stems.join(families, on="entity_id", how="anti")])


def _read_catalogue(tables: Tables, genes: pl.DataFrame, file_id: str) -> pl.DataFrame:
    """Read the rows of a file of genes; without columns if the catalogue is of another file."""
    snapshots = tables.table("bronze.snapshots").select("snapshot_id", "source", "file").collect()
    source, _, file = file_id.partition(".")
    of_file = snapshots.filter(source=source, file=file)["snapshot_id"]
    read = genes.filter(pl.col("snapshot_id").is_in(of_file.implode()))
    return tables.raw(file_id, read["snapshot_id"][0]) if read.height else pl.DataFrame()


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


def largest_families(raw: pl.DataFrame) -> pl.DataFrame:
    """Return entity_id and label, the largest Pfam family of each gene that has one.

    Args:
        raw: entrez_id and pfam_ids, separated by `|`.
    """
    return (
        raw.select(
            ("ncbigene:" + pl.col("entrez_id")).alias("entity_id"),
            pl.col(PFAM_FAMILIES).str.split("|").alias("label"),
        )
        .explode("label")
        .drop_nulls()
        .with_columns(pl.len().over("label").alias("size"))
        .sort("size", "label", descending=[True, False])
        .unique("entity_id", keep="first", maintain_order=True)
        .drop("size")
    )


def symbol_stems(genes: pl.DataFrame) -> pl.DataFrame:
    """Return entity_id and label from entity_id and symbol; symbols without a stem have no row."""
    symbol = pl.col("symbol").str.to_uppercase()
    stem = pl.when(~symbol.str.contains(UNNAMED)).then(
        symbol.str.extract(r"^([A-Z]{2,})(?:\d|-)", 1)
    )
    return genes.select("entity_id", stem.alias("label")).drop_nulls().unique()

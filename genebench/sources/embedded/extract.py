"""Extracts the embedded tables from the Bioconductor annotation packages of Debian.

Run it once for each release of the packages, and commit the folder that it writes. Debian's suites
hold one release each: bookworm 3.16.0, trixie 3.20.0, sid 3.23.1.

    apt-get download r-bioc-org.hs.eg.db/sid r-bioc-go.db/sid
    for package in r-bioc-*.deb; do dpkg-deb -x "$package" unpacked; done
    python genebench/sources/embedded/extract.py \
        unpacked/usr/lib/R/site-library/org.Hs.eg.db/extdata/org.Hs.eg.sqlite \
        unpacked/usr/lib/R/site-library/GO.db/extdata/GO.sqlite 3.23.1

The same two databases give the same tables, and the same bytes with the same version of liblzma.
Releases before 3.13 have no types of genes; every gene of theirs is of the type `unknown`, and none
is left out. Without the tables of Pfam or OMIM the columns `pfam_ids` and `n_mim_entries` are
empty. What was written is read back: the script ends with an error if a key repeats or is empty, if
an annotated gene is not in the table of genes, or if more than 0.1 % of the annotated terms have no
name.
"""

import argparse
import lzma
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

# DNA regions such as enhancers that have NCBI Gene ids. They have no product, no HGNC symbol and no
# annotation in these databases, and would be an eighth of the table.
EXCLUDED_TYPE = "biological-region"

# Databases without one of these tables get the view in its place.
ABSENT = {
    "genetype": "create temp view genetype as select _id, 'unknown' as gene_type from genes",
    "pfam": "create temp view pfam as select null as _id, null as pfam_id where false",
    "omim": "create temp view omim as select null as _id, null as omim_id where false",
}

# Columns that identify a row of each table.
KEYS = {
    "genes": ("entrez_id",),
    "go_annotations": ("entrez_id", "go_id", "evidence"),
    "publications": ("entrez_id",),
    "go_terms": ("go_id",),
    "go_relations": ("go_id", "parent_id", "relation"),
}
MAX_UNNAMED = 0.001

GENES = """
select g.gene_id, i.symbol, i.gene_name, t.gene_type,
       (select group_concat(chromosome, '|') from
          (select chromosome from chromosomes where _id = g._id order by chromosome)),
       (select group_concat(cytogenetic_location, '|') from
          (select cytogenetic_location from cytogenetic_locations
           where _id = g._id order by cytogenetic_location)),
       (select group_concat(ensembl_id, '|') from
          (select distinct ensembl_id from ensembl where _id = g._id order by ensembl_id)),
       (select group_concat(uniprot_id, '|') from
          (select distinct uniprot_id from uniprot where _id = g._id order by uniprot_id)),
       (select group_concat(alias_symbol, '|') from
          (select distinct alias_symbol from alias
           where _id = g._id and alias_symbol <> i.symbol order by alias_symbol)),
       (select group_concat(pfam_id, '|') from
          (select distinct pfam_id from pfam
           where _id = g._id and pfam_id is not null order by pfam_id)),
       (select nullif(count(distinct omim_id), 0) from omim where _id = g._id)
from genes g join gene_info i using (_id) join genetype t using (_id)
where t.gene_type <> ?
order by cast(g.gene_id as integer)
"""

GO_ANNOTATIONS = """
select g.gene_id, a.go_id, a.evidence, a.ontology from (
    select _id, go_id, evidence, 'BP' as ontology from go_bp union
    select _id, go_id, evidence, 'CC' from go_cc union
    select _id, go_id, evidence, 'MF' from go_mf) a
join genes g using (_id) join genetype t using (_id)
where t.gene_type <> ?
order by cast(g.gene_id as integer), a.go_id, a.evidence
"""

PUBLICATIONS = """
select g.gene_id, count(distinct p.pubmed_id)
from pubmed p join genes g using (_id) join genetype t using (_id)
where t.gene_type <> ?
group by g.gene_id order by cast(g.gene_id as integer)
"""

# `secondary` is the id of a term that was merged into the term of its row.
GO_TERMS = """
select go_id, term, ontology,
       (select group_concat(secondary, '|') from
          (select distinct secondary from go_synonym
           where _id = t._id and secondary like 'GO:%' order by secondary))
from go_term t where ontology in ('BP', 'CC', 'MF') order by go_id
"""

# The databases call is_a and part_of `isa` and `part of`. Annotations are not inherited along the
# other relations (regulates, positively regulates, negatively regulates).
GO_RELATIONS = """
select child.go_id, parent.go_id,
       case relationship_type when 'isa' then 'is_a' else 'part_of' end as relation
from (select * from go_bp_parents union all select * from go_cc_parents
      union all select * from go_mf_parents) p
join go_term child on child._id = p._id join go_term parent on parent._id = p._parent_id
where relationship_type in ('isa', 'part of') and parent.ontology in ('BP', 'CC', 'MF')
order by child.go_id, parent.go_id, relation
"""

GENE_COLUMNS = [
    "entrez_id",
    "symbol",
    "name",
    "gene_type",
    "chromosome",
    "map_location",
    "ensembl_gene_ids",
    "uniprot_ids",
    "alias_symbols",
    "pfam_ids",
    "n_mim_entries",
]


def write_table(path: Path, columns: list[str], rows: Iterable[tuple[object, ...]]) -> int:
    """Write a TSV compressed with xz; return the number of rows."""
    lines = ["\t".join(columns)]
    lines.extend("\t".join("" if cell is None else _plain(cell) for cell in row) for row in rows)
    with lzma.open(path, "wb", preset=9 | lzma.PRESET_EXTREME) as packed:
        packed.write(("\n".join(lines) + "\n").encode())
    return len(lines) - 1


def _plain(cell: object) -> str:
    text = str(cell)
    if any(mark in text for mark in '\t\n\r"'):
        raise SystemExit(
            f"the value {text!r} needs quotes, which write_table does not support; extend it"
        )
    return text


def extract(org: Path, go: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the five tables; yield the name and number of rows of each."""
    genes = sqlite3.connect(f"file:{org}?mode=ro", uri=True)
    terms = sqlite3.connect(f"file:{go}?mode=ro", uri=True)
    for name, view in ABSENT.items():
        if not genes.execute("select 1 from sqlite_master where name = ?", (name,)).fetchone():
            genes.execute(view)
    excluded = (EXCLUDED_TYPE,)
    tables = {
        "genes": (GENE_COLUMNS, genes.execute(GENES, excluded)),
        "go_annotations": (
            ["entrez_id", "go_id", "evidence", "ontology"],
            genes.execute(GO_ANNOTATIONS, excluded),
        ),
        "publications": (
            ["entrez_id", "n_publications"],
            genes.execute(PUBLICATIONS, excluded),
        ),
        "go_terms": (
            ["go_id", "term", "ontology", "secondary_ids"],
            terms.execute(GO_TERMS),
        ),
        "go_relations": (
            ["go_id", "parent_id", "relation"],
            terms.execute(GO_RELATIONS),
        ),
    }
    for name, (columns, rows) in tables.items():
        file_name = f"{name}.tsv.xz"
        yield file_name, write_table(folder / file_name, columns, rows)


def read_dates(org: Path, go: Path) -> dict[str, str]:
    """Read the dates of the data from the databases' tables `metadata`."""
    found: dict[str, str] = {}
    for path in (org, go):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        if database.execute("select 1 from sqlite_master where name = 'metadata'").fetchone():
            rows = database.execute("select name, value from metadata where name like '%DATE'")
            found |= dict(rows)
    return dict(sorted(found.items()))


def check_tables(folder: Path) -> None:
    """Read the tables back and compare them with each other.

    Raises:
        SystemExit: A key is empty or repeats, an annotated gene is not in the table of genes, or
            too many annotated terms have no name.
    """
    read = {name: list(_read_table(folder / f"{name}.tsv.xz")) for name in KEYS}
    for name, key in KEYS.items():
        keys = [tuple(row[column] for column in key) for row in read[name]]
        if len(set(keys)) < len(keys) or not all(map(all, keys)):
            raise SystemExit(f"{name}: a key {', '.join(key)} is empty or repeats")
    genes = {row["entrez_id"] for row in read["genes"]}
    for name in ("go_annotations", "publications"):
        lost = {row["entrez_id"] for row in read[name]} - genes
        if lost:
            raise SystemExit(f"{name}: {len(lost)} genes are not in genes, such as {min(lost)}")
    annotated = {row["go_id"] for row in read["go_annotations"]}
    unnamed = annotated - {row["go_id"] for row in read["go_terms"]}
    if len(unnamed) > MAX_UNNAMED * len(annotated):
        raise SystemExit(
            f"go_terms: {len(unnamed)} of {len(annotated)} annotated terms have no name; the two "
            "databases may be of different releases"
        )


def _read_table(path: Path) -> Iterator[dict[str, str]]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        columns = next(file).rstrip("\n").split("\t")
        for line in file:
            yield dict(zip(columns, line.rstrip("\n").split("\t"), strict=True))


def main() -> None:
    """Read the paths and the release from the command line and write the release's folder."""
    parser = argparse.ArgumentParser(description="Extract the embedded tables.")
    parser.add_argument("org", type=Path, help="path of org.Hs.eg.sqlite")
    parser.add_argument("go", type=Path, help="path of GO.sqlite")
    parser.add_argument("release", help="version of the packages; the name of the folder")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    folder = arguments.folder / arguments.release
    folder.mkdir(parents=True, exist_ok=True)
    for name, n_rows in extract(arguments.org, arguments.go, folder):
        print(f"{name}: {n_rows} rows, {(folder / name).stat().st_size} bytes")
    check_tables(folder)
    for name, date in read_dates(arguments.org, arguments.go).items():
        print(f"{name}: {date}")


if __name__ == "__main__":
    main()

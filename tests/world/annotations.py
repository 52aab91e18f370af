"""The world's ontology and annotations, in the formats of the embedded source."""

import random

from .cast import Gene
from .tables import Row, delimited

PROCESS, FUNCTION, COMPONENT = "GO:0008150", "GO:0003674", "GO:0005575"
COMPLEX = "GO:0032991"
ONTOLOGY = {PROCESS: "BP", FUNCTION: "MF", COMPONENT: "CC"}

TERMS = {
    # A term to its id, its ontology and its parents with the relation to each.
    "signal transmission": ("GO:9100001", "BP", [(PROCESS, "is_a")]),
    "gene regulation": ("GO:9100002", "BP", [(PROCESS, "is_a")]),
    "protein turnover": ("GO:9100003", "BP", [(PROCESS, "is_a")]),
    "immune defence": ("GO:9100004", "BP", [(PROCESS, "is_a")]),
    "kinase cascade": ("GO:9100011", "BP", [("GO:9100001", "is_a")]),
    "making of proteins": ("GO:9100012", "BP", [("GO:9100003", "part_of")]),
    "cutting of proteins": ("GO:9100013", "BP", [("GO:9100003", "is_a")]),
    "antigen show": ("GO:9100014", "BP", [("GO:9100004", "is_a"), ("GO:9100001", "part_of")]),
    "binding": ("GO:9200001", "MF", [(FUNCTION, "is_a")]),
    "catalysis": ("GO:9200002", "MF", [(FUNCTION, "is_a")]),
    "transport": ("GO:9200003", "MF", [(FUNCTION, "is_a")]),
    "DNA contact": ("GO:9200011", "MF", [("GO:9200001", "is_a")]),
    "peptide contact": ("GO:9200012", "MF", [("GO:9200001", "is_a")]),
    "phosphate transfer": ("GO:9200021", "MF", [("GO:9200002", "is_a")]),
    "peptide cutting": ("GO:9200022", "MF", [("GO:9200002", "is_a")]),
    "ion passage": ("GO:9200031", "MF", [("GO:9200003", "is_a")]),
    "cell part": ("GO:9300001", "CC", [(COMPONENT, "is_a")]),
    "protein-containing complex": (COMPLEX, "CC", [(COMPONENT, "is_a")]),
    "core": ("GO:9300011", "CC", [("GO:9300001", "is_a")]),
    "membrane": ("GO:9300012", "CC", [("GO:9300001", "is_a")]),
    "cytosol": ("GO:9300013", "CC", [("GO:9300001", "is_a")]),
    "outside": ("GO:9300014", "CC", [("GO:9300001", "is_a")]),
    "large particle": ("GO:9300021", "CC", [(COMPLEX, "is_a"), ("GO:9300013", "part_of")]),
    "small particle": ("GO:9300022", "CC", [(COMPLEX, "is_a"), ("GO:9300013", "part_of")]),
    "tetramer one": ("GO:9300023", "CC", [(COMPLEX, "is_a"), ("GO:9300012", "part_of")]),
    "tetramer two": ("GO:9300024", "CC", [(COMPLEX, "is_a"), ("GO:9300012", "part_of")]),
    "presenter": ("GO:9300025", "CC", [(COMPLEX, "is_a")]),
    "kinase pair": ("GO:9300026", "CC", [(COMPLEX, "is_a")]),
}
OF_FAMILY = {
    "kinase": ["kinase cascade", "phosphate transfer", "cytosol"],
    "finger": ["gene regulation", "DNA contact", "core"],
    "receptor": ["signal transmission", "peptide contact", "membrane"],
    "ribosomal": ["making of proteins", "binding"],
    "channel": ["signal transmission", "ion passage"],
    "secreted": ["signal transmission", "peptide contact", "outside"],
    "peptidase": ["cutting of proteins", "peptide cutting", "cytosol"],
    "hla": ["antigen show", "peptide contact", "membrane", "presenter"],
    "none": [],
}
COMPLEXES_OF_FAMILY = {
    "ribosomal": ["large particle", "small particle"],
    "channel": ["tetramer one", "tetramer two"],
}
EVIDENCE = ["IDA", "IEA", "IMP", "TAS"]
DEAD_ENTREZ_ID = "9999999"


def terms_of(genes: list[Gene]) -> dict[int, list[str]]:
    """The terms of each gene by its number: those of its family, some lost, some strange."""
    chance = random.Random(7)
    given = {}
    for gene in genes:
        terms = [t for t in OF_FAMILY[gene.family] if chance.random() < 0.9]
        complexes = COMPLEXES_OF_FAMILY.get(gene.family)
        if complexes:
            terms.append(complexes[gene.number % 2])
        if gene.family == "kinase" and gene.number % 2:
            terms.append("kinase pair")
        if gene.family != "none" and chance.random() < 0.15:
            terms.append(chance.choice(["core", "membrane", "cytosol", "binding"]))
        given[gene.number] = sorted(set(terms))
    return given


def genes_table(genes: list[Gene]) -> str:
    header = ["entrez_id", "symbol", "name", "gene_type", "chromosome", "map_location"]
    header += ["ensembl_gene_ids", "uniprot_ids", "alias_symbols"]
    rows: list[Row] = [
        [
            gene.entrez_id,
            gene.symbol,
            gene.name,
            gene.locus,
            gene.chromosome,
            f"{gene.chromosome.split('|')[0]}q{gene.number % 30}",
            gene.ensembl_id,
            "|".join(gene.proteins),
            "|".join(gene.aliases + gene.previous),
        ]
        for gene in genes
        if gene.is_approved
    ]
    return delimited(header, rows)


def past_genes_table(genes: list[Gene]) -> str:
    """The genes of an earlier release: some had other symbols and names, some were unknown."""
    rows: list[Row] = [
        [
            gene.entrez_id,
            f"OLD{gene.number}" if gene.number % 9 == 0 else gene.published_symbol,
            f"uncharacterized {gene.number}" if gene.number % 7 == 0 else gene.name,
        ]
        for gene in genes
        if gene.is_approved and (gene.family != "none" or gene.number % 2)
    ]
    return delimited(["entrez_id", "symbol", "name"], rows)


def go_annotations_table(genes: list[Gene], moved: dict[int, list[str]]) -> str:
    """The annotations; `moved` gives genes other terms than the world's own."""
    chance = random.Random(11)
    given = terms_of(genes) | moved
    rows: list[Row] = []
    for gene in genes:
        for term in given[gene.number]:
            go_id, ontology, _ = TERMS[term]
            rows.append([gene.entrez_id, go_id, chance.choice(EVIDENCE), ontology])
        if not given[gene.number] and gene.is_approved:
            rows.append([gene.entrez_id, FUNCTION, "ND", "MF"])
    rows.append([DEAD_ENTREZ_ID, "GO:9300011", "IEA", "CC"])
    return delimited(["entrez_id", "go_id", "evidence", "ontology"], rows)


def past_annotations_table(genes: list[Gene]) -> str:
    """The annotations of an earlier release, when every fifth of them was not known."""
    header, *rows = go_annotations_table(genes, {}).splitlines()
    return "\n".join([header, *(row for n, row in enumerate(rows) if n % 5)]) + "\n"


def go_terms_table() -> str:
    roots: list[Row] = [[go_id, f"root of {code}", code] for go_id, code in ONTOLOGY.items()]
    rows: list[Row] = [[go_id, term, code] for term, (go_id, code, _) in TERMS.items()]
    return delimited(["go_id", "term", "ontology"], roots + rows)


def go_relations_table() -> str:
    rows: list[Row] = [
        [go_id, parent, relation]
        for go_id, _, parents in TERMS.values()
        for parent, relation in parents
    ]
    return delimited(["go_id", "parent_id", "relation"], rows)


def publications_table(genes: list[Gene]) -> str:
    rows: list[Row] = [
        [gene.entrez_id, str(1 + gene.number * 37 % 101)] for gene in genes if gene.proteins
    ]
    return delimited(["entrez_id", "n_publications"], rows)

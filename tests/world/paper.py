"""The world's other sources of the paper, each in its own format."""

import io
import json
import pickle
import random

import polars as pl

from .cast import Gene
from .tables import Row, delimited

DISEASES = {
    # id: (name, description, families it belongs to)
    "EFO_9000001": ("wandering fever", "A fever that comes and goes.", ["hla", "secreted"]),
    "MONDO_9000002": ("stiff muscle disease", "Muscles that do not relax.", ["channel", "kinase"]),
    "Orphanet_9003": ("rare blue nails", "", ["finger", "peptidase"]),
    "HP_9000004": ("short sight of genes", "Seeing only near genes.", ["receptor", "ribosomal"]),
}
TOP_PATHWAYS = {
    # name: (id, [(child name, child id, families)])
    "Signal Transduction": ("R-HSA-9000001", [("By kinases", "R-HSA-9000011", ["kinase"])]),
    "Immune System": ("R-HSA-9000002", [("Antigen show", "R-HSA-9000021", ["hla"])]),
    "Metabolism of proteins": (
        "R-HSA-9000003",
        [
            ("Translation", "R-HSA-9000031", ["ribosomal"]),
            ("Proteolysis", "R-HSA-9000032", ["peptidase"]),
        ],
    ),
    "Gene expression (Transcription)": (
        "R-HSA-9000004",
        [("Zinc fingers", "R-HSA-9000041", ["finger"])],
    ),
}
KEYWORDS = {
    # A family to the id, category and name of each of its keywords.
    "kinase": [("KW-9001", "Ligand", "ATP-binding"), ("KW-9002", "PTM", "Phosphoprotein")],
    "finger": [("KW-9003", "Ligand", "Zinc"), ("KW-9004", "Domain", "Zinc-finger")],
    "receptor": [("KW-9005", "Domain", "Transmembrane"), ("KW-9006", "PTM", "Glycoprotein")],
    "ribosomal": [("KW-9007", "PTM", "Acetylation"), ("KW-9008", "Domain", "Repeat")],
    "channel": [("KW-9005", "Domain", "Transmembrane"), ("KW-9009", "Ligand", "Potassium")],
    "secreted": [("KW-9010", "Domain", "Signal"), ("KW-9006", "PTM", "Glycoprotein")],
    "peptidase": [("KW-9011", "PTM", "Zymogen"), ("KW-9003", "Ligand", "Zinc")],
    "hla": [("KW-9012", "Domain", "Immunoglobulin domain"), ("KW-9006", "PTM", "Glycoprotein")],
}
EVERY_ENTRY = ("KW-1185", "Technical term", "Reference proteome")
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


def _coding(genes: list[Gene]) -> list[Gene]:
    return [gene for gene in genes if gene.proteins]


def _of(genes: list[Gene], *families: str) -> list[Gene]:
    return [gene for gene in genes if gene.family in families]


def complete_set_table(genes: list[Gene]) -> str:
    """HGNC's table; a withdrawn entry is not in it."""
    header = ["hgnc_id", "symbol", "name", "locus_group", "locus_type", "status", "location"]
    header += ["alias_symbol", "prev_symbol", "gene_group", "gene_group_id", "entrez_id"]
    header += ["ensembl_gene_id", "uniprot_ids"]
    groups = {"protein-coding": "protein-coding gene", "pseudo": "pseudogene"}
    rows: list[Row] = [
        [
            gene.hgnc_id,
            gene.symbol,
            gene.name,
            groups.get(gene.locus, "non-coding RNA"),
            "gene with protein product" if gene.proteins else "other",
            "Approved",
            f"{gene.chromosome.split('|')[0]}q{gene.number % 30}",
            "|".join(gene.aliases),
            "|".join(gene.previous),
            "Histocompatibility complex|C1-set domain containing" if gene.family == "hla" else "",
            "588|591" if gene.family == "hla" else "",
            gene.entrez_id,
            gene.ensembl_id,
            "|".join(gene.proteins),
        ]
        for gene in genes
        if gene.is_approved
    ]
    return delimited(header, rows)


def withdrawn_table(genes: list[Gene]) -> str:
    """What became of withdrawn entries: one merged, one split in two, one gone."""
    header = ["HGNC_ID", "STATUS", "WITHDRAWN_SYMBOL"]
    header += ["MERGED_INTO_REPORT(S) (i.e HGNC_ID|SYMBOL|STATUS)"]
    gone = next(gene for gene in genes if not gene.is_approved)
    zyf3, zyf4, grx5 = (
        next(gene for gene in genes if gene.number == number) for number in (17, 18, 33)
    )
    split = ", ".join(f"{gene.hgnc_id}|{gene.symbol}|Approved" for gene in (zyf4, grx5))
    rows: list[Row] = [
        [gone.hgnc_id, "Merged/Split", gone.symbol, f"{zyf3.hgnc_id}|{zyf3.symbol}|Approved"],
        ["HGNC:90998", "Merged/Split", "SPLITX", split],
        ["HGNC:90999", "Entry Withdrawn", "GONEX", ""],
    ]
    return delimited(header, rows)


def group_588_table(genes: list[Gene]) -> str:
    header = ["HGNC ID (gene)", "Approved symbol", "Approved name", "Status", "Locus type"]
    rows: list[Row] = [
        [gene.hgnc_id, gene.symbol, gene.name, "Approved", "gene with protein product"]
        for gene in _of(genes, "hla")
    ]
    return delimited(header, rows)


def pathology_table(genes: list[Gene]) -> str:
    header = ["Gene", "Gene name", "Cancer", "High", "Medium", "Low", "Not detected"]
    header += ["prognostic - favorable", "unprognostic - favorable"]
    header += ["prognostic - unfavorable", "unprognostic - unfavorable"]
    rows: list[Row] = []
    for gene in _coding(genes):
        for number, cancer in enumerate(("breast cancer", "glioma")):
            p_values = [""] * 4
            p_values[(gene.number + number) % 4] = "1.2e-4" if gene.number % 2 == 0 else "7.7e-2"
            rows.append(
                [gene.ensembl_id, gene.published_symbol, cancer, "1", "7", "2", "2", *p_values]
            )
    return delimited(header, rows)


def pathways_gmt(genes: list[Gene]) -> str:
    """Gene sets; as in the source, a top pathway lists its own members, one of them no gene."""
    lines = []
    for name, (pathway_id, children) in TOP_PATHWAYS.items():
        families = [family for _, _, of_child in children for family in of_child]
        symbols = sorted(gene.published_symbol for gene in _of(genes, *families))
        lines.append("\t".join([name, pathway_id, *symbols, "gag-pol"]))
        for child, child_id, of_child in children:
            members = sorted(gene.published_symbol for gene in _of(genes, *of_child))
            lines.append("\t".join([child, child_id, *members]))
    return "\n".join(lines) + "\n"


def pathways_relation() -> str:
    rows: list[Row] = [["R-BTA-9000001", "R-BTA-9000011"]]
    rows += [
        [pathway_id, child_id]
        for pathway_id, children in TOP_PATHWAYS.values()
        for _, child_id, _ in children
    ]
    return delimited(None, rows)


def pathways_names() -> str:
    rows: list[Row] = [["R-BTA-9000001", "Signal Transduction", "Bos taurus"]]
    for name, (pathway_id, children) in TOP_PATHWAYS.items():
        rows.append([pathway_id, name, "Homo sapiens"])
        rows += [[child_id, child, "Homo sapiens"] for child, child_id, _ in children]
    return delimited(None, rows)


def uniprot_entries(genes: list[Gene]) -> str:
    """UniProt's REST answer; one entry has no gene name, one gene three entries."""
    results = []
    for gene in _coding(genes):
        words = [*KEYWORDS[gene.family][: 1 + (gene.number % 4 > 0)], EVERY_ENTRY]
        for accession in gene.proteins:
            results.append(
                {
                    "primaryAccession": accession,
                    "genes": [{"geneName": {"value": gene.published_symbol}}],
                    "keywords": [
                        dict(zip(("id", "category", "name"), w, strict=True)) for w in words
                    ],
                }
            )
    results.append({"primaryAccession": "X99999", "keywords": []})
    return json.dumps({"results": results})


def uniprot_sequences(genes: list[Gene]) -> str:
    lines = []
    for gene in _coding(genes):
        for accession in gene.proteins:
            lines.append(
                f">sp|{accession}|W_HUMAN {gene.name} OS=Homo sapiens "
                f"GN={gene.published_symbol} PE=1"
            )
            lines.append(_peptide(gene, accession))
    return "\n".join(lines) + "\n"


def association_parts(genes: list[Gene]) -> bytes:
    """Open Targets' association table; one target is no gene of the world."""
    rows = []
    for disease_id, (_, _, families) in DISEASES.items():
        for gene in _coding(genes):
            chance = random.Random(f"{disease_id}{gene.number}")
            score = 0.5 * (gene.family in families) + 0.4 * chance.random()
            if chance.random() < 0.6:
                rows.append((disease_id, gene.ensembl_id, round(score, 6), 1 + gene.number % 7))
    rows.append(("EFO_9000001", "ENSG99999999999", 0.5, 1))
    return _parquet(rows, ["diseaseId", "targetId", "score", "evidenceCount"])


def disease_parts() -> bytes:
    rows = [
        (disease_id, name, description, [disease_id], [])
        for disease_id, (name, description, _) in DISEASES.items()
    ]
    frame = pl.DataFrame(
        rows,
        schema={
            "id": pl.String,
            "name": pl.String,
            "description": pl.String,
            "ancestors": pl.List(pl.String),
            "descendants": pl.List(pl.String),
        },
        orient="row",
    )
    return _parquet_bytes(frame)


def _parquet(rows: list[tuple[object, ...]], names: list[str]) -> bytes:
    return _parquet_bytes(pl.DataFrame(rows, schema=names, orient="row"))


def _parquet_bytes(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


GENE_CLASSES = {
    # A file to its labels, and each label to its families.
    "bivalent_vs_lys4_only": {"bivalent": ["finger", "receptor"], "lys4_only": ["ribosomal"]},
    "bivalent_vs_no_methyl": {"bivalent": ["finger", "receptor"], "no_methylation": ["channel"]},
    "dosage_sensitivity_tfs": {
        "Dosage-sensitive TFs": ["finger"],
        "Dosage-insensitive TFs": ["kinase", "peptidase"],
    },
    "tf_regulatory_range": {"long_range": ["finger"], "short_range": ["kinase", "secreted"]},
    "n1_network": {"n1_central": ["kinase", "receptor"], "n1_peripheral": ["ribosomal", "hla"]},
    "n1_target": {"n1_activated": ["secreted"], "n1_nontarget": ["peptidase", "channel"]},
}


def gene_class_pickle(genes: list[Gene], name: str) -> bytes:
    """A pickled dictionary from labels to Ensembl ids; one id is no gene of the world."""
    lists = {
        label: [gene.ensembl_id for gene in _of(genes, *families)]
        for label, families in GENE_CLASSES[name].items()
    }
    next(iter(lists.values())).append("ENSG99999999998")
    return pickle.dumps(lists, protocol=4)


def gene_pairs(genes: list[Gene], part: str) -> tuple[str, str]:
    """Pairs and their labels: pairs of one family interact; some repeat, one contradicts."""
    chance = random.Random(part)
    coding = _coding(genes)
    pairs, labels = [], []
    for _ in range(120 if part == "train" else 30):
        first, second = chance.sample(coding, 2)
        if chance.random() < 0.5:
            second = chance.choice([gene for gene in coding if gene.family == first.family])
        pairs.append(f"{first.published_symbol} {second.published_symbol}")
        labels.append("1" if first.family == second.family else "0")
    pairs += [pairs[0], pairs[1], "NOGENE1 KYN4"]
    labels += [labels[0], "1" if labels[1] == "0" else "0", "0"]
    return "\n".join(pairs) + "\n", "\n".join(labels) + "\n"


def database_extract(genes: list[Gene]) -> str:
    """The transcription factor table: assessed genes alone, with commas and quotes in its notes."""
    header = ["", "Ensembl ID", "HGNC symbol", "DBD", "Is TF?", "TF assessment", "Final Comments"]
    rows: list[Row] = []
    for gene in _of(genes, "finger", "kinase", "receptor"):
        is_factor = gene.family == "finger" and gene.number % 7 != 0
        comment = 'Called "factor", without evidence; see notes' if not is_factor else "None"
        domain = "C2H2 ZF" if is_factor else "Unknown"
        verdict = ("Yes", "Known motif") if is_factor else ("No", "Unlikely to be binding")
        rows.append(
            [str(len(rows)), gene.ensembl_id, gene.published_symbol, domain, *verdict, comment]
        )
    return delimited(header, rows, ",")


def gene_info_table(genes: list[Gene]) -> str:
    header = ["#tax_id", "GeneID", "Symbol", "LocusTag", "Synonyms", "dbXrefs", "chromosome"]
    header += ["map_location", "description", "type_of_gene"]
    rows: list[Row] = [
        [
            "9606",
            gene.entrez_id,
            gene.symbol,
            "-",
            "|".join(gene.aliases) or "-",
            f"HGNC:{gene.hgnc_id}|Ensembl:{gene.ensembl_id}",
            gene.chromosome,
            "-",
            gene.name.replace('"', "'") or "-",
            gene.locus,
        ]
        for gene in genes
        if gene.is_approved
    ]
    return "".join("\t".join(row) + "\n" for row in [header, *rows])


def gene_summaries(genes: list[Gene]) -> str:
    """Summaries of all species; a gene without one has no row."""
    rows: list[Row] = [["#tax_id", "GeneID", "Source", "Summary"]]
    rows += [["9606", g.entrez_id, "RefSeq", g.summary] for g in _coding(genes) if g.summary]
    rows.append(["10090", "11111", "RefSeq", 'A mouse gene, 5" long and of no interest here.'])
    return "".join("\t".join(row) + "\n" for row in rows)


def peptide_fasta(genes: list[Gene]) -> str:
    lines = []
    for gene in _coding(genes):
        for number, accession in enumerate(gene.proteins, start=1):
            peptide = _peptide(gene, accession)
            lines.append(
                f">ENSP{gene.number:05d}{number:02d}.1 pep "
                f"chromosome:GRCh38:{gene.chromosome}:1:2:1 "
                f"gene:{gene.ensembl_id}.4 transcript:ENST{gene.number:05d}{number:02d}.2 "
                f"gene_biotype:protein_coding transcript_biotype:protein_coding "
                f"gene_symbol:{gene.published_symbol} description:{gene.name}"
            )
            lines += [peptide[i : i + 60] for i in range(0, len(peptide), 60)]
    return "\n".join(lines) + "\n"


def cdna_fasta(genes: list[Gene]) -> str:
    lines = []
    for gene in _coding(genes):
        chance = random.Random(f"cdna{gene.number}")
        sequence = "".join(chance.choice("ACGT") for _ in range(90 + gene.number))
        lines.append(
            f">ENST{gene.number:05d}01.2 cdna chromosome:GRCh38:{gene.chromosome}:1:2:1 "
            f"gene:{gene.ensembl_id}.4 gene_biotype:protein_coding "
            f"transcript_biotype:protein_coding gene_symbol:{gene.published_symbol}"
        )
        lines += [sequence[i : i + 60] for i in range(0, len(sequence), 60)]
    return "\n".join(lines) + "\n"


def _peptide(gene: Gene, accession: str) -> str:
    """A made-up sequence in which each family has its own favourite residues."""
    chance = random.Random(f"peptide{accession}")
    favourites = RESIDUES[len(gene.family) :] + RESIDUES
    return "M" + "".join(chance.choice(favourites[:24]) for _ in range(30 + gene.number % 40))

"""The world's Human Protein Atlas: all sixty columns that tasks use, in the atlas's own words."""

import random

from .cast import Gene
from .tables import delimited

CANCERS = [
    "Breast cancer",
    "Cervical cancer",
    "Colorectal cancer",
    "Endometrial cancer",
    "Glioma",
    "Head and neck cancer",
    "Liver cancer",
    "Lung cancer",
    "Melanoma",
    "Ovarian cancer",
    "Pancreatic cancer",
    "Prostate cancer",
    "Renal cancer",
    "Stomach cancer",
    "Testis cancer",
    "Thyroid cancer",
    "Urothelial cancer",
]
# kind of measurement: (what the classes call its parts, whether it has a score)
MEASURED = {
    "tissue": ("Tissue", "tissue", True),
    "single cell type": ("Cell type", "cell type", True),
    "cancer": ("Cancer", "cancer", True),
    "brain regional": ("Region", "region", True),
    "blood cell": ("Immune cell", "immune cell", True),
    "blood lineage": ("Lineage", "lineage", True),
    "cell line": ("Cancer", "cancer", True),
    "mouse brain regional": ("Region", "region", False),
    "pig brain regional": ("Region", "region", False),
}
DISTRIBUTIONS = ["Detected in all", "Detected in many", "Detected in some", "Detected in single"]
LOCATIONS = {
    "kinase": ["Cytosol", "Nucleoplasm"],
    "finger": ["Nucleoplasm", "Nucleoli"],
    "receptor": ["Plasma membrane", "Vesicles"],
    "ribosomal": ["Cytosol", "Endoplasmic reticulum"],
    "channel": ["Plasma membrane"],
    "secreted": ["Vesicles", "Golgi apparatus"],
    "peptidase": ["Vesicles", "Cytosol"],
    "hla": ["Plasma membrane", "Endoplasmic reticulum"],
    "none": [],
}
CLASSES = {
    "kinase": "Enzymes, Predicted intracellular proteins",
    "finger": "Predicted intracellular proteins, Transcription factors",
    "receptor": "G-protein coupled receptors, Predicted membrane proteins",
    "ribosomal": "Predicted intracellular proteins, Ribosomal proteins",
    "channel": "Predicted membrane proteins, Transporters",
    "secreted": "Plasma proteins, Predicted secreted proteins",
    "peptidase": "Enzymes, Metabolic proteins",
    "hla": "Disease related genes, Predicted membrane proteins",
}
WORDS = {
    # family: (biological process, molecular function, disease involvement)
    "kinase": ("Cell cycle", "Kinase, Transferase", "Proto-oncogene"),
    "finger": ("Transcription, Transcription regulation", "DNA-binding", ""),
    "receptor": ("Sensory transduction", "G-protein coupled receptor, Receptor", "Obesity"),
    "ribosomal": ("", "Ribonucleoprotein, Ribosomal protein", "Disease variant"),
    "channel": ("Ion transport, Transport", "Ion channel", "Epilepsy, Disease variant"),
    "secreted": ("Angiogenesis", "Growth factor, Cytokine", "Cancer-related genes"),
    "peptidase": ("Apoptosis", "Hydrolase, Protease", ""),
    "hla": ("Adaptive immunity, Immunity", "", "Disease variant"),
}
SECRETIONS = ["Secreted to blood", "Secreted to extracellular matrix", "Intracellular and membrane"]
CLUSTERS = {
    "Blood": [
        "Cluster 1: Neutrophils - Unknown function",
        "Cluster 2: Non-specific - Transcription",
    ],
    "Tissue": ["Cluster 11: Liver - Metabolism", "Cluster 12: Brain - Ion channels"],
    "Brain": ["Cluster 21: Neurons - Mixed function", "Cluster 22: Astrocytes - Lipids"],
    "Cell line": ["Cluster 31: Lymphoma - Immunity", "Cluster 32: Non-specific - Translation"],
    "Single cell": ["Cluster 41: Hepatocytes - Metabolism", "Cluster 42: Monocytes - Defence"],
}


def proteinatlas_table(genes: list[Gene]) -> str:
    """The atlas's table: a row for each gene with proteins, with the gaps that it has."""
    rows = [_row(gene) for gene in genes if gene.proteins]
    # HPA lists some genes twice under one symbol, and some without any symbol of their own.
    twin = dict(rows[9]) | {"Ensembl": "ENSG99900000001"}
    nameless = dict(rows[10]) | {"Gene": "ENSG99900000002", "Ensembl": "ENSG99900000002"}
    rows += [twin, nameless]
    header = list(rows[0])
    return delimited(header, [[row[name] for name in header] for row in rows])


def _row(gene: Gene) -> dict[str, str]:
    chance = random.Random(1_000 + gene.number)
    process, function, disease = WORDS[gene.family]
    row = {
        "Gene": gene.published_symbol,
        "Gene synonym": ", ".join(gene.aliases),
        "Ensembl": gene.ensembl_id,
        "Gene description": gene.name,
        "Uniprot": ", ".join(gene.proteins),
        "Chromosome": gene.chromosome.split("|")[0],
        "Position": f"{gene.number * 1000}-{gene.number * 1000 + 500}",
        "Protein class": CLASSES[gene.family],
        "Biological process": process,
        "Molecular function": function,
        "Disease involvement": disease,
        "Evidence": "Evidence at protein level",
    }
    for kind, (capital, small, has_score) in MEASURED.items():
        row |= _measurement(gene, kind, capital, small, has_score, chance)
    row["RNA tissue cell type enrichment"] = _some(
        chance, "Liver - Hepatocytes, Testis - Late spermatids", "Kidney - Tubular cells", ""
    )
    places = LOCATIONS[gene.family]
    row["Subcellular location"] = ",".join(places[: 1 + chance.randrange(len(places))])
    row |= _secretome(gene, chance)
    row |= {"CCD Protein": _some(chance, "Yes", "No", "NA")}
    row |= {"CCD Transcript": _some(chance, "Yes", "No", "NA")}
    for part, clusters in CLUSTERS.items():
        # The cluster follows the family, with one gene in six astray and one without any.
        roll = chance.randrange(6)
        own = clusters[len(gene.family) % 2]
        row[f"{part} expression cluster"] = "" if roll == 0 else clusters[1] if roll == 1 else own
    row["Interactions"] = str(gene.number % 9) if chance.random() < 0.7 else ""
    for cancer in CANCERS:
        row[f"Pathology prognostics - {cancer}"] = _prognosis(gene, chance)
    return row


def _measurement(
    gene: Gene, kind: str, capital: str, small: str, has_score: bool, chance: random.Random
) -> dict[str, str]:
    classes = [f"{capital} enriched", "Group enriched", f"{capital} enhanced"]
    low = f"Low {small} specificity"
    value = classes[len(gene.family) % 3] if chance.random() < 0.6 else low
    row = {f"RNA {kind} specificity": value}
    row[f"RNA {kind} distribution"] = DISTRIBUTIONS[(gene.number + chance.randrange(2)) % 4]
    if has_score:
        score = "" if value == low else str(4 + gene.number % 20)
        row[f"RNA {kind} specificity score"] = score
    if "brain" in kind and kind != "brain regional" and chance.random() < 0.2:
        return dict.fromkeys(row, "")
    return row


def _secretome(gene: Gene, chance: random.Random) -> dict[str, str]:
    is_secreted = gene.family in ("secreted", "peptidase", "hla")
    place = SECRETIONS[gene.number % 3] if is_secreted else ""
    function = _some(chance, "Growth factor", "Enzyme", "Immunity") if is_secreted else ""
    concentration = str(gene.number * 1100) if is_secreted or gene.number % 5 == 0 else ""
    return {
        "Secretome location": place,
        "Secretome function": function,
        "Blood concentration - Conc. blood IM [pg/L]": concentration,
    }


def _prognosis(gene: Gene, chance: random.Random) -> str:
    """A class and its p-value, in each of the ways the atlas writes one."""
    p_value = ["1.2e-4", "0.0012", "3.1E-4", "0.00e+0"][chance.randrange(4)]
    roll = chance.random()
    if roll < 0.1:
        return ""
    if roll < 0.5 and gene.family in ("kinase", "finger", "ribosomal"):
        return f"prognostic unfavorable ({p_value})"
    return f"prognostic favorable ({p_value})" if roll < 0.3 else "unprognostic (1.3e-1)"


def _some(chance: random.Random, *values: str) -> str:
    return values[chance.randrange(len(values))]

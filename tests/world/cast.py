"""The genes of the miniature world: invented, but with the trouble that real ones make."""

import random
from dataclasses import dataclass, field, replace


@dataclass
class Gene:
    """One invented gene and everything that any source says of it."""

    number: int
    symbol: str
    name: str
    family: str
    chromosome: str
    locus: str = "protein-coding"
    aliases: list[str] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    proteins: list[str] = field(default_factory=list)
    summary: str = ""
    is_approved: bool = True
    old_symbol: str = ""

    @property
    def published_symbol(self) -> str:
        """The symbol that other sources print: they lag behind the catalogue."""
        return self.old_symbol or self.symbol

    @property
    def entrez_id(self) -> str:
        return str(9_000_000 + self.number)

    @property
    def hgnc_id(self) -> str:
        return f"HGNC:{90_000 + self.number}"

    @property
    def ensembl_id(self) -> str:
        return f"ENSG{99_000_000_000 + self.number:011d}"

    @property
    def accession(self) -> str:
        return f"X{self.number:05d}"


FAMILIES = {
    # family: (symbol stem, name, summary, usual chromosome, how many)
    "kinase": ("KYN", "serine and threonine kinase", "phosphorylates substrates", "1", 14),
    "finger": ("ZYF", "zinc finger protein", "binds DNA and regulates transcription", "19", 14),
    "receptor": ("GRX", "coupled receptor", "receives signals at the membrane", "11", 14),
    "ribosomal": ("RBX", "ribosomal protein", "part of the ribosome, makes proteins", "6", 12),
    "channel": ("KCX", "potassium channel subunit", "lets ions pass the membrane", "X", 12),
    "secreted": ("SCX", "secreted growth factor", "is secreted and makes cells grow", "2", 12),
    "peptidase": ("PPX", "cysteine peptidase", "cuts proteins in the cell", "3", 12),
}
HLA_CLASSES = {"class I": "ABCEFG", "class II": ["DPA", "DPB", "DQA", "DQB", "DRA", "DRB"]}


def cast_genes() -> list[Gene]:
    """Make the 110 or so genes; the same ones every time."""
    chance = random.Random(20_231_122)
    genes: list[Gene] = []
    for family, (stem, name, summary, chromosome, n) in FAMILIES.items():
        for i in range(1, n + 1):
            number = len(genes) + 1
            genes.append(
                Gene(
                    number=number,
                    symbol=f"{stem}{i}",
                    name=f"{name} {i}",
                    family=family,
                    # One gene in five lies elsewhere than its family.
                    chromosome=chromosome if chance.random() < 0.8 else chance.choice("123X"),
                    aliases=[f"{stem.lower()}-{i}"],
                    proteins=[f"X{number:05d}"],
                    summary=f"This gene encodes a protein that {summary}.",
                )
            )
    for hla_class, letters in HLA_CLASSES.items():
        for letter in letters:
            number = len(genes) + 1
            genes.append(
                Gene(
                    number=number,
                    symbol=f"HLX-{letter}",
                    name=f"major histocompatibility complex, {hla_class}, {letter}",
                    family="hla",
                    chromosome="6",
                    proteins=[f"X{number:05d}"],
                    summary=f"This gene encodes an antigen of {hla_class} that presents peptides.",
                )
            )
    return _trouble(genes)


def _trouble(genes: list[Gene]) -> list[Gene]:
    """Set into the world what real catalogues have in store."""
    by_symbol = {gene.symbol: gene for gene in genes}
    by_symbol["KYN1"].symbol = "NA"
    by_symbol["KYN2"].aliases.append("SHARED1")
    by_symbol["KYN3"].aliases.append("SHARED1")
    by_symbol["ZYF1"].previous.append("OLDZYF")
    by_symbol["ZYF2"].aliases.append("OLDZYF")
    by_symbol["GRX1"].aliases.append("GRX2")
    by_symbol["GRX3"].name = ""
    by_symbol["GRX4"].summary = ""
    by_symbol["RBX1"].proteins = ["X90001", "X90002", "X90003"]
    by_symbol["RBX2"].name = 'ribosomal protein 2, 40S; the "small" one'
    by_symbol["KCX1"].chromosome = "X|Y"
    by_symbol["SCX1"].symbol = "SCXorf1"
    last = genes[-1].number
    pseudogene = Gene(last + 1, "KYN1P1", "kinase pseudogene 1", "none", "2", locus="pseudo")
    silent = Gene(last + 2, "LINCX1", "long non-coding RNA 1", "none", "3", locus="ncRNA")
    withdrawn = Gene(last + 3, "ZYF99", "entry withdrawn", "none", "19", is_approved=False)
    return [*genes, pseudogene, replace(silent, proteins=[]), withdrawn]

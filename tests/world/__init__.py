"""A miniature world: every source in its own format, some kilobytes, made by code alone.

    world = build_world(folder)                  # folder/sources.yaml and the files it names
    world.rename("KYN5", "KYN5NEW")              # and world.write() again
    world.write()

GENEBENCH_SOURCES=folder then reads the world instead of the sources' own servers.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import annotations, atlas, paper
from .cast import Gene, cast_genes
from .tables import write

__all__ = ["Gene", "World", "build_world"]

# File id, file name and content; with its labels, where a source keeps them in a second file.
File = tuple[str, str, str | bytes | tuple[str, str]]

VERSIONS = {
    "bioconductor": "3.16.0",
    "bioconductor_2022": "3.14.0",
    "hgnc": "2024-10-01",
    "hpa": "23.0",
    "reactome": "89",
    "uniprot": "2023_04",
    "opentargets": "23.09",
    "ncbi": "2024-06",
    "ensembl": "110",
    "genecorpus": "30M",
    "gene2vec": "6236e0b2",
    "humantfs": "1.01",
}


@dataclass
class World:
    """The genes, what is said of them, and the folder where the files lie."""

    folder: Path
    genes: list[Gene] = field(default_factory=cast_genes)
    terms: dict[int, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: dict(VERSIONS))
    entries: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def gene(self, symbol: str) -> Gene:
        """The gene of a symbol."""
        return next(gene for gene in self.genes if gene.symbol == symbol)

    def rename(self, symbol: str, new: str) -> None:
        """Give a gene a new symbol in the catalogues, which keep the old one as a former symbol.

        Sources that are no catalogues go on printing the old one.
        """
        gene = self.gene(symbol)
        gene.old_symbol = gene.published_symbol
        gene.previous.append(symbol)
        gene.symbol = new

    def relabel(self, symbol: str, chromosome: str) -> None:
        """Move a gene to another chromosome: one label of one task changes."""
        self.gene(symbol).chromosome = chromosome

    def annotate(self, symbol: str, terms: list[str]) -> None:
        """Give a gene other ontology terms than its own."""
        self.terms[self.gene(symbol).number] = terms

    def resummarise(self, symbol: str, summary: str) -> None:
        """Give a gene another text."""
        self.gene(symbol).summary = summary

    def release(self, source: str, version: str) -> None:
        """Let the next `write` put a source under a new version, beside the older ones."""
        self.versions[source] = version

    def path_of(self, file_id: str) -> Path:
        """Where the newest version of a file lies."""
        return self.folder / self.entries[file_id][-1]["path"]

    def write(self) -> None:
        """Write every file of the current versions, and the `sources.yaml` that names them all."""
        self._write(self._files())

    def _write(self, files: Iterable[File]) -> None:
        for file_id, name, content in files:
            source = file_id.split(".")[0]
            path = Path(source) / self.versions[source] / name
            entry = {"version": self.versions[source], "path": path.as_posix()}
            body = content
            if isinstance(content, tuple):
                body, labels = content
                labels_path = path.with_name(name.replace("text", "label"))
                write(self.folder / labels_path, labels)
                entry["labels"] = labels_path.as_posix()
            write(self.folder / path, body)
            listed = self.entries.setdefault(file_id, [])
            if entry not in listed:
                listed.append(entry)
        write(self.folder / "sources.yaml", yaml.safe_dump(self.entries, sort_keys=False))

    def _files(self) -> Iterator[File]:
        genes = self.genes
        go = annotations.go_annotations_table(genes, self.terms)
        yield "bioconductor.genes", "genes.tsv.gz", annotations.genes_table(genes)
        yield "bioconductor.go_annotations", "go_annotations.tsv.gz", go
        yield "bioconductor.go_terms", "go_terms.tsv.gz", annotations.go_terms_table()
        yield "bioconductor.go_relations", "go_relations.tsv.gz", annotations.go_relations_table()
        publications = annotations.publications_table(genes)
        yield "bioconductor.publications", "publications.tsv.gz", publications
        past = annotations.past_annotations_table(genes)
        past_genes = annotations.past_genes_table(genes)
        yield "bioconductor_2022.genes", "genes.tsv.xz", past_genes
        yield "bioconductor_2022.go_annotations", "go_annotations.tsv.gz", past
        yield "bioconductor_2022.go_terms", "go_terms.tsv.gz", annotations.go_terms_table()
        relations = annotations.go_relations_table()
        yield "bioconductor_2022.go_relations", "go_relations.tsv.gz", relations
        yield "bioconductor_2022.publications", "publications.tsv.gz", publications
        yield "hgnc.complete_set", "hgnc_complete_set.txt.gz", paper.complete_set_table(genes)
        yield "hgnc.withdrawn", "withdrawn.txt", paper.withdrawn_table(genes)
        yield "hgnc.group_588_hla", "group_588.tsv", paper.group_588_table(genes)
        yield "hpa.proteinatlas", "proteinatlas.tsv.zip", atlas.proteinatlas_table(genes)
        yield "hpa.pathology", "pathology.tsv.zip", paper.pathology_table(genes)
        yield "reactome.pathways_gmt", "ReactomePathways.gmt.zip", paper.pathways_gmt(genes)
        relation = paper.pathways_relation()
        yield "reactome.pathways_relation", "ReactomePathwaysRelation.txt", relation
        yield "reactome.pathways_names", "ReactomePathways.txt", paper.pathways_names()
        yield "uniprot.human_keywords", "keywords.json.gz", paper.uniprot_entries(genes)
        yield "uniprot.human_sequences", "sequences.fasta.gz", paper.uniprot_sequences(genes)
        associations = paper.association_parts(genes)
        yield "opentargets.associations", "part-00000.snappy.parquet", associations
        yield "opentargets.diseases", "diseases-part-00000.parquet", paper.disease_parts()
        for name in paper.GENE_CLASSES:
            yield f"genecorpus.{name}", f"{name}.pickle", paper.gene_class_pickle(genes, name)
        for part in ("train", "valid", "test"):
            yield f"gene2vec.pairs_{part}", f"{part}_text.txt", paper.gene_pairs(genes, part)
        yield "humantfs.database_extract", "DatabaseExtract.csv", paper.database_extract(genes)
        yield "ncbi.gene_info", "Homo_sapiens.gene_info.gz", paper.gene_info_table(genes)
        yield "ncbi.summaries", "gene_summary.gz", paper.gene_summaries(genes)
        yield "ensembl.peptides", "pep.all.fa.gz", paper.peptide_fasta(genes)
        yield "ensembl.cdna", "cdna.all.fa.gz", paper.cdna_fasta(genes)


@functools.cache
def _plain_files() -> list[File]:
    """The files of a world in which nothing was changed: most tests begin with it."""
    return list(World(Path())._files())


def build_world(folder: Path) -> World:
    """Make the world in a folder and write its files."""
    world = World(folder)
    world._write(_plain_files())
    return world

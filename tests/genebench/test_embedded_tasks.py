"""Tasks of the embedded annotations that need no ontology of labels: families and phenotypes."""

import polars as pl
import pytest

from genebench.entities.entity_catalogue import build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.errors import DegenerateTask
from genebench.registry.loading import load_registry
from genebench.sources.declaration import embedded_path
from genebench.sources.readers.dispatch import read_source_file
from genebench.tasks.declaration import LabelledSamples
from genebench.tasks.recipes.recipe import build

REGISTRY = load_registry("embedded")
SOURCE = REGISTRY.sources["bioconductor"]


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return {
        f"bioconductor.{name}": read_source_file(embedded_path(file), file, SOURCE, SOURCE.version)
        for name, file in SOURCE.files.items()
    }


@pytest.fixture(scope="module")
def resolvers(tables: dict[str, pl.DataFrame]) -> dict[str, Resolver]:
    _, xrefs = build_catalogue(tables["bioconductor.genes"], "bioconductor.genes")
    return {"gene": Resolver(xrefs)}


def labels_of(built: LabelledSamples, resolver: Resolver, symbols: list[str]) -> list[list[str]]:
    """The labels of genes; those that are no sample have the label `no sample`."""
    found = []
    for entity_id in resolver.resolve(pl.Series(symbols), "symbol").entity_ids:
        labels = built.labels.filter(sample_id=entity_id)["label"].sort().to_list()
        is_sample = entity_id in set(built.samples["entity_id"])
        found.append(labels if is_sample else ["no sample"])
    return found


def test_well_known_genes_have_their_protein_families(tables, resolvers) -> None:
    built = build(tables, REGISTRY.tasks["protein_family"], resolvers)
    asked = ["CDK2", "OR1A1", "HOXA1", "ZNF12", "GAPDH", "XIST"]
    assert labels_of(built, resolvers["gene"], asked) == [
        ["Protein kinase"],
        ["Olfactory receptor"],
        ["Homeodomain"],
        ["C2H2 zinc finger", "KRAB box"],
        [],
        ["no sample"],
    ]
    shares = built.labels["label"].value_counts()["count"] / built.samples.height
    assert len(shares) == 9
    assert shares.min() > 0.01, "rarer labels are not evaluated"


def test_genes_of_known_diseases_have_a_phenotype(tables, resolvers) -> None:
    built = build(tables, REGISTRY.tasks["omim_phenotype"], resolvers)
    # SHOX is on X and Y and has an entry of each; MIR21 is no protein.
    asked = ["CFTR", "BRCA1", "HBB", "HTT", "A1BG", "SHOX", "MIR21"]
    assert labels_of(built, resolvers["gene"], asked) == [
        *[["phenotype"]] * 4,
        ["no phenotype"],
        *[["no sample"]] * 2,
    ]
    positives = (built.labels["label"] == "phenotype").sum()
    assert 0.25 < positives / built.samples.height < 0.35


def test_enzymes_have_their_classes_and_other_genes_are_no_samples(tables, resolvers) -> None:
    built = build(tables, REGISTRY.tasks["enzyme_class"], resolvers)
    dehydrogenase, ligase, kinase, collagen = labels_of(
        built, resolvers["gene"], ["ADH5", "LIG1", "CDK2", "COL1A1"]
    )
    assert "oxidoreductase activity" in dehydrogenase
    assert "ligase activity" in ligase
    assert {"transferase activity", "catalytic activity, acting on a protein"} <= set(kinase)
    assert collagen == ["no sample"]
    assert 4_000 < built.samples.height < 6_000


@pytest.mark.parametrize(
    ("task_id", "column"), [("protein_family", "pfam_ids"), ("omim_phenotype", "n_mim_entries")]
)
def test_a_release_without_the_column_leaves_the_task_out_with_the_reason(
    tables, resolvers, task_id: str, column: str
) -> None:
    older = tables | {"bioconductor.genes": tables["bioconductor.genes"].drop(column)}
    with pytest.raises(DegenerateTask, match=f"bioconductor.genes has no column '{column}'"):
        build(older, REGISTRY.tasks[task_id], resolvers)

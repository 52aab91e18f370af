"""A small catalogue of genes, and tasks built from tables, for tests of the recipes."""

import polars as pl

from genebench.entities.entity_catalogue import build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.tasks.declaration import LabelledSamples, Task
from genebench.tasks.recipes.recipe import build, check_arguments

GENES = pl.DataFrame(
    {
        "hgnc_id": [f"HGNC:{n}" for n in range(1, 9)],
        "symbol": ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "NA", "EIGHT"],
        "name": [f"gene {n}" for n in range(1, 9)],
        "locus_group": ["protein-coding gene"] * 8,
        "status": ["Approved"] * 8,
        "alias_symbol": ["SHARED", "SHARED", "TRE", None, None, None, None, None],
        "prev_symbol": [None] * 7 + ["OCHO"],
        "entrez_id": [str(n) for n in range(1, 9)],
        "ensembl_gene_id": [f"ENSG{n:011d}" for n in range(1, 9)],
        "uniprot_ids": [None] * 8,
    },
    schema_overrides={"prev_symbol": pl.String, "uniprot_ids": pl.String},
)
CATALOGUE = build_catalogue(GENES, "hgnc.complete_set", "hgnc_1")
RESOLVERS = {"gene": Resolver(CATALOGUE.xrefs)}


PAIRED = {"a": ["ONE", "TWO"], "b": ["THREE", "FOUR"], "c": ["FIVE", "NA"]}


def declare(recipe: str, kind: str, arguments: dict, **rest) -> Task:
    data = {"id": "made", "title": "Made", "profile": "paper", "family": "biological"}
    data |= {"source": "made.rows", "recipe": recipe, "kind": kind, "with": arguments, **rest}
    task = Task.model_validate(data)
    assert check_arguments(task) == []
    return task


def run(task: Task, *tables: dict) -> LabelledSamples:
    frames = [
        pl.DataFrame(t, schema_overrides=dict.fromkeys(t, pl.String), strict=True) for t in tables
    ]
    return build(dict(zip(task.source, frames, strict=True)), task, RESOLVERS)


def outcomes(built: LabelledSamples) -> dict:
    """sample_id -> label, or labels, or value."""
    if built.label_names == ["value"]:
        return dict(built.labels.select("sample_id", "value").iter_rows())
    grouped = built.labels.group_by("sample_id").agg(pl.col("label").sort())
    return {name: labels[0] if len(labels) == 1 else labels for name, labels in grouped.iter_rows()}


def by_symbol(**rest) -> dict:
    return {"id": "gene", "namespace": "symbol", **rest}

"""Compares scores of the `paper` protocol with the published scores of the binary tasks.

`python -m benchmarks.published` needs the source files in the folder GENEBENCH_SHARED. They have
summaries of fewer genes (12,758) than the authors had, so task sizes differ; both are printed.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.engine import load_linear
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.folds import assign_folds, make_split
from genebench.probes.declaration import Problem
from genebench.protocols.declaration import positive_class

# Published name of each task and the file of its two gene lists. The authors' names of the two N1
# tasks are swapped: their "network" reads the targets' file.
GENE_LISTS = {
    "bivalent vs non-methylated": "bivalent_vs_no_methyl",
    "Lys4-only-methylated vs non-methylated": "bivalent_vs_lys4_only",
    "dosage sensitive vs insensitive TF": "dosage_sensitivity_TFs",
    "long vs short range TF": "tf_regulatory_range",
    "N1 network": "n1_target",
    "N1 targets": "n1_network",
}


def read_vectors(data: Path) -> Iterator[tuple[str, dict[str, int], npt.NDArray[np.float32]]]:
    """Published model name, rows by symbol, and vectors of the two models with real inputs."""
    from sklearn.feature_extraction.text import CountVectorizer

    frame = pl.read_parquet(data / "embeddings/text_mpnet_all-mpnet-base-v2_binary_tasks.parquet")
    rows = {symbol: i for i, symbol in enumerate(frame["symbol"])}
    yield "MPNet", rows, frame.drop("symbol").to_numpy().astype(np.float32)
    texts = (
        pl.read_csv(data / "ncbi/gene_summaries.tsv.gz", separator="\t", quote_char=None)
        .drop_nulls("ncbi_summary")
        .unique("symbol", keep="first", maintain_order=True)
        .with_columns(
            text=pl.format(
                "Gene symbol {} full name {} with the summary {}", "symbol", "name", "ncbi_summary"
            )
        )
    )
    counts = CountVectorizer(max_features=1024).fit_transform(texts["text"].to_list())
    rows = {symbol: i for i, symbol in enumerate(texts["symbol"])}
    yield "Bag of Words", rows, counts.toarray().astype(np.float32)


def read_tasks(data: Path) -> dict[str, dict[str, str]]:
    """Class by gene symbol of each task; the first class of a repeated gene counts."""
    info = pl.read_csv(data / "geneformer/gene_info_table.csv")
    symbols = dict(zip(info["ensembl_id"], info["gene_name"], strict=True))
    tasks: dict[str, dict[str, str]] = {}
    for task, name in GENE_LISTS.items():
        lists = pl.read_csv(data / f"geneformer/{name}.csv")
        classes: dict[str, str] = {}
        # The header of these files names its two columns the wrong way round.
        for label, genes in zip(lists["gene_id"], lists["label"], strict=True):
            for gene in re.findall(r"ENSG\d+", genes):
                if gene in symbols:
                    classes.setdefault(symbols[gene], label)
        tasks[task] = classes
    factors = pl.read_csv(data / "humantfs/DatabaseExtract_v_1.01.csv", infer_schema=False)
    tasks["TF vs non-TF"] = dict(zip(factors["HGNC symbol"], factors["Is TF?"], strict=True))
    return tasks


def compare(shared: Path) -> list[dict[str, Any]]:
    """One row a model and task: our mean AUC, the published one, and its fold SD."""
    probe, protocol = load_linear()
    published = pl.read_csv(shared / "published/binary_tasks.csv")
    table = {tuple(row[:3]): row[3] for row in published.iter_rows()}
    results = []
    tasks = read_tasks(shared / "data")
    for model, rows, vectors in read_vectors(shared / "data"):
        problems = []
        for task, classes in tasks.items():
            genes = sorted(gene for gene in classes if gene in rows)
            _, positive = positive_class(sorted({*classes.values()}), None, protocol)
            targets = np.array([classes[gene] == positive for gene in genes], dtype=np.uint8)
            entities = np.array(genes)[:, None]
            split = make_split(assign_folds("binary", genes, entities, targets, protocol))
            index = np.array([rows[gene] for gene in genes])[:, None]
            problems.append(Problem(task, "binary", index, targets, (positive,), split))
        for evaluation in evaluate(vectors, problems, probe, protocol):
            areas = evaluation.scores.filter(pl.col("metric") == "roc_auc")["value"]
            key = (evaluation.problem_id, model)
            mean, sd = table[*key, "roc_auc"], table[*key, "roc_auc_sd"]
            ours = float(np.mean(areas.to_numpy()))
            results.append(
                {
                    "model": model,
                    "task": evaluation.problem_id,
                    "n_samples": evaluation.n_samples,
                    "roc_auc": ours,
                    "published": mean,
                    "published_sd": sd,
                    "deviations": abs(ours - mean) / sd,
                }
            )
    return results


def main() -> None:
    """Print the comparison."""
    rows = compare(Path(os.environ.get("GENEBENCH_SHARED", "../shared")))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()

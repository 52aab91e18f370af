"""The registry of the `paper` profile against the paper's tables, task by task."""

from collections import Counter

import polars as pl
import pytest

from genebench.registry.loading import load_registry
from genebench.tasks.declaration import slugify, subtask_id

REGISTRY = load_registry("paper")
PUBLISHED = {t.paper.task: t for t in REGISTRY.tasks.values() if t.paper}
KINDS = {"multi-label": "multilabel", "binary (pair)": "binary"}
FAMILIES = {
    "Genomic": "genomic",
    "Regulatory": "regulatory",
    "Localization": "localization",
    "Biological processes": "biological",
    "Protein properties": "protein",
}


@pytest.fixture(scope="module")
def leaves(shared) -> list[dict[str, str]]:
    """The rows of the paper's tables, a task each."""
    table = pl.read_csv(shared / "tasks.csv", infer_schema=False)
    rows = table.filter(pl.col("parent").is_null()).to_dicts()
    return [{**row, "task": row["task"].partition(" (HEAD")[0]} for row in rows]


def test_there_are_74_leaf_tasks_and_one_that_corrects_another():
    assert len(PUBLISHED) == 74
    assert [t.id for t in REGISTRY.tasks.values() if not t.paper] == ["gene2gene_distinct"]
    assert REGISTRY.tasks["gene2gene"].superseded_by == "gene2gene_distinct"


def test_families_have_the_sizes_of_the_papers_tables():
    sizes = Counter(t.family for t in PUBLISHED.values())
    assert sizes == {
        "genomic": 5, "regulatory": 6, "localization": 30, "biological": 30, "protein": 3,
    }  # fmt: skip


def test_every_leaf_task_of_the_paper_is_declared_exactly_once(leaves):
    wanted = Counter(row["task"] for row in leaves)
    assert Counter(t.paper.task for t in REGISTRY.tasks.values() if t.paper) == wanted
    assert set(wanted.values()) == {1}


def test_kinds_families_and_sizes_are_the_published_ones(leaves):
    for row in leaves:
        task = PUBLISHED[row["task"]]
        kind = KINDS.get(row["type"], row["type"].partition(" ")[0])
        assert task.kind == kind, row["task"]
        assert task.family == FAMILIES[row["family_paper"]], row["task"]
        size = int(row["paper_size"]) if row["paper_size"].isdigit() else None
        assert task.paper.size == size, row["task"]


def test_tasks_of_the_atlas_read_the_published_column(leaves):
    rows = [row for row in leaves if row["source"].startswith("HPA")]
    assert len(rows) == 60
    for row in rows:
        task = PUBLISHED[row["task"]]
        named = row["column_or_file"].partition(" (")[0]
        column = row["task"] if named == "same name" else named
        assert task.source == ("hpa.proteinatlas",)
        assert task.arguments["column"] == column


def test_gene_lists_read_the_published_file(leaves):
    for row in leaves:
        if row["transform"] == "G":
            file = PUBLISHED[row["task"]].source[0].removeprefix("genecorpus.")
            assert file in row["column_or_file"].lower(), row["task"]


def test_only_multi_label_tasks_derive_sub_tasks_and_none_is_listed(shared):
    table = pl.read_csv(shared / "tasks.csv", infer_schema=False)
    children = table.filter(pl.col("parent").is_not_null())
    assert children.height == 293
    for (parent,), rows in children.partition_by("parent", as_dict=True).items():
        task = PUBLISHED[parent]
        assert task.expand == "binary"
        ids = [subtask_id(task.id, label) for label in rows["label"]]
        assert len(set(ids)) == rows.height
        assert not set(ids) & set(REGISTRY.tasks)
    derived = {t.id for t in REGISTRY.tasks.values() if t.expand}
    assert derived == {t.id for name, t in PUBLISHED.items() if name in set(children["parent"])}


def test_ids_are_slugs_and_titles_differ():
    titles = Counter(t.title for t in REGISTRY.tasks.values())
    assert max(titles.values()) == 1
    assert all(slugify(task_id) == task_id for task_id in REGISTRY.tasks)


def test_known_faults_of_the_published_definitions_are_declared_as_deviations():
    for task_id, word in {
        "bivalent_vs_lys4_only": "Lys4-only-methylated vs non-methylated",
        "n1_targets": "N1 network",
        "n1_network": "N1 targets",
        "cell_line_expression_cluster": "nan",
        "pathology_prognostics_glioma": "p-value",
        "gene2gene_distinct": "both labels",
        "pathways": "analysis service",
        "gene_disease_association": "cannot run",
    }.items():
        assert word in (REGISTRY.tasks[task_id].deviation or ""), task_id


def test_every_task_says_what_it_is():
    for task in REGISTRY.tasks.values():
        assert len(task.description) > 20, task.id
        assert task.description.endswith("."), task.id


def test_the_first_class_in_sort_order_is_the_published_positive_one():
    """The paper protocol scores the first class; renamed classes must keep that order."""
    negatives = {"gene2gene": "not related", "tf_vs_non_tf": "Not a transcription factor"}
    for task_id, negative in negatives.items():
        task = REGISTRY.tasks[task_id]
        assert min(negative, str(task.positive)) == negative

"""Task cards: sizes, published sizes and the reason for a difference."""

import datetime as dt

import pytest

from genebench.registry.loading import load_registry
from lakehouse.report.task_cards import TaskCard, card_rows, make_task_cards, render_task_cards
from lakehouse.tables.catalogue import table

REGISTRY = load_registry("paper")


def card(task_id: str, n_samples: int, **snapshot) -> TaskCard:
    """The card of a task that was built from one snapshot."""
    source = REGISTRY.tasks[task_id].source[0].split(".")[0]
    about = {"source": source, "version": "23.0", "is_complete": True, "is_composite": False}
    row = {
        "n_samples": n_samples,
        "n_labels": 2,
        "label_density": 0.25,
        "n_smallest_class": 7,
        "positive": "x",
        "counts": '{"rows": 9, "unresolved": 3, "ambiguous": 0}',
    }
    pinned = {source: REGISTRY.sources[source].version}
    return TaskCard(REGISTRY.tasks[task_id], row, (about | snapshot,), pinned)


def test_an_equal_size_needs_no_reason():
    assert card("dosage_sensitivity", 487, version="30M").difference == ""


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (card("chromosome", 3375, is_complete=False), "the file holds a part of hpa 23.0"),
        (card("chromosome", 19_000, version="18.1"), "hpa 18.1 instead of 23.0"),
        (
            card("chromosome", 19_997, version="23.0-composite", is_composite=True),
            "hpa 23.0-composite mixes versions",
        ),
        (card("n1_targets", 1126, version="30M"), "restriction to symbols shared"),
        (card("pathology_prognostics_glioma", 17_537), "the paper gives no number"),
        (card("gene2gene_distinct", 288_334), "not in the paper"),
        (card("uniprot_keyword_ptm", 11_980, version="2023_04"), "restriction to symbols shared"),
        (card("chromosome", 19_997), "its definition deviates"),
    ],
)
def test_a_difference_is_explained(made, words):
    assert words in made.difference


def test_a_card_gives_the_reason_why_a_task_was_not_built():
    absent = TaskCard(REGISTRY.tasks["pathways"], None, absence="no snapshot of reactome")
    assert absent.difference == "not applicable: no snapshot of reactome"
    assert absent.cells[2] == ""


def test_a_card_has_definition_sizes_balance_and_excluded_rows():
    rows = dict(card_rows(card("n1_targets", 1126, version="30M")))
    assert rows["published rows"] == "1,103"
    assert rows["rows"] == "1,126"
    assert rows["labels"] == "25.0% x"
    assert rows["excluded or merged rows"] == "unresolved 3"
    assert "N1 network" in rows["deviation from the paper"]
    assert rows["versions"] == "genecorpus 30M"


def test_cards_find_their_snapshots_and_keep_the_papers_order():
    tasks, snapshots = table("silver.tasks").empty(), table("bronze.snapshots").empty()
    cards = make_task_cards(REGISTRY, tasks, snapshots, {"pathways": "x"})
    assert len(cards) == 75
    assert [cards[0].task.family, cards[-1].task.family] == ["genomic", "protein"]
    page = render_task_cards(cards)
    assert page.count("\n### ") == 75
    assert str(dt.datetime.now(dt.UTC).year) not in page

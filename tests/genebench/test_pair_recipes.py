"""Tests the recipes for pairs of entities on small tables."""

from built_tasks import declare, outcomes, run
from hypothesis import given
from hypothesis import strategies as st

from genebench.tasks.declaration import Task

PAIRS = {
    "first": ["ONE", "ONE", "TWO", "SIX", "SIX", "FOUR", "FIVE", "SHARED"],
    "second": ["TWO", "TWO", "ONE", "FIVE", "FIVE", "FOUR", "EIGHT", "ONE"],
    "label": ["1", "1", "1", "0", "1", "1", "0", "0"],
}


def declare_pairs(**rest) -> Task:
    arguments = {"first": "first", "second": "second", "namespace": "symbol", "label": "label"}
    return declare("pairs", "binary", arguments | rest, positive="1", entity=["gene", "gene"])


def test_pairs_drops_repeats_in_either_order_contradictions_and_self_pairs():
    built = run(declare_pairs(), PAIRS)
    assert outcomes(built) == {"hgnc:1|hgnc:2": "1", "hgnc:5|hgnc:8": "0"}
    assert built.counts["self pairs"] == 1
    assert built.counts["contradictory pairs"] == 2
    assert built.counts["repeated pairs"] == 2
    assert built.counts["pairs with an unresolved entity"] == 1


def test_pairs_keeps_every_row_when_the_published_size_is_wanted():
    keep = dict.fromkeys(("repeats", "contradictions", "self_pairs", "unknown"), "keep")
    built = run(declare_pairs(**keep), PAIRS)
    assert built.samples["sample_id"].n_unique() == 8
    assert built.samples.height == 16
    assert "hgnc:1|hgnc:2#2" in outcomes(built)
    assert outcomes(built)["hgnc.symbol:SHARED|hgnc:1"] == "0"


def test_pairs_without_a_label_are_left_out_and_contradict_none():
    rows = {"first": ["ONE", "TWO", "SIX"], "second": ["TWO", "ONE", "FIVE"]}
    built = run(declare_pairs(), rows | {"label": ["1", None, "0"]})
    assert outcomes(built) == {"hgnc:1|hgnc:2": "1", "hgnc:6|hgnc:5": "0"}
    assert built.counts["without a value"] == 1
    assert built.counts["contradictory pairs"] == 0


def test_the_second_column_of_pairs_may_hold_another_namespace():
    rows = {"first": ["ONE", "ONE"], "second": ["2", "6"], "label": ["1", "0"]}
    built = run(declare_pairs(second_namespace="entrez"), rows)
    assert outcomes(built) == {"hgnc:1|hgnc:2": "1", "hgnc:1|hgnc:6": "0"}


def test_association_takes_the_mean_of_repeated_pairs():
    arguments = {"first": "a", "first_namespace": "ensembl", "second": "b", "score": "s"}
    task = declare(
        "association",
        "regression",
        arguments | {"second_namespace": "symbol"},
        entity=["gene", "gene"],
    )
    rows = {"a": ["ENSG00000000001"] * 2, "b": ["TWO", "TWO"], "s": ["0.25", "0.75"]}
    assert outcomes(run(task, rows)) == {"hgnc:1|hgnc:2": 0.5}


@given(st.permutations(range(8)))
def test_the_order_of_rows_does_not_change_the_result(order):
    rows = {name: [cells[i] for i in order] for name, cells in PAIRS.items()}
    keep = {"repeats": "keep", "contradictions": "keep"}
    for task in (declare_pairs(), declare_pairs(**keep)):
        one, other = run(task, rows), run(task, PAIRS)
        assert (
            one.samples.select("entity_id")
            .sort("entity_id")
            .equals(other.samples.select("entity_id").sort("entity_id"))
        )
        assert (
            one.labels["label"]
            .value_counts()
            .sort("label")
            .equals(other.labels["label"].value_counts().sort("label"))
        )

"""Hold-out groups: groups from task labels, and folds that never split a group."""

import numpy as np
import polars as pl
import pytest
from declared import read_protocol

from genebench.errors import LakeError
from genebench.evaluation.problems import prepare_task, universe_ids
from lakehouse.score.holdout_groups import group_entities

GROUPED = read_protocol("paper", folds={"groups": "chromosome"})
GENES = [f"hgnc:{number:03d}" for number in range(120)]


def rows_of(task_id, outcome):
    samples = pl.DataFrame(
        {"task_id": task_id, "sample_id": GENES, "position": 0, "entity_id": GENES}
    )
    labels = pl.DataFrame(
        [(task_id, gene, label, 1.0) for gene, words in zip(GENES, outcome, strict=True)
         for label in words.split(",") if label],
        schema=["task_id", "sample_id", "label", "value"],
        orient="row",
    )  # fmt: skip
    return samples, labels


def test_a_group_is_the_rarest_label_and_an_entity_without_one_is_alone():
    words = ["big"] * 100 + ["big,small"] * 10 + [""] * 10
    samples, labels = rows_of("family", words)
    groups = group_entities(pl.Series(GENES), samples, labels, "family")
    assert len(set(groups[:100])) == 1
    assert len(set(groups[100:110])) == 1
    assert groups[0] != groups[100]
    assert len(set(groups[110:])) == 10


def test_no_chromosome_is_on_both_sides_of_a_fold_and_the_digest_knows_the_groups():
    samples, labels = rows_of("chromosome", [str(number % 12) for number in range(120)])
    universe = universe_ids(samples)
    groups = group_entities(universe, samples, labels, "chromosome")
    rng = np.random.default_rng(0)
    own, outcome = rows_of("is_factor", [str(word) for word in rng.choice(["no", "yes"], 120)])
    task = {"task_id": "is_factor", "family": "genomic", "kind": "binary", "positive": "yes"}
    prepared = prepare_task(task, own, outcome, universe, GROUPED, groups)
    folds = prepared.slot_folds(GROUPED)[:, 0, 0]
    chromosomes = np.arange(120) % 12
    for chromosome in range(12):
        assert len(set(folds[chromosomes == chromosome])) == 1
    assert len(set(folds)) == 5
    plain = prepare_task(task, own, outcome, universe, GROUPED)
    assert plain.label_digest != prepared.label_digest
    assert prepare_task(task, own, outcome, universe, GROUPED, groups * 7).label_digest == (
        prepared.label_digest
    )
    with pytest.raises(ValueError, match="pass `groups`"):
        plain.slot_folds(GROUPED)


def test_an_unknown_grouping_is_refused_with_the_tasks_that_there_are():
    samples, labels = rows_of("chromosome", ["1"] * 120)
    with pytest.raises(LakeError, match="one of chromosome"):
        group_entities(pl.Series(GENES), samples, labels, "gene_family")

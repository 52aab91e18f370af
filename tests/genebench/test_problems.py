"""Tasks restricted to a universe: kept samples, dropped labels, and digests."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from genebench.errors import DegenerateTask
from genebench.evaluation.problems import derive_subtasks, feature_digests, prepare_task
from genebench.registry.loading import load_registry

PROTOCOLS = load_registry().protocols
STANDARD, PAPER = PROTOCOLS["standard"], PROTOCOLS["paper"]


def task_of(kind, positive=None):
    return {"task_id": "t", "family": "genomic", "kind": kind, "positive": positive}


def singles(labels):
    """Samples and labels of single entities: entity id to a class, a number or a set of labels."""
    samples = pl.DataFrame(
        [(e, 0, "gene", e) for e in labels],
        schema={
            "sample_id": pl.String,
            "position": pl.Int8,
            "entity_type": pl.String,
            "entity_id": pl.String,
        },
        orient="row",
    )
    rows = []
    for entity, label in labels.items():
        if isinstance(label, set):
            rows += [(entity, name, 1.0) for name in label]
        elif isinstance(label, float):
            rows.append((entity, "value", label))
        else:
            rows.append((entity, label, 1.0))
    schema = {"sample_id": pl.String, "label": pl.String, "value": pl.Float64}
    return samples, pl.DataFrame(rows, schema=schema, orient="row")


def universe(ids):
    return pl.Series("entity_id", sorted(ids), dtype=pl.String)


def test_samples_outside_the_universe_are_left_out_and_rows_point_into_it():
    samples, labels = singles({"b": "x", "a": "y", "c": "x"})
    prepared = prepare_task(task_of("multiclass"), samples, labels, universe("abd"), STANDARD)
    assert prepared.sample_ids.tolist() == ["a", "b"]
    assert prepared.rows.ravel().tolist() == [0, 1]
    assert [prepared.labels[code] for code in prepared.targets] == ["y", "x"]


def test_a_pair_needs_both_its_entities():
    samples = pl.DataFrame(
        {
            "sample_id": ["a|b", "a|b", "a|z", "a|z", "b|c", "b|c"],
            "position": [0, 1, 0, 1, 0, 1],
            "entity_type": ["gene"] * 6,
            "entity_id": ["a", "b", "a", "z", "b", "c"],
        },
        schema_overrides={"position": pl.Int8},
    )
    labels = pl.DataFrame(
        {"sample_id": ["a|b", "a|z", "b|c"], "label": ["no", "yes", "yes"], "value": [1.0] * 3}
    )
    prepared = prepare_task(task_of("binary", "yes"), samples, labels, universe("abc"), STANDARD)
    assert prepared.sample_ids.tolist() == ["a|b", "b|c"]
    assert prepared.rows.tolist() == [[0, 1], [1, 2]]
    assert prepared.targets.tolist() == [0, 1]


def test_a_rare_class_goes_with_its_samples_and_a_rare_label_alone():
    ids = [f"g{i:03}" for i in range(200)]
    classes = {e: "rare" if i < 2 else "ab"[i % 2] for i, e in enumerate(ids)}
    prepared = prepare_task(task_of("multiclass"), *singles(classes), universe(ids), STANDARD)
    assert prepared.labels == ("a", "b")
    assert prepared.n_samples == 198
    sets = {e: {"rare", "a"} if i < 2 else {"ab"[i % 2]} for i, e in enumerate(ids)}
    prepared = prepare_task(task_of("multilabel"), *singles(sets), universe(ids), STANDARD)
    assert prepared.labels == ("a", "b")
    assert prepared.n_samples == 200


def test_the_published_runs_dropped_rare_labels_and_no_class():
    ids = [f"g{i:03}" for i in range(1_000)]
    classes = {e: "rare" if i < 7 else "common" for i, e in enumerate(ids)}
    prepared = prepare_task(task_of("multiclass"), *singles(classes), universe(ids), PAPER)
    assert prepared.labels == ("common", "rare")
    assert prepared.n_samples == 1_000
    sets = {e: {"rare", "common"} if i < 7 else {"common"} for i, e in enumerate(ids)}
    prepared = prepare_task(task_of("multilabel"), *singles(sets), universe(ids), PAPER)
    assert prepared.labels == ("common",)


def test_exactly_the_share_is_not_above_it():
    ids = [f"g{i:03}" for i in range(200)]
    labels = {e: {"edge", "all"} if i < 2 else {"all"} for i, e in enumerate(ids)}
    assert prepare_task(task_of("multilabel"), *singles(labels), universe(ids), PAPER).labels == (
        "all",
    )


def test_the_positive_class_is_declared_or_the_papers_first_one():
    samples, labels = singles({"a": "no", "b": "yes", "c": "no"})
    ours = prepare_task(task_of("binary", "yes"), samples, labels, universe("abc"), STANDARD)
    theirs = prepare_task(task_of("binary", "yes"), samples, labels, universe("abc"), PAPER)
    assert ours.targets.tolist() == [0, 1, 0]
    assert theirs.targets.tolist() == [1, 0, 1]
    assert ours.label_digest != theirs.label_digest


def test_a_task_without_samples_in_the_universe_says_so():
    samples, labels = singles({"a": "x", "b": "y"})
    with pytest.raises(DegenerateTask, match="no sample has all its entities"):
        prepare_task(task_of("multiclass"), samples, labels, universe("z"), STANDARD)


def test_one_class_left_is_no_task():
    samples, labels = singles({"a": "x", "b": "y"})
    with pytest.raises(DegenerateTask, match="only the class 'x'"):
        prepare_task(task_of("binary", "x"), samples, labels, universe("a"), STANDARD)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(-9, 9), min_size=1))
def test_digests_see_labels_and_universe_but_not_row_order(values):
    samples, labels = singles(values)
    ids = universe(values)
    prepared = prepare_task(task_of("regression"), samples, labels, ids, STANDARD)
    again = prepare_task(task_of("regression"), samples[::-1], labels[::-1], ids, STANDARD)
    assert again.label_digest == prepared.label_digest
    wider = universe([*values, "zzzz"])
    assert prepare_task(task_of("regression"), samples, labels, wider, STANDARD).label_digest == (
        prepared.label_digest
    )
    first = labels["sample_id"][0]
    moved = labels.with_columns(
        pl.when(pl.col("sample_id") == first).then(pl.col("value") + 1).otherwise("value")
    )
    assert prepare_task(task_of("regression"), samples, moved, ids, STANDARD).label_digest != (
        prepared.label_digest
    )


def test_subtasks_ask_one_label_each_of_the_same_samples():
    ids = [f"g{i}" for i in range(10)]
    samples, labels = singles({e: {"a", "b"} if i % 2 else {"b"} for i, e in enumerate(ids)})
    parent = prepare_task(task_of("multilabel"), samples, labels, universe(ids), STANDARD)
    subtasks = {s.task_id: s for s in derive_subtasks(parent, STANDARD)}
    assert set(subtasks) == {"t__a", "t__b"}
    assert subtasks["t__a"].targets.sum() == 5
    assert subtasks["t__a"].parent_task_id == "t"
    theirs = {s.task_id: s for s in derive_subtasks(parent, PAPER)}
    assert (theirs["t__a"].targets == 1 - subtasks["t__a"].targets).all()
    assert theirs["t__a"].label_digest != subtasks["t__a"].label_digest


def test_feature_digests_see_only_the_vectors_that_a_task_uses():
    samples, labels = singles({"a": 1.0, "b": 2.0})
    other_samples, other_labels = singles({"c": 1.0, "d": 2.0})
    ids = universe("abcd")
    tasks = [
        prepare_task(task_of("regression"), samples, labels, ids, STANDARD),
        prepare_task(task_of("regression"), other_samples, other_labels, ids, STANDARD),
    ]
    before = feature_digests(tasks, ids, pl.Series(["1", "2", "3", "4"]))
    after = feature_digests(tasks, ids, pl.Series(["1", "2", "3", "9"]))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_folds_are_a_partition_that_does_not_depend_on_the_encoder():
    ids = [f"g{i:02}" for i in range(40)]
    samples, labels = singles({e: "xy"[i % 2] for i, e in enumerate(ids)})
    narrow = prepare_task(task_of("binary", "x"), samples, labels, universe(ids), PAPER)
    wide = prepare_task(task_of("binary", "x"), samples, labels, universe([*ids, "a", "z"]), PAPER)
    folds = narrow.slot_folds(PAPER)
    assert np.array_equal(folds, wide.slot_folds(PAPER))
    assert sorted(np.bincount(folds.ravel())) == [8] * 5
    problem = narrow.problem("key", PAPER)
    assert ((problem.split == 2).sum(axis=1) == 1).all()


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(-9, 9), min_size=2))
def test_standard_predicts_ranks_so_that_no_scale_of_the_numbers_matters(values):
    samples, labels = singles(values)
    stretched = labels.with_columns(pl.col("value") * 1000 + 7)
    ids = universe(values)
    given_numbers = prepare_task(task_of("regression"), samples, labels, ids, PAPER).targets
    scores = prepare_task(task_of("regression"), samples, labels, ids, STANDARD).targets
    assert given_numbers.tolist() == [values[name] for name in sorted(values)]
    assert np.isfinite(scores).all()
    assert np.abs(scores).max() < 4
    ranks = rankdata(given_numbers)
    assert np.allclose(scores, norm.ppf((ranks - 0.5) / len(ranks)))
    if stretched["value"].n_unique() == labels["value"].n_unique():
        again = prepare_task(task_of("regression"), samples, stretched, ids, STANDARD).targets
        assert np.array_equal(scores, again)


def test_a_task_whose_samples_are_all_in_one_group_says_that_no_fold_can_hold_it_out():
    samples, labels = singles({f"g{n}": "yes" if n % 2 else "no" for n in range(8)})
    ids = universe(samples["entity_id"].to_list())
    task = task_of("binary", "yes")
    with pytest.raises(DegenerateTask, match="t: all samples are in one hold-out group"):
        prepare_task(task, samples, labels, ids, STANDARD, np.full(8, 3))
    assert prepare_task(task, samples, labels, ids, STANDARD, np.arange(8) // 4).n_samples == 8

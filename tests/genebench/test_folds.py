"""Folds are a partition, do not depend on row order, and do not leak entities or groups."""

import numpy as np
import pytest
from declared import read_fields, read_protocol
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.evaluation.folds import assign_folds, make_split
from genebench.probes.declaration import TEST, TRAIN, UNUSED


def load(name, **folds):
    return read_protocol(name, folds=read_fields("protocols", name)["folds"] | folds)


def singles(n):
    ids = np.array([f"ncbigene:{i * 7919 % 100003}" for i in range(n)])
    return list(ids), ids[:, None]


def pairs(n, n_entities, seed):
    rng = np.random.default_rng(seed)
    entities = np.array([f"hgnc:{i}" for i in range(n_entities)])
    drawn = entities[rng.integers(0, n_entities, (n, 2))]
    return [f"{a}|{b}#{i}" for i, (a, b) in enumerate(drawn)], drawn


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(10, 200),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["binary", "regression"]),
)
def test_folds_are_a_partition_of_near_equal_parts(n, share, seed, kind):
    ids, entities = singles(n)
    targets = (np.random.default_rng(seed).random(n) < share).astype(np.uint8)
    split = make_split(assign_folds(kind, ids, entities, targets, load("paper")))
    assert ((split == TEST).sum(axis=1) == 1).all()
    assert ((split == TRAIN).sum(axis=1) == 4).all()
    sizes = (split == TEST).sum(axis=0)
    assert sizes.max() - sizes.min() <= 1
    if kind == "binary":
        positives = [targets[split[:, k] == TEST].sum() for k in range(5)]
        assert max(positives) - min(positives) <= 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(["paper", "standard"]), two=st.booleans())
def test_folds_do_not_depend_on_row_order(seed, name, two):
    rng = np.random.default_rng(seed)
    ids, entities = pairs(80, 20, seed) if two else singles(80)
    targets = rng.integers(0, 2, 80)
    order = rng.permutation(80)
    protocol = load(name)
    first = assign_folds("binary", ids, entities, targets, protocol)
    shuffled = assign_folds(
        "binary", [ids[i] for i in order], entities[order], targets[order], protocol
    )
    assert (first[order] == shuffled).all()


def test_another_seed_deals_otherwise():
    ids, entities = singles(100)
    targets = np.zeros(100)
    dealt = [
        assign_folds("regression", ids, entities, targets, load("paper", seed=s)) for s in (0, 1)
    ]
    assert (dealt[0] != dealt[1]).any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(60, 300), n_entities=st.integers(15, 60))
def test_no_entity_of_a_held_out_pair_is_trained_on(seed, n, n_entities):
    ids, entities = pairs(n, n_entities, seed)
    targets = np.random.default_rng(seed).integers(0, 2, n)
    split = make_split(assign_folds("binary", ids, entities, targets, load("standard")))
    assert (split == UNUSED).any()
    assert (split == TEST).any()
    for fold in split.T:
        held, trained = set(entities[fold == TEST].ravel()), set(entities[fold == TRAIN].ravel())
        assert not held & trained


def test_plain_folds_of_pairs_do_share_entities():
    ids, entities = pairs(200, 30, 0)
    targets = np.random.default_rng(0).integers(0, 2, 200)
    split = make_split(assign_folds("binary", ids, entities, targets, load("paper")))
    fold = split[:, 0]
    assert (split != UNUSED).all()
    assert set(entities[fold == TEST].ravel()) & set(entities[fold == TRAIN].ravel())


def test_entities_are_dealt_so_that_both_classes_are_spread():
    ids, entities = pairs(5000, 400, 3)
    targets = (np.random.default_rng(3).random(5000) < 0.2).astype(np.uint8)
    slots = assign_folds("binary", ids, entities, targets, load("standard"))
    for outcome in (0, 1):
        counts = np.bincount(slots[targets == outcome, :, 0].ravel(), minlength=5)
        assert counts.max() < 1.1 * counts.min()


def test_a_group_is_held_out_whole_and_a_missing_grouping_is_refused():
    ids, entities = singles(120)
    targets = np.random.default_rng(0).integers(0, 2, 120)
    groups = np.array([f"family_{i % 13}" for i in range(120)])[:, None]
    protocol = load("standard", groups="gene_family", small_repeats=2)
    slots = assign_folds("binary", ids, entities, targets, protocol, groups=groups)
    for repeat in range(2):
        for group in np.unique(groups):
            assert len(np.unique(slots[groups[:, 0] == group, 0, repeat])) == 1
    with pytest.raises(ValueError, match="gene_family"):
        assign_folds("binary", ids, entities, targets, protocol)


def test_small_tasks_are_repeated_with_other_folds():
    ids, entities = singles(100)
    targets = np.arange(100) % 2
    slots = assign_folds("binary", ids, entities, targets, load("standard"))
    assert slots.shape == (100, 1, 5)
    assert slots.dtype == np.int8
    assert (slots[:, 0, 0] != slots[:, 0, 1]).any()
    split = make_split(slots)
    assert split.shape == (100, 25)
    for repeat in range(5):
        assert ((split[:, 5 * repeat : 5 * repeat + 5] == TEST).sum(axis=1) == 1).all()
    ids, entities = singles(1000)
    assert assign_folds("regression", ids, entities, np.zeros(1000), load("standard")).shape[2] == 1


def test_repeated_sample_ids_are_refused():
    with pytest.raises(ValueError, match="repeat"):
        assign_folds("binary", ["a", "a"], np.array([["a"], ["a"]]), np.zeros(2), load("paper"))

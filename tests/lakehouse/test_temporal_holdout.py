"""Temporal hold-out: labels gained later are predicted from earlier labels only."""

import datetime as dt
import time

import numpy as np
import polars as pl
import pytest
from blanks import filled
from declared import read_probe, read_protocol

from genebench.digest import digest_vectors
from genebench.errors import LakeError
from genebench.evaluation.folds import make_split
from genebench.probes.declaration import TEST, TRAIN
from lakehouse import open_lake
from lakehouse.score.universes import read_prepared_task
from lakehouse.studies.temporal_holdout import measure_temporal_holdout
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
N = 400
GENES = [f"hgnc:{number:03d}" for number in range(N)]


def labels_of(**having):
    rows = [
        {"task_id": "role", "family": "f", "sample_id": gene, "label": label, "value": 1.0}
        for label, chosen in having.items()
        for gene, is_in in zip(GENES, chosen, strict=True)
        if is_in
    ]
    return filled("silver.labels", rows)


@pytest.fixture
def lake(tmp_path):
    """`kinase` is gained by genes that look like kinases, `binder` by any."""
    opened = open_lake(tmp_path / "lake")
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(N, 6)).astype(np.float32)
    is_kinase = matrix[:, 0] + 0.3 * rng.normal(size=N) > 0.3
    is_binder = rng.random(N) < 0.4
    known = rng.random((2, N)) < 0.6
    embeddings = filled(
        "silver.embeddings",
        [
            {"encoder_id": "e", "entity_type": "gene", "entity_id": gene, "dimension": 6,
             "vector": vector.tolist(), "vector_digest": digest}
            for gene, vector, digest in zip(GENES, matrix, digest_vectors(matrix), strict=True)
        ],
    )  # fmt: skip
    task = {"task_id": "role", "family": "f", "kind": "multilabel", "entity_types": "gene"}
    who = {"entity_type": "gene", "family": "f", "task_id": "role"}
    samples = [who | {"sample_id": gene, "entity_id": gene} for gene in GENES]
    single = task | {"task_id": "single", "kind": "binary"}
    opened.delta.replace("silver.tasks", filled("silver.tasks", [task, single]), COMMIT)
    opened.delta.replace(
        "silver.samples", filled("silver.samples", samples), COMMIT, {"family": "f"}
    )
    opened.delta.replace("silver.embeddings", embeddings, COMMIT, {"encoder_id": "e"})
    before = labels_of(kinase=is_kinase & known[0], binder=is_binder & known[1])
    opened.delta.replace("silver.labels", before, COMMIT, {"family": "f"})
    time.sleep(0.05)
    as_of = dt.datetime.now(dt.UTC)
    time.sleep(0.05)
    after = labels_of(kinase=is_kinase, binder=is_binder)
    opened.delta.replace("silver.labels", after, COMMIT, {"family": "f"})
    n_gained = {"kinase": int((is_kinase & ~known[0]).sum())}
    return open_lake(tmp_path / "lake"), as_of, n_gained


def measure(lake, as_of, task="role", protocol=None, **options):
    probe = read_probe("linear")
    protocol = protocol or read_protocol("standard")
    return measure_temporal_holdout(lake, task, "e", as_of, probe, protocol, **options)


def test_labels_that_vectors_predict_are_found_and_others_are_not(lake):
    opened, as_of, n_gained = lake
    found = {row["label"]: row for row in measure(opened, as_of).iter_rows(named=True)}
    assert found["kinase"]["n_gained"] == n_gained["kinase"]
    assert found["kinase"]["n_lost"] == 0
    assert found["kinase"]["low"] > 0.7
    assert found["binder"]["low"] < 0.5 < found["binder"]["high"]


def test_no_gained_label_is_an_error_and_not_an_empty_table(lake):
    opened, _, _ = lake
    with pytest.raises(LakeError, match="no label was gained"):
        measure(opened, "2999-01-01")
    with pytest.raises(LakeError, match="single is binary"):
        measure(opened, "2999-01-01", task="single")


def test_groups_are_held_out_whole_in_studies_too(lake):
    opened, as_of, _ = lake
    who = {"family": "g", "task_id": "place", "entity_type": "gene"}
    where = np.arange(N) % 40
    samples = [who | {"sample_id": gene, "entity_id": gene} for gene in GENES]
    labels = [
        {"family": "g", "task_id": "place", "sample_id": gene, "label": f"p{place}", "value": 1.0}
        for gene, place in zip(GENES, where, strict=True)
    ]
    for name, rows in (("silver.samples", samples), ("silver.labels", labels)):
        opened.delta.replace(name, filled(name, rows), COMMIT, {"family": "g"})
    standard = read_protocol("standard")
    folds = standard.folds.model_copy(update={"groups": "place"})
    protocol = standard.model_copy(update={"folds": folds})

    universe = pl.Series("entity_id", GENES)
    prepared = read_prepared_task(opened, opened.task("role"), universe, protocol)
    for fold in make_split(prepared.slot_folds(protocol)).T:
        assert (fold == TEST).any()
        places = [set(where[prepared.rows[fold == part, 0]]) for part in (TEST, TRAIN)]
        assert places[0].isdisjoint(places[1])
    assert measure(opened, as_of, protocol=protocol).filter(label="kinase")["low"][0] > 0.7


def test_an_encoder_without_vectors_says_how_to_embed_it(lake):
    opened, as_of, _ = lake
    probe, protocol = read_probe("linear"), read_protocol("standard")
    with pytest.raises(LakeError, match=r"no vectors of 'tfidf'.*`genebench embed tfidf`"):
        measure_temporal_holdout(opened, "role", "tfidf", as_of, probe, protocol)


def test_a_day_before_the_task_asks_for_a_later_one(lake):
    opened, _, _ = lake
    with pytest.raises(LakeError, match=r"no sample of role was in the lake.*later"):
        measure(opened, "2001-01-01")


def test_vectors_of_an_interrupted_embedding_are_not_studied(lake):
    opened, as_of, _ = lake
    row = filled("silver.encoders", [{"encoder_id": "e", "is_complete": False}])
    opened.delta.replace("silver.encoders", row, COMMIT, {"encoder_id": "e"})
    with pytest.raises(LakeError, match="`genebench embed e` to resume it"):
        measure(opened, as_of)

"""Plans and universes: superseded tasks, shared evaluations and coverage per entity type."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
from blanks import filled
from declared import read_probe, read_protocol

from genebench.digest import digest_vectors
from lakehouse import open_lake
from lakehouse.score.plan import current_release, plan_release, planned_probes
from lakehouse.tables.commits import Commit

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
GENES = [f"hgnc:{number:03d}" for number in range(60)]


@pytest.fixture
def lake(tmp_path):
    """Two tasks of the same genes; the first is superseded by the second."""
    opened = open_lake(tmp_path / "lake")
    matrix = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    tasks, samples, labels = [], [], []
    for task_id, newer in (("old", "new"), ("new", None)):
        tasks.append(
            {"task_id": task_id, "family": "f", "kind": "binary", "entity_types": "gene",
             "labels": ["no", "yes"], "positive": "yes", "superseded_by": newer}
        )  # fmt: skip
        for number, gene in enumerate(GENES):
            who = {"family": "f", "task_id": task_id, "sample_id": gene}
            samples.append(who | {"entity_type": "gene", "entity_id": gene})
            is_in = (number % 3 == 0) == (task_id == "new")
            labels.append(who | {"label": "yes" if is_in else "no", "value": 1.0})
    encoder = {"encoder_id": "e", "modality": "text", "dimension": 4, "is_complete": True}
    vectors = [
        {"encoder_id": "e", "entity_type": "gene", "entity_id": gene, "dimension": 4,
         "vector": vector.tolist(), "vector_digest": digest}
        for gene, vector, digest in zip(GENES, matrix, digest_vectors(matrix), strict=True)
    ]  # fmt: skip
    opened.delta.replace("silver.tasks", filled("silver.tasks", tasks), COMMIT)
    for name, rows, where in (
        ("silver.samples", samples, {"family": "f"}),
        ("silver.labels", labels, {"family": "f"}),
        ("silver.encoders", [encoder], {"encoder_id": "e"}),
        ("silver.embeddings", vectors, {"encoder_id": "e"}),
    ):
        opened.delta.replace(name, filled(name, rows), COMMIT, where)
    return opened


def plan(lake, **options):
    protocol = read_protocol("standard")
    return plan_release(lake.delta, protocol, [read_probe("linear")], "current", **options)


def test_a_superseded_task_is_planned_only_by_its_name(lake):
    plain, named = plan(lake), plan(lake, named_tasks=frozenset({"old"}))
    assert set(plain.items["task_id"]) == {"new"}
    assert "superseded by new" in plain.excluded["old"]
    assert set(named.items["task_id"]) == {"old", "new"}
    assert "old" not in named.excluded


def test_naming_a_superseded_task_changes_no_other_key(lake):
    plain, named = plan(lake), plan(lake, named_tasks=frozenset({"old"}))
    assert plain.items.height == 1
    keys = named.items.filter(task_id="new")["evaluation_key"]
    assert keys.to_list() == plain.items["evaluation_key"].to_list()


def test_an_evaluation_shared_by_two_encoders_is_pending_once(lake):
    for name in ("silver.encoders", "silver.embeddings"):
        rows = lake.table(name).collect().with_columns(pl.lit("twin").alias("encoder_id"))
        lake.delta.replace(name, rows, COMMIT, {"encoder_id": "twin"})
    found = plan(lake)
    assert found.items["encoder_id"].to_list() == ["e", "twin"]
    assert found.items["evaluation_key"].n_unique() == 1
    assert found.select(["new"], ["e", "twin"])["encoder_id"].to_list() == ["e"]
    assert found.select(["new"], ["twin"])["encoder_id"].to_list() == ["twin"]


def test_an_encoder_of_one_family_leaves_the_entities_of_the_others_alone(lake):
    temporal = {"family": "temporal", "task_id": "later", "entity_type": "gene"}
    samples = [temporal | {"sample_id": gene, "entity_id": gene} for gene in GENES[:20]]
    where = {"family": "temporal"}
    lake.delta.replace("silver.samples", filled("silver.samples", samples), COMMIT, where)
    before = plan(lake).items.filter(family="f")
    for known in (GENES[:20], GENES[1:20]):
        encoder = {"encoder_id": "past", "modality": "text", "is_complete": True}
        vectors = [
            {"encoder_id": "past", "entity_type": "gene", "entity_id": gene, "dimension": 1,
             "vector": [1.0], "vector_digest": gene}
            for gene in known
        ]  # fmt: skip
        for name, rows in (("silver.embeddings", vectors), ("silver.encoders", [encoder])):
            lake.delta.replace(name, filled(name, rows), COMMIT, {"encoder_id": "past"})
        found = plan(lake, encoder_families={"past": ["temporal"]})
        lacking = len(GENES[:20]) - len(known)
        assert found.universe_rows().height == 60 - lacking
        keys = found.items.filter(family="f")["evaluation_key"].to_list()
        assert (keys == before["evaluation_key"].to_list()) == (lacking == 0)
        assert "past" not in found.excluded
    assert "covers 19 of 60 gene entities" in plan(lake).excluded["past"]


def test_an_encoder_of_few_diseases_leaves_their_universe_to_the_others(lake):
    diseases = [f"efo:{number:02d}" for number in range(10)]
    who = {"family": "d", "task_id": "of_diseases", "entity_type": "disease"}
    samples = [who | {"sample_id": name, "entity_id": name} for name in diseases]
    lake.delta.replace("silver.samples", filled("silver.samples", samples), COMMIT, {"family": "d"})
    for encoder_id in ("e", "few"):
        known = diseases if encoder_id == "e" else diseases[:1]
        ids = [*(("gene", gene) for gene in GENES), *(("disease", name) for name in known)]
        vectors = [
            {"encoder_id": encoder_id, "entity_type": kind, "entity_id": name, "dimension": 1,
             "vector": [1.0], "vector_digest": name}
            for kind, name in ids
        ]  # fmt: skip
        encoder = {"encoder_id": encoder_id, "modality": "text", "is_complete": True}
        where = {"encoder_id": encoder_id}
        for name, rows in (("silver.embeddings", vectors), ("silver.encoders", [encoder])):
            lake.delta.replace(name, filled(name, rows), COMMIT, where)
    found = plan(lake)
    shared = found.universe_rows().group_by("entity_type").len()
    assert dict(shared.iter_rows()) == {"gene": 60, "disease": 10}
    assert set(found.items["encoder_id"]) == {"e", "few"}
    assert "covers 1 of 10 disease entities (10%" in found.excluded["few on disease entities"]
    assert "few on disease entities" not in plan(lake, universe="full").excluded


def pause_at_each_line(frame, _event, _value):
    """A trace function that lets other threads run between two lines of `read_plan_inputs`."""
    if frame.f_code.co_name != "read_plan_inputs":
        return None
    time.sleep(0.002)
    return pause_at_each_line


def test_threads_that_plan_with_different_universes_get_each_their_own(lake):
    threading.settrace(pause_at_each_line)
    try:
        with ThreadPoolExecutor(4) as executor:
            kinds = ["shared", "full"] * 4
            plans = list(executor.map(lambda kind: plan(lake, universe=kind), kinds))
    finally:
        threading.settrace(None)
    assert [one.items.height for one in plans] == [1] * len(kinds)


def test_a_run_with_another_probe_adds_to_the_probes_of_a_release(lake):
    assert planned_probes(lake.delta, "current", ["knn"], {"knn", "linear"}) == ("knn",)
    lake.delta.replace(
        "gold.releases", plan(lake).release_rows("run"), COMMIT, {"release_id": "current"}
    )
    known = {"knn", "linear"}
    assert planned_probes(lake.delta, "current", ["knn"], known) == ("knn", "linear")
    assert planned_probes(lake.delta, "current", ["linear"], known) == ("linear",)
    assert planned_probes(lake.delta, "current", ["knn"], {"knn"}) == ("knn",)


def test_every_protocol_and_universe_has_a_release_of_its_own():
    pairs = [(p, u) for p in ("standard", "paper") for u in ("shared", "full")]
    names = [current_release(*pair) for pair in pairs]
    assert names == ["current", "current_full", "current_paper", "current_paper_full"]

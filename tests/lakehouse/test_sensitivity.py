"""Sensitivity of a score to the probe, the penalty and the number of training rows."""

import numpy as np
import polars as pl
import pytest
from blanks import filled
from declared import read_probe, read_protocol

from genebench.digest import digest_vectors
from genebench.errors import LakeError
from lakehouse import open_lake
from lakehouse.studies.sensitivity import (
    SENSITIVITY_SCHEMA,
    STUDIES,
    draw_sensitivity,
    measure_sensitivity,
)
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
N = 600
GENES = [f"hgnc:{number:03d}" for number in range(N)]


PROTOCOL = read_protocol("standard")
PROBES = {name: read_probe(name) for name in ("linear", "knn")}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Twenty features, of which the label is a linear function; another encoder is noise."""
    opened = open_lake(tmp_path_factory.mktemp("sensitivity") / "lake")
    rng = np.random.default_rng(0)
    matrices = {name: rng.normal(size=(N, 20)).astype(np.float32) for name in ("real", "noise")}
    signal = matrices["real"] @ rng.normal(size=20)
    is_in = signal + rng.normal(size=N) > 0
    task = {"task_id": "role", "family": "f", "kind": "binary", "entity_types": "gene"}
    who = {"entity_type": "gene", "family": "f", "task_id": "role"}
    samples = [who | {"sample_id": gene, "entity_id": gene} for gene in GENES]
    labels = [
        {"task_id": "role", "family": "f", "sample_id": gene, "value": 1.0,
         "label": "yes" if inside else "no"}
        for gene, inside in zip(GENES, is_in, strict=True)
    ]  # fmt: skip
    task |= {"labels": ["no", "yes"], "positive": "yes"}
    opened.delta.replace("silver.tasks", filled("silver.tasks", [task]), COMMIT)
    for name, rows in (("silver.samples", samples), ("silver.labels", labels)):
        opened.delta.replace(name, filled(name, rows), COMMIT, {"family": "f"})
    for name, matrix in matrices.items():
        rows = [
            {"encoder_id": name, "entity_type": "gene", "entity_id": gene, "dimension": 20,
             "vector": vector.tolist(), "vector_digest": digest}
            for gene, vector, digest in zip(GENES, matrix, digest_vectors(matrix), strict=True)
        ]  # fmt: skip
        embeddings = filled("silver.embeddings", rows)
        opened.delta.replace("silver.embeddings", embeddings, COMMIT, {"encoder_id": name})
    return opened


@pytest.fixture(scope="module")
def rows(lake):
    return measure_sensitivity(lake, "role", ["real", "noise"], PROBES, PROTOCOL)


@pytest.mark.slow
def test_more_training_rows_teach_more_and_noise_teaches_nothing(rows):
    curve = rows.filter(study="fraction").sort("number")
    real = curve.filter(encoder_id="real")
    assert real["value"].to_list()[0] < real["value"].to_list()[-1]
    assert real["n_train"].is_sorted()
    assert curve.filter(encoder_id="noise")["value"].is_between(0.4, 0.6).all()


def test_every_study_has_a_row_for_each_of_its_settings(rows):
    assert set(rows["study"]) == set(STUDIES)
    assert rows.filter(study="probe", encoder_id="real")["setting"].to_list() == ["linear", "knn"]
    best = rows.filter(study="penalty", encoder_id="real")["value"].max()
    whole = rows.filter(study="fraction", setting="1", encoder_id="real")["value"][0]
    probe = rows.filter(study="probe", setting="linear", encoder_id="real")["value"][0]
    assert whole == probe
    assert probe == pytest.approx(best, abs=0.02)


def test_a_penalty_is_studied_of_linear_probes_only(lake):
    found = measure_sensitivity(
        lake, "role", ["real"], {"knn": PROBES["knn"]}, PROTOCOL, fractions=[0.5]
    )
    assert found["study"].to_list() == ["probe", "fraction"]


def test_the_figure_has_a_panel_a_study_and_a_point_a_row(rows):
    two = pl.concat([rows, rows.with_columns(task_id=pl.lit("other"))])
    drawn = draw_sensitivity(two).to_dict()
    assert [part["title"] for part in drawn["vconcat"]] == ["role", "other"]
    assert [len(part["hconcat"]) for part in drawn["vconcat"]] == [len(STUDIES)] * 2
    one = draw_sensitivity(rows).to_dict()["datasets"]
    assert sum(len(points) for points in one.values()) == rows.height


def test_invalid_arguments_are_refused(lake):
    with pytest.raises(LakeError, match="rolle"):
        measure_sensitivity(lake, "rolle", ["real"], PROBES, PROTOCOL)
    with pytest.raises(LakeError, match="fraction"):
        measure_sensitivity(lake, "role", ["real"], PROBES, PROTOCOL, fractions=[1.5])
    with pytest.raises(LakeError, match="`genebench embed tfidf`"):
        measure_sensitivity(lake, "role", ["real", "tfidf"], PROBES, PROTOCOL)
    nothing = SENSITIVITY_SCHEMA.to_frame()
    with pytest.raises(LakeError, match="nothing to draw"):
        draw_sensitivity(nothing)


def test_a_setting_that_cannot_be_fitted_says_why(lake):
    # Fifteen neighbours of two training rows.
    found = measure_sensitivity(
        lake, "role", ["real"], {"knn": PROBES["knn"]}, PROTOCOL, fractions=[0.002]
    )
    (row,) = found.filter(study="fraction").to_dicts()
    assert row["value"] is None
    assert row["reason"]
    assert found.filter(study="probe")["value"].is_not_null().all()


def test_vectors_of_an_interrupted_embedding_are_not_studied(lake):
    rows = [{"encoder_id": "half", "is_complete": False}]
    where = {"encoder_id": "half"}
    lake.delta.replace("silver.encoders", filled("silver.encoders", rows), COMMIT, where)
    with pytest.raises(LakeError, match="`genebench embed half` to resume it"):
        measure_sensitivity(lake, "role", ["real", "half"], PROBES, PROTOCOL)

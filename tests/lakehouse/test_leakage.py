"""Label leakage: masking the words of a label, measured on texts with planted words."""

import numpy as np
import polars as pl
import pytest
from blanks import filled
from declared import read_probe, read_protocol

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import load_encoder
from genebench.errors import LakeError
from lakehouse import open_lake
from lakehouse.studies.leakage import measure_leakage
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
N = 300
GENES = [f"hgnc:{number:03d}" for number in range(N)]
ENCODER = Encoder(
    id="words", title="Words", modality="classical", loader="bag_of_words", template="{name}",
    dimension=40, arguments={"words": 40},
)  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    """Texts name `kinase` by its own word only, `transport` by other words too."""
    opened = open_lake(tmp_path / "lake")
    rng = np.random.default_rng(0)
    is_kinase, is_transporter = rng.random((2, N)) < 0.4
    fillers = np.array(["alpha", "beta", "gamma", "delta", "zeta", "kappa"])
    texts = []
    for kinase, transporter in zip(is_kinase, is_transporter, strict=True):
        words = list(rng.choice(fillers, 3))
        words += ["kinase"] * bool(kinase)
        words += ["transport", "carrier", "channel"] if transporter else []
        texts.append(" ".join(rng.permutation(words)))
    labels = [
        {"task_id": "role", "family": "f", "sample_id": gene, "label": label, "value": 1.0}
        for label, chosen in (("Kinase", is_kinase), ("Transport", is_transporter))
        for gene, is_in in zip(GENES, chosen, strict=True)
        if is_in
    ]
    who = {"entity_type": "gene", "family": "f", "task_id": "role"}
    samples = [who | {"sample_id": gene, "entity_id": gene} for gene in GENES]
    inputs = [
        {"entity_type": "gene", "entity_id": gene, "modality": "text", "field": "name",
         "content": text, "n_chars": len(text)}
        for gene, text in zip(GENES, texts, strict=True)
    ]  # fmt: skip
    task = {"task_id": "role", "family": "f", "kind": "multilabel", "entity_types": "gene"}
    other = task | {"task_id": "single", "kind": "binary"}
    opened.delta.replace("silver.tasks", filled("silver.tasks", [task, other]), COMMIT)
    for name, rows, partition in (
        ("silver.samples", samples, {"family": "f"}),
        ("silver.labels", labels, {"family": "f"}),
        ("silver.inputs", inputs, {"modality": "text"}),
    ):
        opened.delta.replace(name, filled(name, rows), COMMIT, partition)
    return opened


def measure(lake, task_id="role"):
    return measure_leakage(
        lake,
        task_id,
        ENCODER,
        load_encoder(ENCODER),
        read_probe("linear"),
        read_protocol("standard"),
    )


def test_a_label_with_only_its_own_word_leaks_and_one_with_other_words_does_not(lake):
    found = {row["label"]: row for row in measure(lake).iter_rows(named=True)}
    assert set(found) == {"Kinase", "Transport"}
    kinase, transport = found["Kinase"], found["Transport"]
    assert kinase["value"] > 0.99
    assert kinase["value_masked"] < 0.65
    assert kinase["value_masked_other"] > 0.99
    assert kinase["low"] > 0.2
    assert kinase["p_value"] < 1e-6
    assert transport["value_masked"] > 0.99
    assert abs(transport["difference"]) < 0.01
    assert kinase["other_label"] == "Transport"
    assert kinase["n_masked"] == (found["Transport"]["n_masked_other"])


def test_a_task_of_another_kind_is_refused(lake):
    with pytest.raises(LakeError, match="single is binary"):
        measure(lake, "single")


def test_labels_whose_words_are_in_no_text_are_an_error_and_not_an_empty_table(lake):
    texts = lake.table("silver.inputs").collect().with_columns(pl.lit("a gene").alias("content"))
    lake.delta.replace("silver.inputs", texts, COMMIT, {"modality": "text"})
    with pytest.raises(LakeError, match=r"role: the texts that .* reads do not contain the words"):
        measure(lake)

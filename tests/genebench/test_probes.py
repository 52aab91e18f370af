"""Declarations of probes, and probes of any scikit-learn estimator by name."""

import numpy as np
import polars as pl
import pytest
from declared import read_fields, read_probe, read_protocol
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from genebench.errors import RegistryError
from genebench.evaluation.evaluate import evaluate
from genebench.probes.declaration import TEST, TRAIN, Estimator, Probe, Problem
from genebench.probes.scikit_learn import build_estimator
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("probes")
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PAPER = read_protocol("paper")


def shrink(probe):
    """The same estimators, small enough for a test."""
    small = {"n_estimators": 10, "hidden_layer_sizes": [16]}
    changes = {}
    for kind in ("binary", "multiclass", "multilabel", "regression"):
        estimator = probe.estimator(kind)
        parameters = {name: small.get(name, v) for name, v in estimator.parameters.items()}
        changes[kind] = estimator.model_copy(update={"parameters": parameters})
    return probe.model_copy(update=changes)


def problems(rng, matrix):
    n = len(matrix)
    folds = rng.permutation(np.arange(n) % 3)
    split = np.where(folds[:, None] == np.arange(3), TEST, TRAIN).astype(np.int8)
    signal = matrix[:, :3] + 0.3 * rng.normal(size=(n, 3))
    rows = np.arange(n)[:, None]
    one_hot = (signal > 0).astype(np.uint8)
    return [
        Problem("binary", "binary", rows, one_hot[:, 0], ("yes",), split),
        Problem("multilabel", "multilabel", rows, one_hot, ("a", "b", "c"), split),
        Problem("multiclass", "multiclass", rows, signal.argmax(axis=1), ("a", "b", "c"), split),
        Problem("regression", "regression", rows, signal[:, 0].astype(float), ("value",), split),
    ]


CONTROLS = ["degree", "identity"]
LEARNERS = [name for name in SHIPPED if name not in CONTROLS]


def test_five_probes_and_two_controls_ship_and_each_is_named_as_its_file():
    assert LEARNERS == ["gradient_boosting", "knn", "linear", "mlp", "random_forest"]
    assert set(CONTROLS) < set(SHIPPED)
    assert [read_probe(name).id for name in SHIPPED] == SHIPPED


def test_the_papers_multilayer_perceptron_has_three_layers_of_100_and_500_iterations():
    estimator = build_estimator(read_probe("mlp").estimator("binary"), "mlp")
    assert list(estimator.hidden_layer_sizes) == [100, 100, 100]
    assert estimator.max_iter == 500


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_every_probe_learns_a_planted_signal_of_every_kind(name):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(240, 6)).astype(np.float32)
    probe = shrink(read_probe(name))
    for evaluation in evaluate(matrix, problems(rng, matrix), probe, PAPER):
        assert evaluation.status == "ok", evaluation.reason
        metric = "r2" if evaluation.problem_id == "regression" else "roc_auc"
        values = evaluation.scores.filter(pl.col("metric") == metric)["value"]
        floor = {"r2": 0.15, "roc_auc": 0.75}[metric]
        assert values.mean() > floor


def test_a_named_estimator_gives_what_it_gives_by_itself():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(150, 5)).astype(np.float32)
    problem = problems(rng, matrix)[0]
    probe = shrink(read_probe("random_forest"))
    (evaluation,) = evaluate(matrix, [problem], probe, PAPER)
    train, test = (problem.split[:, 1] == part for part in (TRAIN, TEST))
    forest = RandomForestClassifier(n_estimators=10, random_state=0)
    shares = forest.fit(matrix[train], problem.targets[train]).predict_proba(matrix[test])[:, 1]
    expected = roc_auc_score(problem.targets[test], shares)
    found = evaluation.scores.filter((pl.col("fold") == 1) & (pl.col("metric") == "roc_auc"))
    assert found["value"].item() == pytest.approx(expected, abs=1e-12)
    assert evaluation.solver == "scikit-learn ensemble.RandomForestClassifier"


def test_an_estimator_without_probabilities_is_scored_by_its_margin():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(150, 5)).astype(np.float32)
    machine = Estimator(name="svm.LinearSVC", parameters={"random_state": 0})
    probe = read_probe("mlp").model_copy(update={"binary": machine, "multiclass": machine})
    for problem in (problems(rng, matrix)[0], problems(rng, matrix)[2]):
        (evaluation,) = evaluate(matrix, [problem], probe, PAPER)
        assert evaluation.scores.filter(pl.col("metric") == "roc_auc")["value"].mean() > 0.8


def test_an_estimator_that_does_not_count_its_iterations_is_scored():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(150, 5)).astype(np.float32)
    probe = read_probe("mlp").model_copy(
        update={"regression": Estimator(name="linear_model.Ridge")}
    )
    (evaluation,) = evaluate(matrix, [problems(rng, matrix)[3]], probe, PAPER)
    assert evaluation.status == "ok"
    assert evaluation.scores.filter(pl.col("metric") == "r2")["value"].mean() > 0.8


def test_an_estimator_that_cannot_fit_fails_with_its_own_message():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(60, 5)).astype(np.float32)
    neighbours = Estimator(name="neighbors.KNeighborsClassifier", parameters={"n_neighbors": 500})
    probe = read_probe("knn").model_copy(update={"binary": neighbours})
    (evaluation,) = evaluate(matrix, [problems(rng, matrix)[0]], probe, PAPER)
    assert evaluation.status == "failed"
    assert "KNeighborsClassifier" in evaluation.reason
    assert "n_neighbors" in evaluation.reason
    assert evaluation.scores.is_empty()


@pytest.mark.parametrize(
    "name", ["os.system", "svm.Nothing", "nowhere.SVC", "../x.Y", "datasets.fetch_openml", "SVC"]
)
def test_only_scikit_learn_estimators_can_be_named(name):
    with pytest.raises(RegistryError):
        build_estimator(Estimator(name=name), "mine")


def test_a_parameter_that_an_estimator_does_not_take_is_refused():
    with pytest.raises(RegistryError, match="depth"):
        build_estimator(Estimator(name="svm.SVC", parameters={"depth": 3}), "mine")


def test_the_linear_engine_refuses_what_it_does_not_have():
    fields = read_fields("probes", "linear")
    with pytest.raises(ValidationError, match="ridge"):
        Probe.model_validate(fields | {"regression": {"name": "lasso"}})
    with pytest.raises(ValidationError, match="protocol"):
        Probe.model_validate(fields | {"binary": {"name": "logistic", "parameters": {"C": 2}}})
    with pytest.raises(ValidationError, match="penalty"):
        Probe.model_validate(fields | {"penalty": 1})


def test_a_probes_digest_follows_what_decides_the_scores_and_nothing_else():
    probe = read_probe("mlp")
    renamed = probe.model_copy(update={"id": "other", "title": "Other", "description": "x"})
    assert renamed.digest() == probe.digest()
    assert shrink(probe).digest() != probe.digest()
    assert len({read_probe(name).digest() for name in SHIPPED}) == len(SHIPPED)


def test_a_problem_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="agree"):
        Problem(
            "p", "binary", np.zeros((3, 1), int), np.zeros(2), ("yes",), np.zeros((3, 1), np.int8)
        )

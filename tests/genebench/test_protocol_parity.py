"""Scores of the paper protocol equal an independent scikit-learn run on the same folds."""

import numpy as np
import polars as pl
import pytest
from declared import read_probe, read_protocol
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_validate
from sklearn.multioutput import MultiOutputClassifier

from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.problems import derive_subtasks, prepare_task, universe_ids
from genebench.probes.declaration import TEST, TRAIN
from genebench.protocols.declaration import positive_class

PAPER = read_protocol("paper")
LINEAR = read_probe("linear")
N, D = 400, 12
GENES = [f"hgnc:{number:04d}" for number in range(N)]
# The published names of the scorers by ours, for each kind of task.
SCORERS = {
    "binary": {name: name for name in ("roc_auc", "accuracy", "precision", "recall", "f1")},
    "multiclass": {"roc_auc": "roc_auc_ovr_weighted", "accuracy": "accuracy"}
    | {name: f"{name}_weighted" for name in ("precision", "recall", "f1")},
    "regression": {"r2": "r2", "rmse": "neg_root_mean_squared_error"}
    | {"mae": "neg_mean_absolute_error"},
}


@pytest.fixture(scope="module")
def vectors():
    # As float64, so that scikit-learn computes in it: in float32 a near tie can swap ranks.
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32).astype(np.float64)


def silver(labels, kind, positive=None):
    """A task's rows of the silver tables, from (gene, label, value) rows."""
    frame = pl.DataFrame(labels, schema=["sample_id", "label", "value"], orient="row")
    samples = pl.DataFrame({"sample_id": GENES, "entity_id": GENES}).with_columns(
        pl.lit(0, pl.Int8).alias("position")
    )
    task = {"task_id": "task", "family": "genomic", "kind": kind, "positive": positive}
    return task, samples, frame


def prepared(labels, kind, positive=None):
    task, samples, frame = silver(labels, kind, positive)
    universe = universe_ids(samples)
    return prepare_task(task, samples, frame, universe, PAPER)


def scored(vectors, task):
    """Our scores by metric and fold, and the folds as scikit-learn takes them."""
    problem = task.problem("task", PAPER)
    (found,) = evaluate(vectors, [problem], LINEAR, PAPER, threads=1)
    assert found.status == "ok"
    values = {
        (metric, fold): value
        for label, metric, fold, value in found.scores.select(
            "label", "metric", "fold", "value"
        ).iter_rows()
        if not label
    }
    folds = [
        (np.flatnonzero(part == TRAIN), np.flatnonzero(part == TEST)) for part in problem.split.T
    ]
    return values, folds, problem


def logistic():
    return LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=500)


def outcome(vectors, seed, scale=1.5):
    rng = np.random.default_rng(seed)
    return scale * vectors @ rng.normal(size=D) / np.sqrt(D) + rng.logistic(size=N)


def agree(values, expected, kind):
    for name, scorer in SCORERS[kind].items():
        sign = -1 if scorer.startswith("neg_") else 1
        for fold, number in enumerate(expected[f"test_{scorer}"]):
            assert values[name, fold] == pytest.approx(sign * number, abs=1e-6), (name, fold)


def test_binary_scores_are_of_the_first_class_in_sort_order(vectors):
    is_factor = outcome(vectors, 1) > 1
    words = np.where(is_factor, "Transcription factor", "Not a transcription factor")
    rows = [(gene, str(word), 1.0) for gene, word in zip(GENES, words, strict=True)]
    values, folds, problem = scored(vectors, prepared(rows, "binary", "Transcription factor"))
    # The published code one-hot encodes the outcome and takes the first column.
    first = pl.Series(words).to_dummies().to_numpy()[:, 0]
    assert problem.labels == ("Not a transcription factor",)
    assert np.array_equal(problem.targets, first)
    expected = cross_validate(
        logistic(), vectors, first, cv=folds, scoring=list(SCORERS["binary"].values())
    )
    agree(values, expected, "binary")


def test_a_sub_task_is_scored_for_the_absence_of_its_label(vectors):
    present = outcome(vectors, 2) > 2
    rows = [(gene, "other", 1.0) for gene in GENES]
    rows += [(gene, "rare", 1.0) for gene, is_in in zip(GENES, present, strict=True) if is_in]
    parent = prepared([row for row in rows if row[1] == "rare"] + rows[:N], "multilabel")
    derived = {task.labels[0]: task for task in derive_subtasks(parent, PAPER)}
    values, folds, problem = scored(vectors, derived["not rare"])
    assert np.array_equal(problem.targets, 1 - present)
    scoring = list(SCORERS["binary"].values())
    agree(
        values,
        cross_validate(logistic(), vectors, 1 - present.astype(int), cv=folds, scoring=scoring),
        "binary",
    )


def test_multiclass_scores_are_weighted_over_all_classes_with_the_rare_ones(vectors):
    codes = np.digitize(outcome(vectors, 3), [-1, 1]).astype(str).astype(object)
    codes[:6] = "rare"
    rows = [(gene, str(code), 1.0) for gene, code in zip(GENES, codes, strict=True)]
    task = prepared(rows, "multiclass")
    assert task.labels == ("0", "1", "2", "rare")
    assert task.n_samples == N
    values, folds, problem = scored(vectors, task)
    expected = cross_validate(
        logistic(),
        vectors[problem.rows[:, 0]],
        codes[problem.rows[:, 0]],
        cv=folds,
        scoring=list(SCORERS["multiclass"].values()),
    )
    agree(values, expected, "multiclass")


def test_multilabel_areas_are_of_hard_labels_and_rare_labels_are_dropped(vectors):
    names = ["membrane", "nucleus", "cytosol"]
    truth = np.column_stack([outcome(vectors, 4 + k) > 1 + k / 2 for k in range(3)])
    rows = [(GENES[i], names[k], 1.0) for i, k in zip(*np.nonzero(truth), strict=True)] + [
        (gene, "rare", 1.0) for gene in GENES[:4]
    ]
    task = prepared(rows, "multilabel")
    assert task.labels == ("cytosol", "membrane", "nucleus")
    values, folds, problem = scored(vectors, task)
    assert np.array_equal(problem.targets, truth[:, [2, 0, 1]])
    from sklearn.metrics import (
        accuracy_score,
        f1_score,
        hamming_loss,
        precision_score,
        recall_score,
        roc_auc_score,
    )

    for fold, (train, test) in enumerate(folds):
        model = MultiOutputClassifier(logistic()).fit(vectors[train], problem.targets[train])
        hard, wanted = model.predict(vectors[test]), problem.targets[test]
        weighted = {"average": "weighted"}
        expected = {
            "roc_auc": roc_auc_score(wanted, hard, **weighted),
            "hamming_loss": hamming_loss(wanted, hard),
            "accuracy": accuracy_score(wanted, hard),
            "precision": precision_score(wanted, hard, zero_division=0, **weighted),
            "recall": recall_score(wanted, hard, **weighted),
            "f1": f1_score(wanted, hard, **weighted),
        }
        for name, number in expected.items():
            assert values[name, fold] == pytest.approx(number, abs=1e-6), (name, fold)
        soft = np.column_stack(
            [one.predict_proba(vectors[test])[:, 1] for one in model.estimators_]
        )
        # AUC of the probabilities differs: `paper` keeps this error of the publication.
        assert values["roc_auc", fold] < roc_auc_score(wanted, soft, **weighted) - 0.02


def test_regression_is_least_squares_without_a_penalty(vectors):
    numbers = outcome(vectors, 9) * 100
    rows = [(gene, "value", float(number)) for gene, number in zip(GENES, numbers, strict=True)]
    values, folds, _ = scored(vectors, prepared(rows, "regression"))
    expected = cross_validate(
        LinearRegression(),
        vectors,
        numbers,
        cv=folds,
        scoring=list(SCORERS["regression"].values()),
    )
    scale = {"r2": 1.0, "rmse": 100.0, "mae": 100.0}
    for name, scorer in SCORERS["regression"].items():
        for fold, number in enumerate(expected[f"test_{scorer}"]):
            assert values[name, fold] / scale[name] == pytest.approx(
                abs(number) / scale[name] if name != "r2" else number, abs=1e-6
            )


def test_the_folds_are_five_shuffled_and_stratified_as_published(vectors):
    words = np.where(outcome(vectors, 1) > 1, "b", "a")
    rows = [(gene, str(word), 1.0) for gene, word in zip(GENES, words, strict=True)]
    _, folds, _ = scored(vectors, prepared(rows, "binary"))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(N))
    shares = [np.mean(words[test] == "b") for _, test in folds]
    assert np.ptp(shares) <= 1 / len(folds[0][1])
    assert not np.array_equal(np.concatenate([test for _, test in folds]), np.arange(N))
    assert positive_class(["b", "a"], "b", PAPER) == ("b", "a")
    assert get_scorer("roc_auc")._response_method == ("decision_function", "predict_proba")

"""Metrics equal scikit-learn's in every column, with ties and empty classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as reference

from genebench.evaluation.metrics import (
    LABEL_METRICS,
    METRICS,
    log_softmax,
    score_binary,
    score_labels,
    score_multiclass,
    score_multilabel,
    score_regression,
)
from genebench.evaluation.ranks import rank_columns

CLASS_METRICS = sorted(LABEL_METRICS)


def tied_scores(rng, shape, n_values):
    return rng.integers(-n_values, n_values + 1, shape) / 2.0


def both_shares(log_odds):
    """Probabilities of 0 and 1, neither of them rounded by taking it from 1."""
    return np.stack([1 / (1 + np.exp(log_odds)), 1 / (1 + np.exp(-log_odds))], axis=1)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(4, 80),
    columns=st.integers(1, 70),
    n_values=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_ranks_of_many_columns_equal_scikit_learn(n, columns, n_values, seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, columns)) < rng.uniform(0.1, 0.9, columns)
    truth[0], truth[1] = True, False
    scores = tied_scores(rng, (n, columns), n_values)
    area, precision = rank_columns(truth, scores)
    for column in {0, columns - 1, *rng.integers(0, columns, 6).tolist()}:
        y, s = truth[:, column], scores[:, column]
        assert area[column] == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
        expected = reference.average_precision_score(y, s)
        assert precision[column] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 60), n_values=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_binary_metrics_equal_scikit_learn(n, n_values, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    s = tied_scores(rng, n, n_values)
    hard = (s > 0).astype(int)
    got = score_binary(CLASS_METRICS, y, s)
    expected = {
        "roc_auc": reference.roc_auc_score(y, s),
        "average_precision": reference.average_precision_score(y, s),
        "accuracy": reference.accuracy_score(y, hard),
        "balanced_accuracy": reference.balanced_accuracy_score(y, hard),
        "precision": reference.precision_score(y, hard, zero_division=0),
        "recall": reference.recall_score(y, hard),
        "f1": reference.f1_score(y, hard),
        "mcc": reference.matthews_corrcoef(y, hard),
        "log_loss": reference.log_loss(y, both_shares(s)),
    }
    assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(12, 60), classes=st.integers(3, 6), seed=st.integers(0, 2**31), ties=st.booleans()
)
def test_multiclass_metrics_equal_scikit_learn(n, classes, seed, ties):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = tied_scores(rng, (n, classes), 2) if ties else rng.normal(size=(n, classes)) * 3
    shares = np.exp(log_softmax(logits))
    hard = logits.argmax(axis=1)
    each = {"average": "weighted", "zero_division": 0}
    one_hot = y[:, None] == np.arange(classes)
    expected = {
        "roc_auc": reference.roc_auc_score(y, shares, multi_class="ovr", average="weighted"),
        "average_precision": reference.average_precision_score(one_hot, shares, average="weighted"),
        "accuracy": reference.accuracy_score(y, hard),
        "balanced_accuracy": reference.balanced_accuracy_score(y, hard),
        "precision": reference.precision_score(y, hard, **each),
        "recall": reference.recall_score(y, hard, **each),
        "f1": reference.f1_score(y, hard, **each),
        "mcc": reference.matthews_corrcoef(y, hard),
        "log_loss": reference.log_loss(y, shares, labels=np.arange(classes)),
    }
    assert score_multiclass(CLASS_METRICS, y, logits) == pytest.approx(expected, abs=1e-12)


def test_a_class_without_held_out_samples_weighs_nothing():
    rng = np.random.default_rng(1)
    y, logits = rng.integers(0, 3, 40), rng.normal(size=(40, 4))
    scores = score_multiclass(CLASS_METRICS, y, logits)
    assert all(np.isfinite(value) for value in scores.values())
    shares = np.exp(log_softmax(logits))
    areas = [reference.roc_auc_score(y == k, shares[:, k]) for k in range(3)]
    weights = np.bincount(y, minlength=3)
    assert scores["roc_auc"] == pytest.approx(np.average(areas, weights=weights), abs=1e-12)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(6, 60), labels=st.integers(2, 6), seed=st.integers(0, 2**31), hard=st.booleans()
)
def test_multilabel_metrics_equal_scikit_learn(n, labels, seed, hard):
    rng = np.random.default_rng(seed)
    y = rng.random((n, labels)) < rng.uniform(0.1, 0.7, labels)
    y[0], y[1] = True, False
    s = tied_scores(rng, (n, labels), 6)
    predicted = s > 0
    ranked = predicted.astype(float) if hard else s
    each = {"average": "weighted", "zero_division": 0}
    weights = y.sum(axis=0)
    columns = range(labels)
    expected = {
        "roc_auc": reference.roc_auc_score(y, ranked, average="weighted"),
        "average_precision": reference.average_precision_score(y, ranked, average="weighted"),
        "accuracy": reference.accuracy_score(y, predicted),
        "hamming_loss": reference.hamming_loss(y, predicted),
        "precision": reference.precision_score(y, predicted, **each),
        "recall": reference.recall_score(y, predicted, **each),
        "f1": reference.f1_score(y, predicted, **each),
        "mcc": np.average(
            [reference.matthews_corrcoef(y[:, j], predicted[:, j]) for j in columns],
            weights=weights,
        ),
        "log_loss": np.mean([reference.log_loss(y[:, j], both_shares(s[:, j])) for j in columns]),
    }
    got = score_multilabel(list(expected), y, s, ranks_hard=hard)
    assert got == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(3, 60), scale=st.floats(1e-3, 1e6), seed=st.integers(0, 2**31))
def test_regression_metrics_equal_scikit_learn(n, scale, seed):
    rng = np.random.default_rng(seed)
    y, predicted = rng.normal(size=n).round(1) * scale, rng.normal(size=n).round(1) * scale
    y[:2] = 0.0, scale
    predicted[:2] = 0.0, scale
    got = score_regression(["r2", "rmse", "mae", "spearman"], y, predicted)
    assert got["r2"] == pytest.approx(reference.r2_score(y, predicted), rel=1e-12, abs=1e-12)
    expected = reference.root_mean_squared_error(y, predicted)
    assert got["rmse"] == pytest.approx(expected, rel=1e-12)
    assert got["mae"] == pytest.approx(reference.mean_absolute_error(y, predicted), rel=1e-12)
    assert got["spearman"] == pytest.approx(spearmanr(y, predicted).statistic, abs=1e-12)


def test_a_constant_prediction_has_no_correlation_rather_than_nan():
    assert score_regression(["spearman"], np.arange(5.0), np.ones(5))["spearman"] == 0.0


def test_predicting_no_positive_gives_zeros_rather_than_nan():
    y = np.array([[1, 0], [0, 1], [0, 0]])
    values = score_labels(["precision", "recall", "f1", "mcc"], y, np.full((3, 2), -1.0))
    assert all((value == 0).all() for value in values.values())


def test_log_loss_of_a_certain_mistake_is_finite_and_clipped_as_scikit_learn_clips():
    y, s = np.array([1, 0, 1]), np.array([-900.0, -900.0, 900.0])
    got = score_binary(["log_loss"], y, s)["log_loss"]
    expected = reference.log_loss(y, np.array([0.0, 0.0, 1.0]))
    assert got == pytest.approx(expected, abs=1e-12)


def test_constant_columns_are_refused():
    with pytest.raises(ValueError, match="constant"):
        rank_columns(np.ones((4, 1), dtype=bool), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="constant"):
        score_regression(["r2"], np.ones(4), np.zeros(4))


def test_an_unknown_label_metric_is_refused():
    with pytest.raises(ValueError, match="hamming_loss"):
        score_labels(["hamming_loss"], np.eye(2), np.eye(2))


def test_every_metric_keeps_its_declared_range_and_reaches_its_better_end():
    rng = np.random.default_rng(0)
    perfect = np.eye(4)[rng.permutation(np.arange(40) % 4)]
    codes = perfect.argmax(axis=1)
    noise = rng.normal(size=perfect.shape)
    for scale, is_perfect in ((1000.0, True), (0.0, False)):
        scores = scale * (perfect - 0.5) + noise * (not is_perfect)
        predicted = codes + noise[:, 0] * (not is_perfect)
        found = [
            score_binary(CLASS_METRICS, perfect[:, 0], scores[:, 0]),
            score_multiclass(CLASS_METRICS, codes, scores),
            score_multilabel([*CLASS_METRICS, "hamming_loss"], perfect, scores),
            score_regression(["r2", "rmse", "mae", "spearman"], codes + 0.0, predicted),
        ]  # fmt: skip
        for values in found:
            for name, value in values.items():
                metric = METRICS[name]
                assert metric.low is None or value >= metric.low
                assert metric.high is None or value <= metric.high
                if is_perfect:
                    best = metric.high if metric.is_greater_better else metric.low
                    assert value == pytest.approx(best, abs=1e-9)

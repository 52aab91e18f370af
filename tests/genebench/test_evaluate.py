"""Evaluations equal an independent scikit-learn run, and are never NaN."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from declared import read_probe, read_protocol
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.linear_model import LinearRegression, LogisticRegression

from genebench.evaluation.evaluate import REVISION, evaluate, explain_not_applicable
from genebench.evaluation.folds import assign_folds, make_split
from genebench.evaluation.heldout_scores import one_vs_rest
from genebench.evaluation.metrics import METRICS
from genebench.probes.declaration import TEST, TRAIN, Problem

pytestmark = pytest.mark.slow

LINEAR = read_probe("linear")
PAPER, STANDARD = read_protocol("paper"), read_protocol("standard")


def make(rng, matrix, kind, n, protocol, *, positions=1, id_=None, share=0.3):
    """A problem whose outcome depends on the vectors, with the folds of the protocol."""
    rows = np.stack([rng.permutation(len(matrix))[:n] for _ in range(positions)], axis=1)
    signal = matrix[rows].astype(float).sum(axis=1) @ rng.normal(size=(matrix.shape[1], 4))
    signal = signal / signal.std(axis=0) + rng.logistic(size=signal.shape) / 2
    cut = np.quantile(signal, 1 - share, axis=0)
    match kind:
        case "binary":
            targets, labels = (signal[:, 0] > cut[0]).astype(np.uint8), ("yes",)
        case "multilabel":
            targets, labels = (signal > cut).astype(np.uint8), ("a", "b", "c", "d")
        case "multiclass":
            targets, labels = signal.argmax(axis=1), ("a", "b", "c", "d")
        case _:
            targets, labels = 100 + 10 * signal[:, 0], ("value",)
    entities = np.array([f"ncbigene:{row}" for row in rows.ravel()]).reshape(rows.shape)
    ids = ["|".join(slots) for slots in entities]
    split = make_split(assign_folds(kind, ids, entities, targets, protocol))
    return Problem(id_ or kind, kind, rows, targets, labels, split)


def value(evaluation, metric, fold, label=""):
    found = evaluation.scores.filter(
        (pl.col("metric") == metric) & (pl.col("fold") == fold) & (pl.col("label") == label)
    )
    return found["value"].item()


def reference_scores(matrix, problem, fold, join):
    """The published pipeline's numbers, by scikit-learn alone."""
    train, test = (problem.split[:, fold] == part for part in (TRAIN, TEST))
    slots = matrix[problem.rows].astype(np.float64)
    x = slots.mean(axis=1) if join == "mean" else slots.reshape(problem.n_samples, -1)
    y = problem.targets
    model = LogisticRegression(tol=1e-10, max_iter=50_000)
    weighted = {"average": "weighted", "zero_division": 0}
    if problem.kind == "regression":
        predicted = LinearRegression().fit(x[train], y[train]).predict(x[test])
        return {
            "r2": reference.r2_score(y[test], predicted),
            "rmse": reference.root_mean_squared_error(y[test], predicted),
            "mae": reference.mean_absolute_error(y[test], predicted),
        }
    if problem.kind == "binary":
        model.fit(x[train], y[train])
        hard, scores = model.predict(x[test]), model.decision_function(x[test])
        return {
            "roc_auc": reference.roc_auc_score(y[test], scores),
            "accuracy": reference.accuracy_score(y[test], hard),
            "precision": reference.precision_score(y[test], hard, zero_division=0),
            "recall": reference.recall_score(y[test], hard),
            "f1": reference.f1_score(y[test], hard),
        }
    if problem.kind == "multiclass":
        model.fit(x[train], y[train])
        hard, shares = model.predict(x[test]), model.predict_proba(x[test])
        area = reference.roc_auc_score(y[test], shares, multi_class="ovr", average="weighted")
        own = {"roc_auc": area}
    else:
        hard = np.stack(
            [model.fit(x[train], y[train, j]).predict(x[test]) for j in range(problem.n_columns)],
            axis=1,
        )
        own = {
            "roc_auc": reference.roc_auc_score(y[test], hard, average="weighted"),
            "hamming_loss": reference.hamming_loss(y[test], hard),
        }
    return own | {
        "accuracy": reference.accuracy_score(y[test], hard),
        "precision": reference.precision_score(y[test], hard, **weighted),
        "recall": reference.recall_score(y[test], hard, **weighted),
        "f1": reference.f1_score(y[test], hard, **weighted),
    }


@pytest.mark.parametrize("n", [150, 400])
@pytest.mark.parametrize(("positions", "join"), [(1, "concat"), (2, "concat"), (2, "mean")])
def test_the_paper_protocol_equals_an_independent_scikit_learn_run(n, positions, join):
    rng = np.random.default_rng(n + positions)
    protocol = read_protocol("paper", pair_join=join)
    matrix = rng.normal(size=(500, 24)).astype(np.float32) * 0.4 + 0.2
    problems = [
        make(rng, matrix, kind, n, protocol, positions=positions)
        for kind in ("binary", "multiclass", "multilabel", "regression")
    ]
    evaluations = {e.problem_id: e for e in evaluate(matrix, problems, LINEAR, protocol)}
    for problem in problems:
        evaluation = evaluations[problem.id]
        assert evaluation.status == "ok"
        assert evaluation.reason == ""
        for fold in range(5):
            expected = reference_scores(matrix, problem, fold, join)
            assert set(expected) == set(PAPER.metrics_of(problem.kind))
            for metric, number in expected.items():
                assert value(evaluation, metric, fold) == pytest.approx(number, abs=1e-6)


def test_multilabel_areas_are_of_hard_predictions_in_paper_and_of_scores_in_standard():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(600, 10)).astype(np.float32)
    problem = make(rng, matrix, "multilabel", 600, PAPER, share=0.1)
    (hard,) = evaluate(matrix, [problem], LINEAR, PAPER)
    (soft,) = evaluate(matrix, [problem], LINEAR, read_protocol("paper", multilabel_auc="scores"))
    for fold in range(5):
        assert value(soft, "roc_auc", fold) > value(hard, "roc_auc", fold) + 0.05


def test_a_planted_signal_scores_high_and_noise_scores_near_one_half():
    rng = np.random.default_rng(1)
    oracle = rng.integers(0, 2, (900, 1)).astype(np.float32)
    noise = rng.normal(size=(900, 8)).astype(np.float32)
    ids = np.array([f"ncbigene:{i}" for i in range(900)])
    targets = oracle[:, 0].astype(np.uint8)
    split = make_split(assign_folds("binary", list(ids), ids[:, None], targets, STANDARD))
    rows = np.arange(900)[:, None]
    problem = Problem("task", "binary", rows, targets, ("yes",), split)
    for matrix, low, high in ((oracle, 1.0, 1.0), (noise, 0.4, 0.6)):
        (evaluation,) = evaluate(matrix, [problem], LINEAR, STANDARD)
        areas = evaluation.scores.filter(pl.col("metric") == "roc_auc")["value"]
        assert low <= areas.mean() <= high


@settings(max_examples=3, deadline=None)
@example(n=18, share=0.05, seed=881, name="paper")
@example(n=25, share=0.05, seed=439, name="standard")
@given(
    n=st.integers(12, 60),
    share=st.sampled_from([0.05, 0.3]),
    seed=st.integers(0, 10_000),
    name=st.sampled_from(["paper", "standard"]),
)
def test_small_tasks_are_scored_or_explained_but_never_nan(n, share, seed, name):
    rng = np.random.default_rng(seed)
    protocol = read_protocol(name)
    matrix = rng.normal(size=(80, 6)).astype(np.float32)
    problems = [
        make(rng, matrix, kind, n, protocol, positions=k, id_=f"{kind}_{k}", share=share)
        for kind in ("binary", "multiclass", "multilabel", "regression")
        for k in (1, 2)
    ]
    evaluations = list(evaluate(matrix, problems, LINEAR, protocol))
    assert {e.problem_id for e in evaluations} == {p.id for p in problems}
    for evaluation in evaluations:
        assert evaluation.status != "failed"
        assert (evaluation.status == "ok") == (evaluation.scores.height > 0)
        assert evaluation.status == "ok" or evaluation.reason
        assert evaluation.scores["value"].is_finite().all()
        for metric, number in evaluation.scores.select("metric", "value").iter_rows():
            low, high = METRICS[metric].low, METRICS[metric].high
            assert low is None or number >= low - 1e-12
            assert high is None or number <= high + 1e-12


def test_tasks_that_cannot_be_scored_say_why():
    split = np.full((6, 2), TRAIN, dtype=np.int8)
    split[:3, 0], split[3:, 1] = TEST, TEST
    rows = np.arange(6)[:, None]

    def problem(kind, targets, labels=("yes",)):
        return Problem("p", kind, rows, np.array(targets), labels, split)

    obstacles = [
        explain_not_applicable(problem("binary", [1, 1, 1, 0, 0, 1])),
        explain_not_applicable(problem("multiclass", [0, 1, 1, 2, 1, 2], ("a", "b", "c"))),
        explain_not_applicable(problem("regression", [1.0, 1, 1, 2, 3, 4])),
    ]
    assert obstacles == [
        "fold 0: 3 of 3 held-out samples are positive",
        "fold 0: class 'a' has no training sample",
        "fold 0: all held-out numbers are equal",
    ]
    assert explain_not_applicable(problem("binary", [1, 0, 1, 0, 0, 1])) == ""
    (evaluation,) = evaluate(
        np.eye(6, dtype=np.float32), [problem("binary", [1, 1, 1, 0, 0, 1])], LINEAR, PAPER
    )
    assert evaluation.status == "not_applicable"
    assert evaluation.scores.is_empty()


def test_a_label_that_a_fold_cannot_score_is_left_out_with_its_reason():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(100, 5)).astype(np.float32)
    problem = make(rng, matrix, "multilabel", 100, PAPER)
    problem.targets[:, 3] = 0
    problem.targets[np.flatnonzero(problem.split[:, 2] == TRAIN)[:6], 3] = 1
    protocol = read_protocol("paper", metrics=STANDARD.metrics)
    (evaluation,) = evaluate(matrix, [problem], LINEAR, protocol)
    assert evaluation.status == "ok"
    assert "d: absent in all held-out samples" in evaluation.reason
    assert evaluation.reason.startswith("left out of fold 2")
    labels = evaluation.scores.filter(pl.col("fold") == 2)["label"].unique().to_list()
    assert sorted(labels) == ["", "a", "b", "c"]


def test_scores_do_not_depend_on_row_order_or_on_company():
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(300, 12)).astype(np.float32)
    problem = make(rng, matrix, "binary", 300, STANDARD, id_="one")
    other = make(rng, matrix, "binary", 290, STANDARD, id_="other")
    order = rng.permutation(300)
    shuffled = Problem(
        "one",
        "binary",
        problem.rows[order],
        problem.targets[order],
        problem.labels,
        problem.split[order],
    )
    (alone,) = evaluate(matrix, [shuffled], LINEAR, STANDARD)
    both = {e.problem_id: e for e in evaluate(matrix, [problem, other], LINEAR, STANDARD)}
    left, right = alone.scores, both["one"].scores
    assert left.select("label", "metric", "fold").equals(right.select("label", "metric", "fold"))
    np.testing.assert_allclose(left["value"], right["value"], atol=1e-6)


def test_predictions_are_every_held_out_sample_once_and_give_the_scores_again():
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(200, 8)).astype(np.float32)
    problem = make(rng, matrix, "binary", 200, PAPER)
    (evaluation,) = evaluate(matrix, [problem], LINEAR, PAPER, predictions=True)
    frame = evaluation.predictions
    assert sorted(frame["sample"]) == list(range(200))
    for fold in range(5):
        part = frame.filter(pl.col("fold") == fold)
        area = reference.roc_auc_score(part["truth"], part["score"])
        assert value(evaluation, "roc_auc", fold) == pytest.approx(area, abs=1e-12)
    (without,) = evaluate(matrix, [problem], LINEAR, PAPER)
    assert without.predictions is None


def test_counts_and_progress_are_reported():
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=(120, 7)).astype(np.float32)
    protocol = read_protocol("paper", pair_join="concat")
    problem = make(rng, matrix, "multilabel", 100, protocol, positions=2)
    seen = []
    (evaluation,) = evaluate(
        matrix, [problem], LINEAR, protocol, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (20, 20)
    assert (evaluation.n_samples, evaluation.n_features, evaluation.n_labels) == (100, 14, 4)
    sizes = evaluation.scores.select("n_train", "n_test").unique().rows()
    assert sizes == [(80, 20)]
    assert evaluation.seconds > 0
    assert evaluation.gradient_norm > 0
    assert isinstance(REVISION, int)


def test_bad_matrices_rows_and_ids_are_refused():
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(50, 4)).astype(np.float32)
    problem = make(rng, matrix, "binary", 50, PAPER)
    with pytest.raises(ValueError, match="repeat"):
        next(evaluate(matrix, [problem, problem], LINEAR, PAPER))
    with pytest.raises(ValueError, match="outside"):
        next(evaluate(matrix[:20], [problem], LINEAR, PAPER))
    matrix[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        next(evaluate(matrix, [problem], LINEAR, PAPER))


def test_log_odds_of_one_against_the_rest_keep_their_digits():
    logits = np.array([[800.0, 760.0, 0.0], [0.0, 0.0, 0.0]])
    odds = one_vs_rest(logits)
    assert odds[0, 0] == pytest.approx(40.0)
    assert odds[0, 1] == pytest.approx(-40.0)
    assert odds[1] == pytest.approx(np.log(0.5) * np.ones(3))


def test_importing_the_declarations_loads_neither_torch_nor_scikit_learn():
    code = (
        "import sys, genebench.probes.declaration, genebench.protocols.declaration;"
        "import genebench.evaluation.evaluate, genebench.evaluation.metrics;"
        "print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

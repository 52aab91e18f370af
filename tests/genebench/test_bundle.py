"""Held-out predictions are stored in few bits, and bundles refuse what cannot be true."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from genebench.errors import GenebenchError
from genebench.probes.declaration import TEST, TRAIN, FoldOutput, Problem
from genebench.reference.bundle import (
    BUNDLE_SCHEMA,
    pack_outputs,
    read_bundle,
    unpack_outputs,
    write_bundle,
)
from genebench.reference.score_levels import SMALL_FOLD_BITS, decode_fold, encode_fold, encoded_size
from genebench.reference.stored_scores import as_columns, score_restricted

RNG = np.random.default_rng(7)


def problem_of(kind, n=600, columns=5, folds=3):
    split = np.full((n, folds), TRAIN, np.int8)
    split[np.arange(n), RNG.integers(folds, size=n)] = TEST
    targets = {
        "binary": RNG.integers(2, size=n).astype(np.uint8),
        "multilabel": RNG.integers(2, size=(n, columns)).astype(np.uint8),
        "multiclass": RNG.integers(columns, size=n),
        "regression": RNG.normal(size=n),
    }[kind]
    names = ("value",) if kind in ("binary", "regression") else tuple("abcdefgh"[:columns])
    return Problem("task", kind, np.arange(n)[:, None], targets, names, split)


def outputs_of(problem):
    for fold in range(problem.n_folds):
        rows = np.flatnonzero(problem.split[:, fold] == TEST)
        scores = RNG.normal(size=(len(rows), problem.n_columns))
        if problem.kind == "multiclass":
            scores[np.arange(len(rows)), problem.targets[rows]] += 1
        else:
            truth = problem.targets[rows].reshape(len(rows), -1)
            scores += truth
        fitted = np.ones(problem.n_columns, bool)
        zeros = np.zeros(problem.n_columns)
        yield FoldOutput(rows, scores, fitted, {}, zeros, zeros, zeros.astype(np.int64))


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
def test_levels_keep_the_order_and_the_area_under_the_curve(kind):
    problem = problem_of(kind, n=12_000)
    outputs = list(outputs_of(problem))
    packed = pack_outputs(problem, outputs)
    covered = np.ones(problem.n_samples, bool)
    found = unpack_outputs(problem, packed["predictions"], packed["fitted"], covered)
    usable = [one.fitted for one in found]
    restored = list(score_restricted(as_columns(problem), found, usable))
    for fold, output in enumerate(outputs):
        assert (found[fold].rows == output.rows).all()
        truth, scores = problem.targets[output.rows], output.scores
        if kind == "binary":
            exact = roc_auc_score(truth, scores[:, 0])
        elif kind == "multilabel":
            exact = roc_auc_score(truth, scores, average="weighted")
        else:
            chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            exact = roc_auc_score(truth, chances, multi_class="ovr", average="weighted")
        assert restored[fold] == pytest.approx(exact, abs=2e-3)


def test_numbers_of_a_regression_keep_three_digits():
    scores = RNG.normal(size=(500, 1))
    again = decode_fold("regression", encode_fold("regression", scores), 500, 1)
    assert np.abs(again - scores).max() < 2e-3


def test_ties_stay_ties_and_the_size_is_known():
    scores = np.repeat([0.0, 1.0, 2.0], 100)[:, None]
    content = encode_fold("binary", scores)
    assert len(content) == encoded_size("binary", 300, 1) == 1 + SMALL_FOLD_BITS * 38
    levels = decode_fold("binary", content, 300, 1)[:, 0]
    assert len(np.unique(levels)) == 3
    assert (np.diff(levels) >= 0).all()


def test_predictions_of_some_samples_are_restored_to_these_samples():
    problem = problem_of("multilabel")
    covered = RNG.random(problem.n_samples) < 0.4
    outputs = []
    for output in outputs_of(problem):
        kept = covered[output.rows]
        outputs.append(
            FoldOutput(
                output.rows[kept], output.scores[kept], output.fitted, {}, *([np.zeros(5)] * 3)
            )
        )
    packed = pack_outputs(problem, outputs)
    found = unpack_outputs(problem, packed["predictions"], packed["fitted"], covered)
    for before, after in zip(outputs, found, strict=True):
        assert (before.rows == after.rows).all()
        assert after.scores.shape == before.scores.shape
    with pytest.raises(GenebenchError, match="damaged"):
        unpack_outputs(problem, packed["predictions"] + b"x", packed["fitted"], covered)
    with pytest.raises(GenebenchError, match="damaged"):
        unpack_outputs(problem, packed["predictions"][:-1], packed["fitted"], covered)


def bundle(**columns):
    problem = problem_of("binary")
    row = dict.fromkeys(BUNDLE_SCHEMA) | {
        "format": 1, "package": "genebench 0.1.0", "encoder_id": "one", "task_id": "task",
        "kind": "binary", "metric": "roc_auc", "fold_scores": [0.5, 0.6, 0.7],
        **pack_outputs(problem, list(outputs_of(problem))),
    }  # fmt: skip
    return pl.DataFrame([row | columns], schema=BUNDLE_SCHEMA)


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    written = bundle()
    write_bundle(tmp_path / "one.parquet", written)
    assert read_bundle(tmp_path / "one.parquet").equals(written)
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]


FORGED = {
    "a score above 1": ({"fold_scores": [0.5, 1.6, 0.7]}, "not all numbers from 0"),
    "a score that is no number": ({"fold_scores": [0.5, float("nan")]}, "not all numbers"),
    "no scores": ({"fold_scores": []}, "not all numbers"),
    "an unknown metric": ({"metric": "magic"}, "unknown metric 'magic'"),
    "another format": ({"format": 2}, "reads format 1"),
}


@pytest.mark.parametrize(("columns", "message"), FORGED.values(), ids=FORGED)
def test_a_bundle_that_cannot_be_true_is_refused(tmp_path, columns, message):
    write_bundle(tmp_path / "one.parquet", bundle(**columns))
    with pytest.raises(GenebenchError, match=message):
        read_bundle(tmp_path / "one.parquet")


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "one.parquet").write_text("no parquet")
    with pytest.raises(GenebenchError, match="cannot be read as a bundle"):
        read_bundle(tmp_path / "one.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "two.parquet")
    with pytest.raises(GenebenchError, match="it lacks format"):
        read_bundle(tmp_path / "two.parquet")
    twice = pl.concat([bundle(), bundle()])
    write_bundle(tmp_path / "three.parquet", twice)
    with pytest.raises(GenebenchError, match="two rows of one encoder and task"):
        read_bundle(tmp_path / "three.parquet")

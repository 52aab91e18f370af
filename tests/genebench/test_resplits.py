"""Nested training subsamples, and temporal hold-out problems."""

import numpy as np
import pytest
from declared import read_probe, read_protocol

from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.resplits import make_temporal_problem, subsample_training
from genebench.probes.declaration import TEST, TRAIN, UNUSED, Problem

PAPER = read_protocol("paper", positive="declared")
LINEAR = read_probe("linear")
N, D = 600, 20


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(N, D)).astype(np.float32)
    signal = matrix @ rng.normal(size=D) / np.sqrt(D)
    targets = (signal + 0.5 * rng.logistic(size=N) > 0.8).astype(np.uint8)
    folds = rng.permutation(np.arange(N) % 5)
    split = np.where(folds[:, None] == np.arange(5), TEST, TRAIN).astype(np.int8)
    return matrix, Problem("task", "binary", np.arange(N)[:, None], targets, ("yes",), split)


def area(matrix, problem):
    (found,) = evaluate(matrix, [problem], LINEAR, PAPER, threads=1)
    assert found.status == "ok", found.reason
    return found.scores.filter(metric="roc_auc", label="")["value"].mean()


def test_a_smaller_sample_is_part_of_a_larger_one_and_the_tested_rows_stay(task):
    _, problem = task
    small, large = (subsample_training(problem, share) for share in (0.1, 0.5))
    for thin, share in ((small, 0.1), (large, 0.5)):
        assert np.array_equal(thin.split == TEST, problem.split == TEST)
        n_kept = (thin.split == TRAIN).sum(axis=0)
        assert n_kept == pytest.approx(share * (problem.split == TRAIN).sum(axis=0), abs=2)
        kept = thin.split[:, 0] == TRAIN
        whole = problem.split[:, 0] == TRAIN
        assert problem.targets[kept].mean() == pytest.approx(
            problem.targets[whole].mean(), abs=0.02
        )
    assert ((small.split == TRAIN) <= (large.split == TRAIN)).all()
    assert np.array_equal(subsample_training(problem, 1.0).split, problem.split)
    with pytest.raises(ValueError, match="above 0"):
        subsample_training(problem, 0)


def test_a_learning_curve_rises(task):
    matrix, problem = task
    curve = [area(matrix, subsample_training(problem, share)) for share in (0.05, 0.2, 1.0)]
    assert curve[0] + 0.03 < curve[1] < curve[2]


def test_later_labels_are_tested_on_held_out_rows_that_lacked_them(task):
    matrix, problem = task
    after = problem.targets
    rng = np.random.default_rng(1)
    before = (after * (rng.random(N) < 0.6)).astype(np.uint8)
    later = make_temporal_problem("later", problem.rows, before, after, problem.split, "yes")
    first, second = later.split[:N], later.split[N:]
    assert not (first == TEST).any()
    assert not (second == TRAIN).any()
    # A known positive is never tested, and no row is in training and held out at once.
    assert (second[before == 1] == UNUSED).all()
    assert not ((first == TRAIN) & (second == TEST)).any()
    assert np.array_equal(later.targets, np.r_[before, after])
    tested = (second == TEST).any(axis=1)
    assert np.array_equal(tested, before == 0)
    # Labels hidden at random are found again; labels that nothing foretells are not.
    assert area(matrix, later) > 0.75
    at_random = before | ((rng.random(N) < 0.2) & (before == 0))
    noise = make_temporal_problem(
        "noise", problem.rows, before, at_random.astype(np.uint8), problem.split, "y"
    )
    assert 0.35 < area(matrix, noise) < 0.65

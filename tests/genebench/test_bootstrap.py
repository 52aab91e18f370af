"""Coverage of intervals, level of paired tests, and weighted scores of resampled rows."""

from functools import cache

import numpy as np
import pytest
from declared import read_protocol
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulations import N_FOLDS, output_of, simulate
from genebench.evaluation.metrics import (
    METRICS,
    score_binary,
    score_multiclass,
    score_multilabel,
    score_regression,
)
from genebench.evaluation.ranks import rank_columns
from genebench.evaluation.statistics.bootstrap import (
    confidence_interval,
    replicate_scores,
    score_intervals,
    signal_from_score,
    training_variance_factor,
)
from genebench.evaluation.statistics.paired_tests import (
    adjust_holm,
    corrected_t_test,
    paired_bootstrap_test,
)
from genebench.evaluation.statistics.ranking import rank_over_tasks
from genebench.evaluation.statistics.resampling import (
    draw_weights,
    score_weighted,
    score_weighted_labels,
)
from genebench.evaluation.statistics.weighted_ranks import (
    column_aucs,
    expand_auc,
    expand_average_precision,
    weighted_column_rank_metrics,
    weighted_rank_metrics,
)
from genebench.probes.declaration import KINDS, TRAIN, Problem

RUNS = 500


def load(draws=300):
    return read_protocol("paper", uncertainty={"intervals": "bootstrap", "draws": draws})


PLAIN = {
    "binary": lambda names, truth, scores: score_binary(names, truth, scores[:, 0]),
    "multiclass": score_multiclass,
    "multilabel": score_multilabel,
    "regression": lambda names, truth, scores: score_regression(names, truth, scores[:, 0]),
}


def draw_task(rng, kind, n):
    """Truth and tied scores of a task whose every class has a row."""
    if kind == "binary":
        return np.r_[0, 1, rng.integers(0, 2, n - 2)], np.round(rng.normal(size=(n, 1)), 1)
    if kind == "multiclass":
        return np.r_[0, 1, 2, rng.integers(0, 3, n - 3)], np.round(rng.normal(size=(n, 3)), 1)
    if kind == "multilabel":
        rest = rng.integers(0, 2, (n - 2, 3))
        return np.vstack([np.zeros(3), np.ones(3), rest]).astype(int), np.round(
            rng.normal(size=(n, 3)), 1
        )
    return np.round(rng.normal(size=n), 1), np.round(rng.normal(size=(n, 1)), 1)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), n=st.integers(6, 40), seed=st.integers(0, 10_000))
def test_a_score_under_whole_weights_is_the_score_of_repeated_rows(kind, n, seed):
    rng = np.random.default_rng(seed)
    truth, scores = draw_task(rng, kind, n)
    times = rng.integers(1, 4, (n, 2))
    names = [name for name, metric in METRICS.items() if kind in metric.kinds]
    found = score_weighted(kind, names, truth, scores, times.astype(float))
    for draw in range(2):
        rows = np.repeat(np.arange(n), times[:, draw])
        expected = PLAIN[kind](names, truth[rows], scores[rows])
        for name in names:
            assert found[name][draw] == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.parametrize("expand", [expand_auc, expand_average_precision])
def test_derivatives_of_rank_metrics_are_finite_differences(expand):
    rng = np.random.default_rng(0)
    n, step = 60, 1e-6
    truth = rng.random((n, 2)) < 0.3
    scores = np.round(rng.normal(size=(n, 2)) + truth, 1)
    is_scored = rng.random((n, 2)) < 0.8
    values, derivatives = expand(truth, scores, is_scored)
    name = "roc_auc" if expand is expand_auc else "average_precision"
    for column in range(2):
        cells = truth[:, column], scores[:, column], np.ones((n, n)) + step * np.eye(n)
        rows = np.flatnonzero(is_scored[:, column])
        changed = weighted_rank_metrics(*cells, [name], rows)[name]
        assert (changed - values[column]) / step == pytest.approx(derivatives[:, column], abs=1e-6)


def test_levels_given_as_integers_have_the_area_of_their_numbers():
    rng = np.random.default_rng(4)
    truth = rng.random((1200, 4)) < [0.01, 0.05, 0.5, 0.99]
    levels = rng.integers(0, 16, truth.shape).astype(np.uint8)
    is_scored = rng.random(truth.shape) < 0.9
    found = column_aucs(truth, levels, is_scored)
    assert found == pytest.approx(column_aucs(truth, levels.astype(float), is_scored), abs=1e-12)
    for column, rows in enumerate(is_scored.T):
        alone = rank_columns(truth[rows, column][:, None], levels[rows, column][:, None] * 1.0)[0]
        assert found[column] == pytest.approx(alone[0], abs=1e-12)
    with pytest.raises(ValueError, match="constant column"):
        column_aucs(truth & False, levels, is_scored)


@pytest.mark.parametrize(("n", "positives"), [(450, 10), (450, 440), (1500, 60), (1500, 750)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_replicates_of_roc_auc_to_first_order_follow_the_exact_ones(n, positives, shift):
    rng = np.random.default_rng(3)
    truth = np.arange(n)[:, None] < positives
    scores = np.round(rng.normal(size=(n, 1)) + shift * truth, 2)
    weights = rng.standard_exponential((n, 2000))
    fast = weighted_column_rank_metrics(truth, scores, weights, ["roc_auc"])["roc_auc"][0]
    exact = weighted_rank_metrics(truth[:, 0], scores[:, 0], weights, ["roc_auc"])["roc_auc"]
    assert not np.array_equal(fast, exact)
    assert fast.std() == pytest.approx(exact.std(), rel=0.03)
    assert np.corrcoef(fast, exact)[0, 1] > 0.97
    assert abs(fast.mean() - exact.mean()) < 0.03 * exact.std()


def test_one_rank_metric_alone_has_the_value_that_it_has_beside_the_other():
    rng = np.random.default_rng(0)
    truth = rng.random((1500, 2)) < [0.02, 0.4]
    scores = np.round(rng.normal(size=(1500, 2)) + truth, 1)
    weights = rng.standard_exponential((1500, 50))
    both = weighted_column_rank_metrics(truth, scores, weights)
    for name, values in both.items():
        (alone,) = weighted_column_rank_metrics(truth, scores, weights, [name]).values()
        assert np.array_equal(alone, values)


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_replicates_by_slopes_spread_as_the_exact_ones(shift):
    rng = np.random.default_rng(1)
    truth = rng.random(2000) < 0.1
    scores = rng.normal(size=2000) + shift * truth
    rows = np.arange(2000)
    blocks = draw_weights(rows[:, None], 1000, 0, rows)
    weights = np.hstack(list(blocks))
    names = ["roc_auc", "average_precision"]
    fast = score_weighted("binary", names, truth, scores[:, None], weights)
    for name, exact in weighted_rank_metrics(truth, scores, weights).items():
        assert fast[name].std() == pytest.approx(exact.std(), rel=0.06)


def test_draws_depend_on_the_entities_and_not_on_the_order_or_choice_of_rows():
    rows = np.array([[4, 9], [9, 2], [4, 2]])

    def weights_of(rows, chosen):
        return np.hstack(list(draw_weights(rows, 120, 3, np.array(chosen))))

    whole = weights_of(rows, [0, 1, 2])
    assert np.array_equal(weights_of(rows, [2, 0]), whole[[2, 0]])
    assert np.array_equal(weights_of(rows * 10, [0, 1, 2]), whole)
    # Each weight is a product of two of three entities': 0 x 1 / 2 is the square of one of them.
    assert (whole[0] * whole[1] / whole[2]).min() > 0


def test_cells_that_are_not_scored_count_in_no_metric_of_their_label():
    rng = np.random.default_rng(5)
    n, rates = 1500, np.array([0.3, 0.05])
    truth = (rng.random((n, 2)) < rates).astype(int)
    scores, weights = rng.normal(size=(n, 2)) + truth, rng.standard_exponential((n, 30))
    is_scored = rng.random((n, 2)) < 0.8
    names = ["roc_auc", "average_precision", "log_loss", "f1", "mcc"]
    whole = score_weighted_labels(
        names, truth == 1, scores, scores > 0, weights, is_scored=is_scored
    )
    for column, use in enumerate(is_scored.T):
        cells = truth[use, column], scores[use, column][:, None], weights[use]
        alone = score_weighted("binary", names, *cells)
        for name in names:
            assert whole[name][column] == pytest.approx(alone[name], abs=1e-9), name


def test_the_draws_of_a_fold_are_kept_for_the_next_encoder_and_cannot_be_changed():
    rows, chosen = np.arange(500)[:, None], np.arange(100)
    (first,), (again,) = (list(draw_weights(rows, 50, 7, chosen)) for _ in range(2))
    assert again is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    (other,) = draw_weights(rows, 50, 8, chosen)
    assert not np.array_equal(other, first)


def test_replicates_do_not_depend_on_the_number_of_threads():
    problem, ((outputs, _, _), _) = simulate(np.random.default_rng(0), 300, 3, 1.0)
    usable = [np.ones(1, bool)] * N_FOLDS
    one, four = (replicate_scores(problem, outputs, usable, load(), threads=n) for n in (1, 4))
    assert all(np.array_equal(one[name], four[name]) for name in one)


def test_pairs_that_share_an_entity_have_wider_intervals_than_pairs_that_do_not():
    rng = np.random.default_rng(2)
    n = 400
    protocol = load(400)
    spreads = []
    for rows in (np.arange(2 * n).reshape(n, 2), np.c_[np.arange(n) % 8, 8 + np.arange(n)]):
        truth = np.arange(n) % 2
        scores = rng.normal(size=(n, 1)) + truth[:, None]
        problem = Problem("t", "binary", rows, truth, ("yes",), np.zeros((n, 1), np.int8))
        outputs = [output_of(np.arange(n), scores)]
        drawn = replicate_scores(problem, outputs, [np.ones(1, bool)], protocol, ["accuracy"])
        spreads.append(drawn["accuracy"].std())
    assert spreads[1] > 1.2 * spreads[0]


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_an_interval_holds_its_score_and_stays_in_the_range_of_the_metric(metric):
    low, high = METRICS[metric].low, METRICS[metric].high
    rng = np.random.default_rng(3)
    for value in (0.02, 0.5, 0.98):
        found = confidence_interval(metric, value, value + rng.normal(size=200) * 0.05)
        assert found.low < value < found.high
        assert low is None or found.low >= low
        assert high is None or found.high <= high
        assert found.standard_error > 0


def test_a_perfect_score_of_few_rows_is_not_certain():
    drawn = np.ones(100)
    few, many = (confidence_interval("roc_auc", 1.0, drawn, n_minority=n) for n in (15, 1500))
    # Fifteen of fifteen: the lower limit of Clopper and Pearson at 95 %.
    assert few.low == pytest.approx(0.7820, abs=5e-5)
    assert few.high == 1.0
    assert many.low > 0.99
    assert confidence_interval("hamming_loss", 0.0, drawn * 0, n_minority=15).high == pytest.approx(
        0.218, abs=1e-3
    )


@cache
def run_many(n, d, shift, n_features=None, n_runs=RUNS):
    """Simulated runs: for each encoder its value, replicates, known area, folds.

    Replicates are of the encoder whatever the training set, or, with 0 features, of the fitted
    probes.
    """
    rng = np.random.default_rng(7)
    protocol, usable = load(), [np.ones(1, bool)] * N_FOLDS
    n_features = d if n_features is None else n_features
    runs = []
    for _ in range(n_runs):
        problem, encoders = simulate(rng, n, d, shift)
        run = []
        for outputs, known, found in encoders:
            drawn = replicate_scores(
                problem, outputs, usable, protocol, ["roc_auc"], n_features=n_features
            )
            run.append((found.mean(), drawn["roc_auc"], known, found))
        runs.append(run)
    return runs


def coverage(runs, truth_of):
    hits = []
    for run in runs:
        for value, drawn, known, _ in run:
            found = confidence_interval("roc_auc", value, drawn)
            hits.append(found.low <= truth_of(known) <= found.high)
    return np.mean(hits)


def level(runs, test):
    return np.mean([test(*run).p_value < 0.05 for run in runs])


def level_by_rows(runs):
    return level(runs, lambda a, b: paired_bootstrap_test(a[0] - b[0], a[1], b[1]))


# Rows, features, distance of the classes: from a control of few numbers to an embedding.
SIMULATED = [
    (300, 64, 1.5),
    *(
        pytest.param(*case, marks=pytest.mark.soak)
        for case in [(600, 3, 2.0), (600, 16, 1.5), (600, 64, 1.5), (1500, 64, 1.0)]
    ),
]


@pytest.mark.soak
def test_intervals_of_fitted_probes_cover_the_area_that_the_probes_are_known_to_have():
    runs = run_many(600, 3, 2.0, n_features=0)
    assert 0.92 <= coverage(runs, lambda known: known) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "shift"), SIMULATED)
def test_intervals_of_encoders_cover_the_expected_area(n, d, shift):
    runs = run_many(n, d, shift)
    expected = np.mean([one[2] for run in runs for one in run])
    assert 0.92 <= coverage(runs, lambda _: expected) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "shift"), SIMULATED)
def test_the_paired_test_over_rows_keeps_its_level_under_the_null(n, d, shift):
    assert 0.04 <= level_by_rows(run_many(n, d, shift)) <= 0.06


@pytest.mark.slow
def test_without_the_variance_of_training_sets_wide_embeddings_would_be_too_certain():
    runs = run_many(300, 64, 1.5, n_features=0, n_runs=100)
    expected = np.mean([one[2] for run in runs for one in run])
    assert coverage(runs, lambda _: expected) < 0.92
    assert level_by_rows(runs) > 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_training_variance_grows_with_features_and_falls_with_rows_and_signal(kind):
    def found(n, d, value=0.7):
        truth, _ = draw_task(np.random.default_rng(0), kind, n)
        split = np.full((n, 1), TRAIN, np.int8)
        labels = ("a", "b", "c") if kind.startswith("multi") else ("a",)
        problem = Problem("task", kind, np.arange(n)[:, None], truth, labels, split)
        return training_variance_factor(problem, d, signal_from_score(kind, value))

    assert found(200, 0) == 1
    assert 1 < found(2000, 16) < found(200, 16) < found(200, 4096) < 1.8
    assert found(2000, 16, 0.9) < found(2000, 16, 0.6)
    assert found(200, 16, -3.0) <= 1.8


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d", "shift"), SIMULATED)
def test_the_test_on_folds_never_exceeds_its_level(n, d, shift):
    runs = run_many(n, d, shift)
    assert level(runs, lambda a, b: corrected_t_test(a[3] - b[3], 4.0, 1.0)) <= 0.06


def test_a_real_difference_is_found_by_both_tests():
    rng = np.random.default_rng(5)
    problem, ((strong, _, found), _) = simulate(rng, 600, 3, 2.0)
    weak = [output_of(o.rows, o.scores + 4 * o.scores.std() * rng.normal(size=o.scores.shape))
            for o in strong]  # fmt: skip
    usable = [np.ones(1, bool)] * N_FOLDS
    drawn = [
        replicate_scores(problem, one, usable, load(), ["roc_auc"])["roc_auc"]
        for one in (strong, weak)
    ]
    difference = drawn[0].mean() - drawn[1].mean()
    assert paired_bootstrap_test(difference, *drawn).p_value < 1e-4
    assert corrected_t_test(np.array([0.2, 0.22, 0.18, 0.21, 0.2]), 4.0, 1.0).p_value < 1e-3
    assert found.mean() > 0.8


def test_only_the_main_metric_keeps_its_replicates():
    import polars as pl

    problem, ((outputs, _, _), _) = simulate(np.random.default_rng(0), 100, 3, 1.0)
    protocol = load(100)
    names = protocol.metrics_of("binary")
    scores = pl.DataFrame(
        [("", name, k, 0.6) for name in names for k in range(N_FOLDS)],
        schema=["label", "metric", "fold", "value"],
        orient="row",
    )
    rows = score_intervals(problem, outputs, [np.ones(1, bool)] * N_FOLDS, protocol, scores, 3)
    kept = dict(rows.select("metric", pl.col("replicates").list.len()).iter_rows())
    assert kept == {name: 100 if name == "roc_auc" else 0 for name in names}
    assert rows["n_units"].to_list() == [100] * len(names)
    alone = score_intervals(
        problem, outputs, [np.ones(1, bool)] * N_FOLDS, protocol, scores, 3, metrics=["roc_auc"]
    )
    assert alone.equals(rows.filter(metric="roc_auc"))


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_ranking_equals_friedmans_test_and_the_published_critical_values():
    from scipy.stats import f, friedmanchisquare

    scores = np.random.default_rng(4).normal(size=(14, 4)) + np.array([0.0, 0.4, 0.8, 1.2])
    found = rank_over_tasks(scores)
    chi_square = friedmanchisquare(*scores.T).statistic
    ratio = 13 * chi_square / (14 * 3 - chi_square)
    assert found.p_value == pytest.approx(f.sf(ratio, 3, 39), rel=1e-9)
    # Demšar 2006, table 5a, at 5 %.
    for n_encoders, quantile in ((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)):
        ranked = rank_over_tasks(np.random.default_rng(0).normal(size=(30, n_encoders)))
        expected = quantile * np.sqrt(n_encoders * (n_encoders + 1) / (6 * 30))
        assert ranked.critical_difference == pytest.approx(expected, rel=5e-4)


def test_copies_of_a_task_that_share_a_weight_are_no_further_evidence():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(12, 4)) + np.arange(4)
    copied = np.vstack([scores, np.repeat(scores[:1], 9, axis=0)])
    weights = np.r_[0.1, np.ones(11), np.full(9, 0.1)]
    plain, weighted = rank_over_tasks(scores), rank_over_tasks(copied, weights=weights)
    assert weighted.mean_ranks == pytest.approx(plain.mean_ranks)
    assert weighted.critical_difference == pytest.approx(plain.critical_difference, rel=0.05)
    assert rank_over_tasks(copied).critical_difference < 0.8 * plain.critical_difference


def test_encoders_that_noise_can_swap_are_in_one_clique():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(30, 4)) + np.array([0.0, 0.1, 3.0, 9.0])
    cliques = rank_over_tasks(scores).cliques
    assert {0, 1} in [set(clique) for clique in cliques]
    assert not any(3 in clique and 0 in clique for clique in cliques)

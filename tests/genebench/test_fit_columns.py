"""`fit_columns` on arrays: coefficients, decision values and convergence equal scikit-learn's."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genebench.probes.linear import fit_columns

N, D = 240, 12


def draw(seed=0, n=N, d=D, columns=3):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + rng.normal(size=d)) * 3
    signal = X @ rng.normal(size=(d, columns))
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0) + rng.logistic(size=(n, columns))
    split = np.where(rng.permutation(n)[:, None] % 3 == np.arange(3), 2, 1)
    return X, signal, split


def logistic(**changes):
    return LogisticRegression(**{"tol": 1e-10, "max_iter": 5000, "solver": "lbfgs"} | changes)


def assert_equals(fits, X, split, models, atol=2e-4):
    """The models were fitted by column and fold."""
    for fold in range(split.shape[1]):
        for column, model in enumerate(models[fold]):
            np.testing.assert_allclose(fits.coef[fold, column], np.ravel(model.coef_), atol=atol)
            assert fits.intercept[fold, column] == pytest.approx(
                float(np.ravel(model.intercept_)[0]), abs=atol
            )
        held = split[:, fold] == 2
        assert np.array_equal(fits.held_out[fold], np.flatnonzero(held))
        expected = X[held] @ fits.coef[fold].T + fits.intercept[fold]
        np.testing.assert_allclose(fits.decision[fold], expected, atol=atol)
    assert fits.converged.all()
    assert not fits.reason.any()
    assert (fits.gradient_norm <= 1e-6).all()


@pytest.mark.slow
def test_it_loads_neither_polars_nor_pydantic_nor_prefect():
    code = (
        "from genebench.probes.linear import fit_columns; import sys; "
        "print({'polars', 'pydantic', 'prefect', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("n", [N, 3300])
def test_logistic_columns_equal_scikit_learn(n):
    """Up to 3,000 rows are solved in float64, more in float32."""
    X, signal, split = draw(n=n)
    fits = fit_columns(X, signal > 0.5, split, C=0.3)
    models = [
        [logistic(C=0.3).fit(X[f == 1], y[f == 1]) for y in (signal > 0.5).T] for f in split.T
    ]
    assert_equals(fits, X, split, models, atol=2e-4 if n == N else 2e-3)
    assert (fits.C == 0.3).all()
    assert fits.n_iter.min() > 0


@pytest.mark.parametrize("shape", [(N, D), (60, 200), (1100, 20)])
def test_standardised_coefficients_are_of_the_original_features(shape):
    X, signal, split = draw(n=shape[0], d=shape[1], columns=1)
    fits = fit_columns(X, signal[:, 0] > 0, split, C=0.1, standardize=True)
    for fold, part in enumerate(split.T):
        model = make_pipeline(StandardScaler(), logistic(C=0.1))
        model.fit(X[part == 1], signal[part == 1, 0] > 0)
        expected = model.decision_function(X[part == 2])
        np.testing.assert_allclose(fits.decision[fold][:, 0], expected, atol=3e-3)
        found = X[part == 2] @ fits.coef[fold, 0] + fits.intercept[fold, 0]
        np.testing.assert_allclose(found, expected, atol=3e-3)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_multinomial_decisions_equal_scikit_learn(n_classes):
    X, signal, split = draw(columns=n_classes)
    codes = signal.argmax(axis=1)
    fits = fit_columns(X, codes, split, loss="multinomial")
    assert fits.coef.shape == (3, n_classes, D)
    for fold, part in enumerate(split.T):
        model = logistic().fit(X[part == 1], codes[part == 1])
        shares = np.exp(fits.decision[fold] - fits.decision[fold].max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, model.predict_proba(X[part == 2]), atol=1e-4)
        again = X[part == 2] @ fits.coef[fold].T + fits.intercept[fold]
        np.testing.assert_allclose(again, fits.decision[fold], atol=1e-4)


def test_ridge_columns_equal_scikit_learn():
    X, signal, split = draw()
    fits = fit_columns(X, 100 + 7 * signal, split, loss="squared", C=0.5)
    models = [
        [Ridge(alpha=2.0).fit(X[f == 1], y[f == 1]) for y in (100 + 7 * signal).T] for f in split.T
    ]
    assert_equals(fits, X, split, models)


@pytest.mark.parametrize("loss", ["logistic", "squared", "multinomial"])
@pytest.mark.parametrize("n", [N, 3300])
def test_without_an_intercept_it_is_zero(loss, n):
    X, signal, split = draw(n=n)
    Y = {"logistic": signal[:, 0] > 0, "squared": signal[:, 0] + 5}.get(loss, signal.argmax(axis=1))
    fits = fit_columns(X, Y, split, loss=loss, fit_intercept=False)
    assert np.abs(fits.intercept).max() < 1e-4
    for fold, part in enumerate(split.T):
        model = Ridge(fit_intercept=False) if loss == "squared" else logistic(fit_intercept=False)
        model.fit(X[part == 1], Y[part == 1])
        expected = np.atleast_2d(model.coef_)
        np.testing.assert_allclose(fits.coef[fold], expected, atol=2e-3)


@pytest.mark.parametrize("shape", [(90, 5), (40, 200), (1500, 20)])
def test_without_an_intercept_features_are_centred_on_the_training_rows(shape):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=shape), rng.random(shape[0]) < 0.5
    held = np.arange(shape[0]) % 3 == 0
    X[held] += 2
    split = np.where(held, 2, 1)[:, None]
    fits = fit_columns(X, y, split, standardize=True, fit_intercept=False)
    model = make_pipeline(StandardScaler(), logistic(fit_intercept=False)).fit(X[~held], y[~held])
    expected = model.decision_function(X[held])
    np.testing.assert_allclose(fits.decision[0][:, 0], expected, atol=1e-4)


def test_sample_and_class_weights_equal_scikit_learn():
    X, signal, split = draw(columns=2)
    weights = np.random.default_rng(1).uniform(0.1, 3, N)
    for class_weight, expected in (((2.0, 0.5), {0: 2.0, 1: 0.5}), ("balanced", "balanced")):
        fits = fit_columns(
            X, signal > 1, split, sample_weight=weights, class_weight=class_weight, tol=1e-8
        )
        models = [
            [
                logistic(class_weight=expected).fit(
                    X[f == 1], (y[f == 1] > 1).astype(int), sample_weight=weights[f == 1]
                )
                for y in signal.T
            ]
            for f in split.T
        ]
        assert_equals(fits, X, split, models)
    codes = np.column_stack([signal, 1 - signal[:, 0]]).argmax(axis=1)
    for class_weight, expected in (((2.0, 0.5, 1.0), {0: 2.0, 1: 0.5}), ("balanced", "balanced")):
        fits = fit_columns(
            X, codes, split, loss="multinomial", sample_weight=weights, class_weight=class_weight
        )
        for fold, part in enumerate(split.T):
            model = logistic(class_weight=expected)
            model.fit(X[part == 1], codes[part == 1], sample_weight=weights[part == 1])
            np.testing.assert_allclose(fits.coef[fold], model.coef_, atol=2e-4)
    ridge = fit_columns(X, signal, split, loss="squared", sample_weight=weights)
    for fold, part in enumerate(split.T):
        model = Ridge(alpha=1.0)
        model.fit(X[part == 1], signal[part == 1], sample_weight=weights[part == 1])
        np.testing.assert_allclose(ridge.coef[fold], model.coef_, atol=2e-4)


def test_a_path_of_c_is_chosen_for_each_column_and_fold():
    X, signal, split = draw(n=400)
    Y = np.column_stack([signal[:, 0] > 0, np.random.default_rng(2).random(400) < 0.4])
    fits = fit_columns(X, Y, split, C=[1e-4, 1e-2, 1.0], standardize=True)
    assert (fits.C[:, 0] > fits.C[:, 1]).all()


def test_a_column_that_cannot_be_fitted_has_a_reason_and_no_numbers():
    X, signal, split = draw()
    Y = np.column_stack([signal[:, 0] > 0, np.zeros(N)])
    fits = fit_columns(X, Y, split)
    assert fits.converged.tolist() == [[True, False]] * 3
    assert set(fits.reason[:, 1]) == {"0 of 160 training samples are positive"}
    assert np.isnan(fits.coef[:, 1]).all()
    assert np.isfinite(fits.coef[:, 0]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": np.full((N, D), np.nan)}, "finite"),
        ({"Y": np.zeros(3)}, "rows"),
        ({"Y": np.where(np.arange(N) % 2, 1, -1)}, "0 or 1"),
        ({"split": np.full((N, 2), 7)}, "split must hold"),
        ({"C": 0.0}, "C must be"),
        ({"C": [1.0, 0.1]}, "C must be"),
        ({"loss": "hinge"}, "hinge"),
        ({"sample_weight": -np.ones(N)}, "sample_weight"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    X, signal, split = draw()
    arguments = {"X": X, "Y": signal > 0, "split": split} | changes
    with pytest.raises(ValueError, match=message):
        fit_columns(arguments.pop("X"), arguments.pop("Y"), arguments.pop("split"), **arguments)


@pytest.mark.parametrize("threads", [1, 2])
def test_scores_stay_within_tolerance_with_other_threads_and_columns(threads):
    """Bits depend on both; decision values agree to 1e-3 of their spread."""
    X, signal, split = draw(n=3300, d=30, columns=12)
    reference = fit_columns(X, signal[:, :1] > 0, split, threads=1)
    found = fit_columns(X, signal > 0, split, threads=threads)
    for one, other in zip(reference.decision, found.decision, strict=True):
        assert np.abs(one[:, 0] - other[:, 0]).max() <= 1e-3 * one[:, 0].std()


@pytest.mark.parametrize("n", [60, 900])
def test_dropped_axes_library_and_threads_are_reported(n):
    """A copied row has no axis of its own, and centred rows have one axis less."""
    X = np.random.default_rng(3).normal(size=(n, n + 40)).astype(np.float32)
    X[1] = X[0]
    split = np.where(np.arange(n)[:, None] % 2 == np.arange(1), 2, 1)
    fits = fit_columns(X, X[:, 0] > 0, split, threads=1)
    assert fits.dropped_axes == 2
    assert fits.library.endswith(", 1 threads")
    assert fit_columns(X[:, :10], X[:, 0] > 0, split).dropped_axes == 0
    assert fit_columns(X, X[:, 0] > 0, split, standardize=True).dropped_axes == 2

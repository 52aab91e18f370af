"""The estimators follow scikit-learn's rules and find scikit-learn's solutions."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from genebench.probes.estimators import LinearProbeCV, RidgeProbeCV

pytestmark = pytest.mark.slow


def draw(columns=1, n=300, d=10):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=(d, columns)) + rng.logistic(size=(n, columns))


@parametrize_with_checks([LinearProbeCV(Cs=(0.1, 1.0), cv=3), RidgeProbeCV((0.1, 1.0), cv=3)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_by_name_are_predicted_as_by_scikit_learn(n_classes):
    X, signal = draw(n_classes)
    y = np.array(["a", "b", "c"])[signal.argmax(axis=1)]
    probe = LinearProbeCV(standardize=False).fit(X, y)
    assert set(probe.C_) <= set(probe.Cs)
    model = LogisticRegression(C=probe.C_[0], tol=1e-8, max_iter=2000).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(X), model.predict_proba(X), atol=1e-4)
    assert (probe.predict(X) == model.predict(X)).mean() > 0.99
    assert probe.oof_decision_function_.shape == ((300,) if n_classes == 2 else (300, 3))
    codes = probe.oof_decision_function_
    guess = (codes > 0).astype(int) if n_classes == 2 else codes.argmax(axis=1)
    assert (probe.classes_[guess] == y).mean() > 0.6


def test_labels_are_fitted_together_each_with_a_c_of_its_own():
    X, signal = draw(4)
    Y = (signal > [0, 1, 2, -1]).astype(int)
    Y[:, 3] = np.random.default_rng(1).integers(0, 2, 300)
    probe = LinearProbeCV().fit(X, Y)
    assert probe.coef_.shape == (4, 10)
    assert probe.C_[3] < probe.C_[:3].min()
    assert probe.predict(X).shape == probe.predict_proba(X).shape == (300, 4)
    assert probe.score(X[:, :], Y) > 0.1
    assert np.isfinite(probe.oof_decision_function_).all()


def test_groups_are_held_out_whole():
    X, signal = draw()
    groups = np.arange(300) // 20
    y = (signal[:, 0] > 0).astype(int)
    by_groups = LinearProbeCV(cv=5).fit(X, y, groups=groups)
    by_splitter = LinearProbeCV(cv=GroupKFold(5)).fit(X, y, groups=groups)
    np.testing.assert_allclose(by_groups.oof_decision_function_, by_splitter.oof_decision_function_)


def test_ridge_equals_scikit_learn_at_the_chosen_alpha():
    X, signal = draw(2)
    probe = RidgeProbeCV(standardize=False).fit(X, 10 + signal)
    for column in range(2):
        model = Ridge(alpha=probe.alpha_[column]).fit(X, 10 + signal[:, column])
        np.testing.assert_allclose(probe.coef_[column], model.coef_, atol=1e-4)
    assert probe.score(X, 10 + signal) > 0.3
    one = RidgeProbeCV().fit(X, signal[:, 0])
    assert one.predict(X).shape == one.oof_decision_function_.shape == (300,)


def test_one_class_is_refused():
    X, _ = draw()
    with pytest.raises(ValueError, match="one class"):
        LinearProbeCV().fit(X, np.ones(300))


def test_a_class_with_fewer_rows_than_folds_is_warned_of_and_too_few_rows_are_refused():
    X, signal = draw()
    y = np.repeat(["a", "b"], [297, 3])
    with pytest.warns(UserWarning, match="only 3 members"):
        probe = LinearProbeCV((1.0,), cv=5).fit(X, y)
    assert np.isfinite(probe.oof_decision_function_).all()
    with pytest.raises(ValueError, match="n_splits=5"):
        LinearProbeCV((1.0,), cv=5).fit(X[-6:], y[-6:])
    with pytest.raises(ValueError, match="n_splits=5"):
        RidgeProbeCV((1.0,), cv=5).fit(X[:4], signal[:4, 0])

"""2,000 random problems have the objective of scikit-learn's optimum (`make soak`)."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from genebench.probes.linear import SolverSettings, columns, fit_columns


def objective(X, y, coef, intercept, c, classes):
    """scikit-learn's objective over C, in float64; two classes are one column."""
    values = X @ coef.T + intercept
    if classes > 2:
        values = values - values.max(axis=1, keepdims=True)
        losses = np.log(np.exp(values).sum(axis=1)) - values[np.arange(len(y)), y]
    else:
        losses = np.logaddexp(0, np.where(y == 1, -1, 1) * values[:, 0])
    return losses.sum() + (coef**2).sum() / (2 * c)


@pytest.mark.soak
@pytest.mark.parametrize("is_float64", [True, False])
@settings(
    max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(
    n=st.integers(30, 400),
    d=st.integers(1, 500),
    classes=st.sampled_from([2, 2, 3, 6]),
    scale=st.floats(-3, 3),
    decay=st.sampled_from([0.0, 0.6, 1.5]),
    rank=st.sampled_from([1.0, 1.0, 0.5]),
    imbalance=st.floats(0, 3),
    c=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_no_fit_is_worse_than_scikit_learn(
    is_float64, n, d, classes, scale, decay, rank, imbalance, c, seed
):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -decay
    if rank < 1 and d > 3:
        half = d // 2
        X[:, half : 2 * half] = X[:, :half]
    X = (10**scale * (X + rng.normal(size=d)) / np.sqrt(d)).astype(np.float32).astype(float)
    logits = X @ rng.normal(size=(d, classes)) / X.std() + rng.gumbel(size=(n, classes))
    logits[:, 0] += imbalance
    y = logits.argmax(axis=1)
    train = np.arange(n) % 3 > 0
    if len(np.unique(y[train])) < classes:
        return
    split = np.where(train, 1, 2)[:, None]
    with pytest.MonkeyPatch.context() as patch:
        if not is_float64:
            small = {"float64_rows": 0, "float64_rows_standardised": 0}
            patch.setattr(
                columns, "SolverSettings", lambda **named: SolverSettings(**named, **small)
            )
        loss = "multinomial" if classes > 2 else "logistic"
        fits = fit_columns(X, y, split, loss=loss, C=c)
    assert fits.converged.all(), fits.reason
    model = LogisticRegression(C=c, tol=1e-8, max_iter=3000).fit(X[train], y[train])
    ours, theirs = (
        objective(X[train], y[train], coef, intercept, c, classes)
        for coef, intercept in (
            (fits.coef[0], fits.intercept[0]),
            (model.coef_, model.intercept_),
        )
    )
    assert ours <= theirs * (1 + (1e-6 if is_float64 else 1e-4)) + 1e-6

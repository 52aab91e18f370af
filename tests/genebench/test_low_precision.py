"""LowPrecision products are near the exact ones, and cannot move the optimum."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import multiply_by

from genebench.probes.linear import newton_cg
from genebench.probes.linear import operators as module
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.objective import LOSSES
from genebench.probes.linear.operators import (
    Bfloat16Matrix,
    DenseMatrix,
    prefers_bfloat16,
    to_low_precision,
)

pytestmark = pytest.mark.slow

# Relative error of a product of two rounded factors.
NEAR = 0.01


def matrices(rng, n, width, columns):
    """Coordinates of falling spread, coefficients and values, all float32."""
    spread = np.arange(1, width + 1) ** -0.6
    return (
        torch.from_numpy((rng.normal(size=(n, width)) * spread).astype(np.float32)),
        torch.from_numpy(rng.normal(size=(width, columns)).astype(np.float32)),
        torch.from_numpy(rng.normal(size=(n, columns)).astype(np.float32)),
    )


def multiply(products, coefficients, n, intercepts=None):
    added = torch.zeros(coefficients.shape[1]) if intercepts is None else intercepts
    return products.rows(products.project(coefficients.clone(), added), slice(0, n)).float()


def multiply_back(products, values, blocks):
    sums = products.zeros(values.shape[1])
    for block in blocks:
        products.collect(sums, block, values[block].clone())
    return products.finish(sums)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 90),
    width=st.integers(2, 40),
    columns=st.integers(1, 20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_rounded_products_are_near_the_exact_ones_at_every_shape_and_scale(
    n, width, columns, scale, seed
):
    coordinates, coefficients, values = matrices(np.random.default_rng(seed), n, width, columns)
    coordinates, coefficients = coordinates * scale, coefficients / scale
    low_precision = to_low_precision(coordinates, "bfloat16")
    near = NEAR * float(coordinates.norm())
    forward = multiply(low_precision, coefficients, n)
    assert float((forward - coordinates @ coefficients).norm()) <= near * float(coefficients.norm())
    back, over_rows = multiply_back(low_precision, values, [slice(0, n // 2), slice(n // 2, n)])
    assert float((over_rows - values.sum(dim=0)).norm()) <= 0.01 * n**0.5 * float(values.norm())
    assert back.shape == (width, columns)
    assert float((back - coordinates.T @ values).norm()) <= near * float(values.norm())


def test_some_rows_of_a_rounded_matrix_are_the_rounded_matrix_of_these_rows():
    coordinates, coefficients, _ = matrices(np.random.default_rng(1), 40, 8, 3)
    low_precision = to_low_precision(coordinates, "bfloat16")
    rows = torch.tensor([7, 7, 0, 39])
    found = multiply(low_precision.take(rows), coefficients, 4)
    assert torch.equal(found, multiply(low_precision, coefficients, 40)[rows])


def test_a_single_feature_is_not_rounded():
    for precision in ("float32", "bfloat16"):
        assert to_low_precision(torch.ones(9, 1), precision) is None


def test_columns_of_zeros_and_features_that_are_constant_stay_zero():
    low_precision = to_low_precision(torch.zeros(10, 3), "bfloat16")
    assert torch.equal(multiply(low_precision, torch.zeros(3, 2), 10), torch.zeros(10, 2))
    for back in multiply_back(low_precision, torch.zeros(10, 2), [slice(0, 10)]):
        assert not back.any()


def test_intercepts_are_added_to_every_row():
    coordinates, coefficients, _ = matrices(np.random.default_rng(3), 40, 8, 3)
    low_precision, intercepts = (
        to_low_precision(coordinates, "bfloat16"),
        torch.tensor([0.0, 4.0, -64.0]),
    )
    added = multiply(low_precision, coefficients, 40, intercepts) - multiply(
        low_precision, coefficients, 40
    )
    torch.testing.assert_close(added, intercepts.expand(40, 3), atol=0.0, rtol=0.01)


def make_batch(design, n_classes, all_targets, masks, penalty_strength):
    """One target, of these 0 and 1 or numbers of classes, fitted on each set of rows."""
    return Batch(
        design,
        LOSSES["multinomial" if n_classes > 1 else "logistic"],
        n_classes=n_classes,
        all_targets=all_targets[:, None],
        target_columns=torch.zeros(len(penalty_strength), dtype=torch.int64),
        masks=masks,
        folds=torch.arange(len(penalty_strength)),
        penalty_strength=torch.tensor(penalty_strength, dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of((slice(0, len(masks)),), masks),
    )


def draw_batch(design, rng, signal, n_classes):
    """Three folds of one column, or of classes that follow each other along a signal."""
    n = len(signal)
    noisy = torch.from_numpy(signal + rng.logistic(size=n))
    masks = torch.from_numpy(np.arange(n)[:, None] % 3 != np.arange(3))
    penalty_strength = [0.1, 1.0, 10.0]
    if n_classes == 1:
        return make_batch(design, 1, noisy > 0, masks, penalty_strength)
    codes = noisy.argsort().argsort() * n_classes // n
    return make_batch(design, n_classes, codes, masks, penalty_strength)


MISLEADING = {
    "of other features": lambda products: products.flip(0),
    "at random": lambda products: torch.randn_like(products) * products.abs().mean(),
    "uphill": lambda products: -products,
    "much too small": lambda products: 1e-6 * products,
    "nothing": lambda products: 0.0 * products,
    "no numbers": lambda products: products * torch.nan,
}


# Random directions cost hundreds of products.
SLOW = pytest.mark.soak
CASES = [
    pytest.param(products, n_classes, seed, marks=SLOW if seed or products == "at random" else ())
    for products in MISLEADING
    for n_classes in (1, 4)
    for seed in range(4)
]


@pytest.mark.parametrize(("products", "n_classes", "seed"), CASES)
def test_products_that_mislead_cost_time_and_not_the_optimum(products, n_classes, seed):
    class Misleading(Bfloat16Matrix):
        def finish(self, sums):
            found, over_rows = super().finish(sums)
            return MISLEADING[products](found), over_rows

    torch.manual_seed(seed)
    coordinates, _, _ = matrices(np.random.default_rng(seed), 600, 20, 1)
    low_precision = to_low_precision(coordinates, "bfloat16")
    misleading = Misleading(low_precision.codes)
    signal = (3 * coordinates @ torch.ones(20)).numpy()
    expected, found = (
        newton_cg.solve(batch, initial_parameters(batch))
        for batch in (
            draw_batch(design, np.random.default_rng(seed), signal, n_classes)
            for design in (
                DenseMatrix(coordinates, None),
                DenseMatrix(coordinates, None, low_precision=misleading),
            )
        )
    )
    assert found.converged.all()
    assert (found.gradient_norm <= 1e-6).all()
    assert found.n_products > expected.n_products
    torch.testing.assert_close(found.parameters[0], expected.parameters[0], atol=1e-3, rtol=1e-3)
    values, wanted = (
        multiply_by(DenseMatrix(coordinates, None), *one.parameters) for one in (found, expected)
    )
    torch.testing.assert_close(values, wanted, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_that_moves_all_classes_alike_does_not_lead_astray(seed):
    rng = np.random.default_rng(seed)
    n, n_classes = 3000, 10
    coordinates, weights, _ = matrices(rng, n, 128, n_classes)
    chosen = (coordinates @ weights + torch.from_numpy(rng.gumbel(size=(n, n_classes)))).argmax(1)
    coordinates *= 30 / coordinates.norm(dim=1, keepdim=True)

    def count(precision):
        design = DenseMatrix(
            coordinates, None, low_precision=to_low_precision(coordinates, precision)
        )
        every = torch.ones(n, 1, dtype=torch.bool)
        batch = make_batch(design, n_classes, chosen, every, [1.0])
        solution = newton_cg.solve(batch, initial_parameters(batch))
        assert solution.converged.all()
        return solution.n_products

    assert count("bfloat16") <= 1.1 * count("float32")


def test_bfloat16_is_chosen_where_it_is_faster_and_only_there(monkeypatch):
    for seconds, expected in (((1.0, 0.5), True), ((1.0, 0.9), False)):
        monkeypatch.setattr(module, "kernel_times", lambda *_, seconds=seconds, **__: seconds)
        assert prefers_bfloat16.__wrapped__("cpu") is expected

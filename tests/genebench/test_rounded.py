"""Rounded products are near the exact ones, and cannot move the optimum."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.probes.linear import Settings, newton
from genebench.probes.linear.batches import Batch, start_point
from genebench.probes.linear.designs import Dense
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.rounded import Int8, find_precision, round_matrix

# Of the length of a product: what two factors of 8 bits leave out.
NEAR = {"bfloat16": 0.01, "int8": 0.03}


def matrices(rng, n, width, columns):
    """Coordinates of falling spread, coefficients and values, all float32."""
    spread = np.arange(1, width + 1) ** -0.6
    return (
        torch.from_numpy((rng.normal(size=(n, width)) * spread).astype(np.float32)),
        torch.from_numpy(rng.normal(size=(width, columns)).astype(np.float32)),
        torch.from_numpy(rng.normal(size=(n, columns)).astype(np.float32)),
    )


def multiply(products, coefficients, n):
    return products.rows(products.project(coefficients.clone()), slice(0, n))


def multiply_back(products, values, blocks):
    sums = products.zeros(values.shape[1])
    for block in blocks:
        products.collect(sums, block, values[block].clone())
    return products.finish(sums)


@settings(max_examples=40, deadline=None)
@given(
    precision=st.sampled_from(["bfloat16", "int8"]),
    n=st.integers(2, 90),
    width=st.integers(2, 40),
    columns=st.integers(1, 20),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_rounded_products_are_near_the_exact_ones_at_every_shape_and_scale(
    precision, n, width, columns, scale, seed
):
    coordinates, coefficients, values = matrices(np.random.default_rng(seed), n, width, columns)
    coordinates, coefficients = coordinates * scale, coefficients / scale
    rounded = round_matrix(coordinates, precision)
    near = NEAR[precision] * float(coordinates.norm())
    forward = multiply(rounded, coefficients, n)
    assert forward.dtype == torch.float32
    assert float((forward - coordinates @ coefficients).norm()) <= near * float(coefficients.norm())
    back = multiply_back(rounded, values, [slice(0, n // 2), slice(n // 2, n)])
    assert back.shape == (width, columns)
    assert float((back - coordinates.T @ values).norm()) <= near * float(values.norm())


@pytest.mark.parametrize("columns", [1, 2, 17])
def test_whole_numbers_of_8_bits_are_multiplied_without_any_loss(columns):
    rng = np.random.default_rng(0)
    shapes = (50, 30), (30, columns), (50, columns)
    whole = [torch.from_numpy(rng.integers(-127, 128, shape)).float() for shape in shapes]
    for matrix in whole:
        matrix[0] = 127.0
    coordinates, coefficients, values = whole
    rounded = round_matrix(coordinates, "int8")
    assert torch.equal(multiply(rounded, coefficients, 50), coordinates @ coefficients)
    assert torch.equal(multiply_back(rounded, values, [slice(0, 50)]), coordinates.T @ values)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_some_rows_of_a_rounded_matrix_are_the_rounded_matrix_of_these_rows(precision):
    coordinates, coefficients, _ = matrices(np.random.default_rng(1), 40, 8, 3)
    rounded = round_matrix(coordinates, precision)
    rows = torch.tensor([7, 7, 0, 39])
    found = multiply(rounded.take(rows), coefficients, 4)
    assert torch.equal(found, multiply(rounded, coefficients, 40)[rows])


def test_a_single_feature_is_not_rounded():
    for precision in ("float32", "bfloat16", "int8"):
        assert round_matrix(torch.ones(9, 1), precision) is None


def test_columns_of_zeros_and_features_that_are_constant_stay_zero():
    rounded = round_matrix(torch.zeros(10, 3), "int8")
    assert torch.equal(multiply(rounded, torch.zeros(3, 2), 10), torch.zeros(10, 2))
    assert torch.equal(
        multiply_back(rounded, torch.zeros(10, 2), [slice(0, 10)]), torch.zeros(3, 2)
    )


def make_batch(design, loss, outcomes, masks, strength):
    """One unit, fitted on each set of rows."""
    return Batch(
        design,
        LOSSES[loss],
        n_classes=outcomes.shape[1],
        outcomes=outcomes,
        units=torch.zeros(len(strength), dtype=torch.int64),
        masks=masks,
        folds=torch.arange(len(strength)),
        strength=torch.tensor(strength, dtype=torch.float64),
        scales=None,
        tolerance=1e-6,
    )


def draw_batch(design, rng, signal, n_classes):
    """Three folds of one column, or of classes that follow each other along a signal."""
    n = len(signal)
    noisy = torch.from_numpy(signal + rng.logistic(size=n))
    masks = torch.from_numpy(np.arange(n)[:, None] % 3 != np.arange(3))
    strength = [0.1, 1.0, 10.0]
    if n_classes == 1:
        return make_batch(design, "logistic", (noisy > 0)[:, None], masks, strength)
    codes = (noisy.argsort().argsort() * n_classes // n)[:, None] == torch.arange(n_classes)
    return make_batch(design, "multinomial", codes, masks, strength)


MISLEADING = {
    "of other features": lambda products: products.flip(0),
    "at random": lambda products: torch.randn_like(products) * products.abs().mean(),
    "uphill": lambda products: -products,
    "much too small": lambda products: 1e-6 * products,
    "nothing": lambda products: 0.0 * products,
    "no numbers": lambda products: products * torch.nan,
}


@pytest.mark.parametrize("n_classes", [1, 4])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("products", MISLEADING)
def test_products_that_mislead_cost_time_and_not_the_optimum(products, seed, n_classes):
    class Misleading(Int8):
        def finish(self, sums):
            return MISLEADING[products](super().finish(sums))

    torch.manual_seed(seed)
    coordinates, _, _ = matrices(np.random.default_rng(seed), 600, 20, 1)
    rounded = round_matrix(coordinates, "int8")
    misleading = Misleading(rounded.codes, rounded.scale)
    signal = (3 * coordinates @ torch.ones(20)).numpy()
    expected, found = (
        newton.solve(batch, start_point(batch))
        for batch in (
            draw_batch(design, np.random.default_rng(seed), signal, n_classes)
            for design in (
                Dense(coordinates, None),
                Dense(coordinates, None, rounded=misleading),
            )
        )
    )
    assert found.converged.all()
    assert (found.gradient_norm <= 1e-6).all()
    assert found.n_products > expected.n_products
    torch.testing.assert_close(
        found.point.coefficients, expected.point.coefficients, atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(found.point.values, expected.point.values, atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_rounding_that_moves_all_classes_alike_does_not_lead_astray(precision, seed):
    rng = np.random.default_rng(seed)
    n, n_classes = 3000, 10
    coordinates, weights, _ = matrices(rng, n, 128, n_classes)
    chosen = (coordinates @ weights + torch.from_numpy(rng.gumbel(size=(n, n_classes)))).argmax(1)
    coordinates *= 30 / coordinates.norm(dim=1, keepdim=True)

    def count(precision):
        design = Dense(coordinates, None, rounded=round_matrix(coordinates, precision))
        outcomes = torch.nn.functional.one_hot(chosen, n_classes)
        every = torch.ones(n, 1, dtype=torch.bool)
        batch = make_batch(design, "multinomial", outcomes, every, [1.0])
        solution = newton.solve(batch, start_point(batch))
        assert solution.converged.all()
        return solution.n_products

    assert count(precision) <= 1.1 * count("float32")


def test_8_bits_are_chosen_where_they_are_quick_and_only_there(monkeypatch):
    def nothing(left, right):
        return torch.zeros(len(left), right.shape[1], dtype=torch.int32)

    monkeypatch.setattr(torch, "_int_mm", nothing)
    assert find_precision.__wrapped__("cpu") == "int8"
    monkeypatch.setattr(torch, "_int_mm", lambda *both: time.sleep(0.2) or nothing(*both))
    assert find_precision.__wrapped__("cpu") != "int8"


def test_8_bits_on_a_gpu_are_refused():
    with pytest.raises(ValueError, match="8 bits are for a CPU, not for cuda"):
        Settings(device="cuda", precision="int8")

"""Rounded products are near the exact ones, and cannot move the optimum."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import multiply_by

from genebench.probes.linear import newton
from genebench.probes.linear.batches import Batch, find_start
from genebench.probes.linear.designs import Dense
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.parts import Runs
from genebench.probes.linear.rounded import Int8, find_precision, round_matrix
from genebench.probes.linear.solver_settings import SolverSettings

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
    assert float((forward - coordinates @ coefficients).norm()) <= near * float(coefficients.norm())
    back, over_rows = multiply_back(rounded, values, [slice(0, n // 2), slice(n // 2, n)])
    assert float((over_rows - values.sum(dim=0)).norm()) <= 0.01 * n**0.5 * float(values.norm())
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
    back, over_rows = multiply_back(rounded, values, [slice(0, 50)])
    assert torch.equal(back, coordinates.T @ values)
    assert torch.equal(over_rows, values.sum(dim=0))


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
    for back in multiply_back(rounded, torch.zeros(10, 2), [slice(0, 10)]):
        assert not back.any()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_intercepts_are_added_to_every_row(precision):
    coordinates, coefficients, _ = matrices(np.random.default_rng(3), 40, 8, 3)
    rounded, intercepts = round_matrix(coordinates, precision), torch.tensor([0.0, 4.0, -64.0])
    added = multiply(rounded, coefficients, 40, intercepts) - multiply(rounded, coefficients, 40)
    torch.testing.assert_close(added, intercepts.expand(40, 3), atol=0.0, rtol=0.01)


def make_batch(design, n_classes, outcomes, masks, strength):
    """One unit, of these 0 and 1 or numbers of classes, fitted on each set of rows."""
    return Batch(
        design,
        LOSSES["multinomial" if n_classes > 1 else "logistic"],
        n_classes=n_classes,
        outcomes=outcomes[:, None],
        units=torch.zeros(len(strength), dtype=torch.int64),
        masks=masks,
        folds=torch.arange(len(strength)),
        strength=torch.tensor(strength, dtype=torch.float64),
        scales=None,
        tolerance=1e-6,
        runs=Runs.of((slice(0, len(masks)),), masks),
    )


def draw_batch(design, rng, signal, n_classes):
    """Three folds of one column, or of classes that follow each other along a signal."""
    n = len(signal)
    noisy = torch.from_numpy(signal + rng.logistic(size=n))
    masks = torch.from_numpy(np.arange(n)[:, None] % 3 != np.arange(3))
    strength = [0.1, 1.0, 10.0]
    if n_classes == 1:
        return make_batch(design, 1, noisy > 0, masks, strength)
    codes = noisy.argsort().argsort() * n_classes // n
    return make_batch(design, n_classes, codes, masks, strength)


MISLEADING = {
    "of other features": lambda products: products.flip(0),
    "at random": lambda products: torch.randn_like(products) * products.abs().mean(),
    "uphill": lambda products: -products,
    "much too small": lambda products: 1e-6 * products,
    "nothing": lambda products: 0.0 * products,
    "no numbers": lambda products: products * torch.nan,
}


@pytest.mark.parametrize("n_classes", [1, 4])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 2, 3))])
@pytest.mark.parametrize("products", MISLEADING)
def test_products_that_mislead_cost_time_and_not_the_optimum(products, seed, n_classes):
    class Misleading(Int8):
        def finish(self, sums):
            found, over_rows = super().finish(sums)
            return MISLEADING[products](found), over_rows

    torch.manual_seed(seed)
    coordinates, _, _ = matrices(np.random.default_rng(seed), 600, 20, 1)
    rounded = round_matrix(coordinates, "int8")
    misleading = Misleading(rounded.codes, rounded.scale)
    signal = (3 * coordinates @ torch.ones(20)).numpy()
    expected, found = (
        newton.solve(batch, find_start(batch))
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
    torch.testing.assert_close(found.coefficients, expected.coefficients, atol=1e-3, rtol=1e-3)
    values, wanted = (multiply_by(Dense(coordinates, None), *one.pair) for one in (found, expected))
    torch.testing.assert_close(values, wanted, atol=5e-3, rtol=1e-3)


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
        every = torch.ones(n, 1, dtype=torch.bool)
        batch = make_batch(design, n_classes, chosen, every, [1.0])
        solution = newton.solve(batch, find_start(batch))
        assert solution.converged.all()
        return solution.n_products

    assert count(precision) <= 1.1 * count("float32")


def test_8_bits_are_chosen_where_they_are_quick_and_only_there(monkeypatch):
    def nothing(left, right):
        return torch.zeros(len(left), right.shape[1], dtype=torch.int32)

    monkeypatch.setattr(torch, "_int_mm", nothing)
    assert find_precision.__wrapped__("cpu") == "int8"

    def slowly(left, right):
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        return nothing(left, right)

    monkeypatch.setattr(torch, "_int_mm", slowly)
    assert find_precision.__wrapped__("cpu") != "int8"


def test_8_bits_on_a_gpu_are_refused():
    with pytest.raises(ValueError, match="8 bits are for a CPU, not for cuda"):
        SolverSettings(device="cuda", precision="int8")

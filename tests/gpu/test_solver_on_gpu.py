"""The solver on a GPU equals the solver on the CPU: `python -m pytest tests/gpu`."""

import time

import numpy as np
import pytest
import torch

from genebench.probes.linear import fit_columns

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def draw(n=8000, d=256, columns=20):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.6).astype(np.float32)
    signal = X @ rng.normal(size=(d, columns))
    signal = signal / signal.std(axis=0) + rng.logistic(size=(n, columns))
    split = np.where(rng.permutation(n)[:, None] % 5 == np.arange(5), 2, 1)
    return X, signal, split


@pytest.mark.parametrize("n", [900, 8000])
@pytest.mark.parametrize("loss", ["logistic", "multinomial", "squared"])
@pytest.mark.parametrize("standardize", [False, True])
def test_decision_values_equal_those_of_the_cpu(n, loss, standardize):
    X, signal, split = draw(n)
    Y = {"logistic": signal > 1, "squared": signal}.get(loss, signal[:, :6].argmax(axis=1))
    options = {"loss": loss, "standardize": standardize}
    cpu, gpu = (
        fit_columns(X, Y, split, C=[0.01, 1.0], device=device, **options)
        for device in ("cpu", "cuda")
    )
    assert gpu.converged.all()
    assert (gpu.C == cpu.C).all()
    for one, other in zip(cpu.decision, gpu.decision, strict=True):
        assert np.abs(one - other).max() <= 2e-3 * one.std()


def test_products_of_tf32_are_not_used(monkeypatch):
    torch.set_float32_matmul_precision("medium")
    try:
        X, signal, split = draw()
        fits = fit_columns(100 * X, signal > 1, split, device="cuda")
        assert fits.converged.all()
        assert (fits.gradient_norm <= 1e-6).all()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_it_prints_seconds_of_100_labels_on_both():
    X, signal, split = draw(16_000, 1024, 100)
    for device in ("cpu", "cuda", "cuda"):
        started = time.perf_counter()
        fit_columns(X, signal > 1, split, device=device)
        print(f"{device}: {time.perf_counter() - started:.2f} s")

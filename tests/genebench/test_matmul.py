"""float32 products are as exact with either library, and the process-wide setting is restored."""

import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.matmul import _prefer_onednn, fastest_matmul, kernel_times
from genebench.threads import limit_threads

PLAIN_SLOW, ONEDNN_SLOW = (1.0, 0.1), (0.1, 1.0)


def setting():
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture
def clock(monkeypatch):
    """Set the measured times of the two libraries, and clear the cached choice now and afterwards.

    Products are computed in float64, so that both libraries are exact on processors with AMX too.
    """
    multiply = torch.Tensor.__matmul__

    def exactly(left, right):
        return multiply(left.double(), right.double()).float()

    monkeypatch.setattr(torch.Tensor, "__matmul__", exactly)

    def run(seconds):
        now = itertools.accumulate(itertools.cycle((0.0, seconds[0], 0.0, seconds[1])))
        monkeypatch.setattr(time, "thread_time", lambda: next(now))
        _prefer_onednn.cache_clear()

    yield run
    _prefer_onednn.cache_clear()


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    width=st.integers(1, 300),
    columns=st.integers(1, 60),
    transposed=st.booleans(),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_products_in_the_block_are_exact_to_float32(n, width, columns, transposed, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    left = scale * torch.randn(n, width, generator=generator)
    right = torch.randn(width, columns, generator=generator)
    if transposed:
        left, right = left.T.contiguous().T, right.T.contiguous().T
    with fastest_matmul():
        found = left @ right
        added = torch.ones_like(found).addmm_(left, right)
    exact = left.double() @ right.double()
    length = (left.double().abs() @ right.double().abs()).max()
    # Sequential summation of 238 terms has an error of 1.1e-6; bfloat16 has 1e-3.
    assert float((found - exact).abs().max() / length) < 5e-6
    assert float((added - (exact + 1)).abs().max() / (length + 1)) < 5e-6


@pytest.mark.parametrize(("seconds", "inside"), [(PLAIN_SLOW, "bf16"), (ONEDNN_SLOW, "ieee")])
def test_the_faster_library_is_used_in_the_block_and_the_default_outside(clock, seconds, inside):
    clock(seconds)
    with fastest_matmul():
        assert setting() == inside
        with fastest_matmul():
            assert setting() == inside
        assert setting() == inside
    assert setting() == "none"
    with pytest.raises(KeyError), fastest_matmul():
        raise KeyError
    assert setting() == "none"


def test_a_library_that_rounds_is_not_used_even_if_it_is_faster(clock, monkeypatch):
    multiply = torch.Tensor.__matmul__

    def as_with_amx(left, right):
        if setting() == "bf16":
            return multiply(left.bfloat16(), right.bfloat16()).float()
        return multiply(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", as_with_amx)
    clock(PLAIN_SLOW)
    with fastest_matmul():
        assert setting() == "ieee"


def test_products_in_the_block_are_exact_whatever_precision_is_set_outside():
    """On processors with AMX the setting rounds to bfloat16; on GPUs to TF32."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(256, 300, generator=generator), torch.randn(300, 64)
    exact = left.double() @ right.double()
    torch.set_float32_matmul_precision("medium")
    try:
        outside = setting(), torch.backends.cuda.matmul.fp32_precision
        with fastest_matmul():
            assert float((left @ right - exact).abs().max()) < 1e-3
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert (setting(), torch.backends.cuda.matmul.fp32_precision) == outside
        assert outside == ("bf16", "tf32")
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_the_last_thread_to_leave_restores_the_setting(clock):
    clock(PLAIN_SLOW)
    inside, one_left = Barrier(2, timeout=120), Barrier(2, timeout=120)

    def leave_first():
        with fastest_matmul():
            inside.wait()
        one_left.wait()

    def leave_last():
        with fastest_matmul():
            inside.wait()
            one_left.wait()
            return setting()

    with ThreadPoolExecutor(2) as pool:
        first, last = pool.submit(leave_first), pool.submit(leave_last)
        first.result()
        assert last.result() == "bf16"
    assert setting() == "none"


def test_a_thread_that_begins_while_another_is_limited_is_not_limited_afterwards():
    inside, left = Barrier(2, timeout=120), Barrier(2, timeout=120)

    def begin_limited():
        inside.wait()
        with limit_threads(1):
            assert torch.get_num_threads() == 1
        left.wait()
        return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            with limit_threads(1):
                later = pool.submit(begin_limited)
                inside.wait()
                left.wait()
            assert later.result() == 2
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.soak
def test_other_load_hardly_changes_the_measured_time_of_a_product():
    """Products shared by several threads took 2.3 to 5 times as long under load."""
    left, right = torch.ones(2048, 1024), torch.ones(1024, 64)

    def multiply():
        return [left @ right for _ in range(20)][-1]

    busy = []
    with limit_threads(os.cpu_count()):
        (quiet,) = kernel_times([multiply])
        try:
            for _ in range(os.cpu_count()):
                busy.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            time.sleep(0.5)
            assert kernel_times([multiply])[0] <= 1.9 * quiet
            assert torch.get_num_threads() == os.cpu_count()
        finally:
            for process in busy:
                process.kill()
                process.wait()

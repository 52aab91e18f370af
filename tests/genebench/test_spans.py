"""Rows are put together by the folds that hold them out, and products leave out what weighs 0."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.probes import TEST, TRAIN, Problem
from genebench.probes.linear import batches, groups, newton
from genebench.probes.linear.batches import Batch, Runs, start_point
from genebench.probes.linear.designs import Dense, row_blocks
from genebench.probes.linear.groups import group_problems
from genebench.probes.linear.losses import LOSSES
from genebench.probes.linear.rounded import round_matrix

N, D, FOLDS = 600, 8, 5


def draw_problem(rng, n, names=("a", "b")):
    folds = rng.permutation(np.arange(n) % FOLDS)
    split = np.where(folds[:, None] == np.arange(FOLDS), TEST, TRAIN).astype(np.int8)
    targets = rng.integers(0, 2, (n, len(names)))
    rows = np.sort(rng.permutation(2 * n)[:n])[:, None]
    return Problem(f"p{n}", "multilabel", rows, targets, names, split)


def test_rows_that_a_fold_holds_out_are_neighbours_and_every_sample_finds_its_own(monkeypatch):
    monkeypatch.setattr(groups, "LEAST_RUN", 20)
    rng = np.random.default_rng(0)
    wide, narrow = draw_problem(rng, 200), draw_problem(rng, 190, names=("c",))
    narrow = Problem("n", "multilabel", wide.rows[:190], narrow.targets, ("c",), narrow.split)
    (group,) = group_problems([narrow, wide], own_rows=0)
    assert [run.start for run in group.runs] == [0, *(run.stop for run in group.runs[:-1])]
    assert group.runs[-1].stop == len(group.rows)
    for problem, at in zip(group.problems, group.at, strict=True):
        assert np.array_equal(group.rows[at], problem.rows)
    held = np.full(len(group.rows), -1)
    held[group.at[group.problems.index(wide)]] = wide.split.argmax(axis=1)
    assert [len(set(held[run])) for run in group.runs] == [1] * FOLDS


def test_rows_stay_as_they_are_where_runs_would_be_short():
    problem = draw_problem(np.random.default_rng(1), 200)
    (group,) = group_problems([problem], own_rows=0)
    assert group.runs == (slice(0, 200),)
    assert np.array_equal(group.rows, problem.rows)


def make_batch(loss, n_classes, *, in_runs, rounded=None, seed=0):
    """A system for each of five folds; with runs, the rows of a fold are neighbours."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(N, D)).astype(np.float32)) * 3
    signal = x @ torch.from_numpy(rng.normal(size=(D, max(n_classes, 2))).astype(np.float32))
    noise = torch.from_numpy(rng.gumbel(size=signal.shape).astype(np.float32))
    outcomes = torch.nn.functional.one_hot((signal + noise).argmax(dim=1))[:, -n_classes:]
    fold = torch.arange(N) * FOLDS // N
    masks = fold[:, None] != torch.arange(FOLDS)
    runs = None
    if in_runs:
        rows = tuple(slice(k * N // FOLDS, (k + 1) * N // FOLDS) for k in range(FOLDS))
        runs = Runs(rows, torch.stack([masks[run].any(dim=0) for run in rows]))
    quick = round_matrix(x, rounded) if rounded else None
    return Batch(
        Dense(x, None, rounded=quick),
        LOSSES[loss],
        n_classes=n_classes,
        outcomes=outcomes,
        units=torch.zeros(FOLDS, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(FOLDS),
        strength=torch.tensor([0.1, 1.0, 1.0, 1.0, 30.0], dtype=torch.float64),
        scales=None,
        tolerance=1e-6,
        runs=runs,
    )


@pytest.mark.parametrize("rounded", [None, "bfloat16", "int8"])
@pytest.mark.parametrize(("loss", "n_classes"), [("logistic", 1), ("multinomial", 4)])
def test_spans_lead_to_the_same_optimum_by_as_many_products(loss, n_classes, rounded, monkeypatch):
    monkeypatch.setattr(batches, "WORTH_SPANS", 0)
    whole, spans = (
        newton.solve(batch, start_point(batch))
        for batch in (
            make_batch(loss, n_classes, in_runs=in_runs, rounded=rounded)
            for in_runs in (False, True)
        )
    )
    assert spans.converged.all()
    torch.testing.assert_close(
        spans.point.coefficients, whole.point.coefficients, atol=2e-3, rtol=0
    )
    torch.testing.assert_close(spans.point.values, whole.point.values, atol=1e-2, rtol=0)
    assert spans.n_products <= whole.n_products + 5


def test_products_that_steer_leave_out_rows_that_are_not_trained_on(monkeypatch):
    monkeypatch.setattr(batches, "WORTH_SPANS", 0)
    batch = make_batch("multinomial", 4, in_runs=True)
    assert [len(span.systems) for span in batch.spans] == [FOLDS - 1] * FOLDS
    weights = torch.rand(N, batch.n_columns)
    some = batch.take(torch.tensor([1, 4]))
    for part in (batch, some):
        cells = sum((s.rows.stop - s.rows.start) * len(s.columns) for s in part.spans)
        assert cells == int(part.mask(slice(None)).sum()) * 4
        for span in part.spans:
            taken = span.take(weights[:, : part.n_columns])
            assert taken.shape == (N, len(span.systems) * 4)


def test_few_numbers_are_multiplied_in_one_span():
    assert [span.columns for span in make_batch("logistic", 1, in_runs=True).spans] == [None]


@settings(deadline=None)
@given(
    n_rows=st.integers(0, 50_000), n_columns=st.integers(0, 5000), itemsize=st.sampled_from([4, 8])
)
def test_blocks_of_rows_follow_each_other_and_are_alike_in_size(n_rows, n_columns, itemsize):
    blocks = list(row_blocks(n_rows, n_columns, itemsize))
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(n_rows))
    sizes = [block.stop - block.start for block in blocks]
    assert all(size <= 8192 for size in sizes)
    if sizes:
        assert max(sizes) - min(sizes) < len(sizes)

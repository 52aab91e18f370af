"""Rows are put together by the folds that hold them out, and no subproblem passes over its own."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from declared import read_probe, read_protocol
from hypothesis import given, settings
from hypothesis import strategies as st
from products import split

from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings, groups, lbfgs
from genebench.probes.linear.adapter import solve_problems
from genebench.probes.linear.batch import Batch, RowSegments, initial_parameters
from genebench.probes.linear.groups import group_problems
from genebench.probes.linear.objective import evaluate, predict
from genebench.probes.linear.operators import DenseMatrix, row_blocks
from genebench.probes.linear.sparse_operator import SparseMatrix

N, D, FOLDS = 600, 8, 5


def draw_problem(rng, n, names=("a", "b")):
    folds = rng.permutation(np.arange(n) % FOLDS)
    split = np.where(folds[:, None] == np.arange(FOLDS), TEST, TRAIN).astype(np.int8)
    targets = rng.integers(0, 2, (n, len(names)))
    rows = np.sort(rng.permutation(2 * n)[:n])[:, None]
    return Problem(f"p{n}", "multilabel", rows, targets, names, split)


def test_rows_that_a_fold_holds_out_are_neighbours_and_every_sample_finds_its_own(monkeypatch):
    monkeypatch.setattr(groups, "MIN_SEGMENT_ROWS", 20)
    rng = np.random.default_rng(0)
    wide, narrow = draw_problem(rng, 200), draw_problem(rng, 200, names=("c",))
    narrow = replace(narrow, rows=wide.rows)
    (group,) = group_problems([narrow, wide], float64_rows=0)
    assert [run.start for run in group.row_segments] == [
        0,
        *(run.stop for run in group.row_segments[:-1]),
    ]
    assert group.row_segments[-1].stop == len(group.rows)
    assert np.array_equal(group.rows, wide.rows[group.order])
    held = wide.split.argmax(axis=1)[group.order]
    assert [len(set(held[run])) for run in group.row_segments] == [1] * FOLDS


def test_rows_stay_as_they_are_where_runs_would_be_short():
    problem = draw_problem(np.random.default_rng(1), 200)
    (group,) = group_problems([problem], float64_rows=0)
    assert group.row_segments == (slice(0, 200),)
    assert np.array_equal(group.rows, problem.rows)


def make_batch(loss, n_classes, *, in_runs, seed=0):
    """A subproblem for each of five folds; with row_segments, the rows of a fold are neighbours."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(N, D)).astype(np.float32)) * 3
    signal = x @ torch.from_numpy(rng.normal(size=(D, max(n_classes, 2))).astype(np.float32))
    noise = torch.from_numpy(rng.gumbel(size=signal.shape).astype(np.float32))
    fold = torch.arange(N) * FOLDS // N
    masks = fold[:, None] != torch.arange(FOLDS)
    bounds = [k * N // FOLDS for k in range(FOLDS + 1)] if in_runs else [0, N]
    return Batch(
        DenseMatrix(x, None),
        loss,
        n_classes=n_classes,
        all_targets=(signal + noise).argmax(dim=1)[:, None],
        target_columns=torch.zeros(FOLDS, dtype=torch.int64),
        masks=masks,
        folds=torch.arange(FOLDS),
        penalty_strength=torch.tensor([0.1, 1.0, 1.0, 1.0, 30.0], dtype=torch.float64),
        penalty_weights=None,
        tolerance=1e-6,
        row_segments=RowSegments.of(tuple(slice(*pair) for pair in pairwise(bounds)), masks),
    )


@pytest.mark.parametrize(("loss", "n_classes"), [("logistic", 1), ("multinomial", 4)])
def test_parts_lead_to_the_same_optimum_by_as_many_steps(loss, n_classes):
    batches = [make_batch(loss, n_classes, in_runs=in_runs) for in_runs in (False, True)]
    whole, parts = (lbfgs.solve(batch, initial_parameters(batch)) for batch in batches)
    assert parts.converged.all()
    torch.testing.assert_close(parts.parameters, whole.parameters, atol=2e-3, rtol=0)
    assert (parts.n_steps <= whole.n_steps + 5).all()


def test_blocks_leave_out_what_is_held_out_and_need_no_mask():
    batch = make_batch("multinomial", 4, in_runs=True)
    seen = torch.zeros(N, FOLDS, dtype=torch.int64)
    for block in batch.blocks():
        seen[block.rows, block.subproblems] += 1
        assert block.columns == slice(4 * block.subproblems.start, 4 * block.subproblems.stop)
        assert batch.mask(block, batch.targets(block)) is None
    assert torch.equal(seen.bool(), batch.masks)
    assert seen.max() == 1
    (run,) = make_batch("multinomial", 4, in_runs=False).runs
    assert run.subproblems == slice(0, FOLDS)
    assert not run.is_trained


@settings(deadline=None, max_examples=40)
@given(in_runs=st.booleans(), keep=st.sets(st.integers(0, FOLDS - 1), min_size=1))
def test_some_subproblems_have_the_values_that_they_have_among_all(in_runs, keep):
    batch, own = make_batch("multinomial", 4, in_runs=in_runs), torch.tensor(sorted(keep))
    columns, part = batch.columns_of(own), batch.take(own)
    torch.manual_seed(0)
    parameters = torch.rand(D + 1, batch.n_columns)
    taken = predict(batch, parameters)[:, columns]
    again = predict(part, parameters[:, columns])
    for block in part.blocks():
        at = block.rows, block.columns
        torch.testing.assert_close(taken[at], again[at])
    among, alone = evaluate(batch, parameters), evaluate(part, parameters[:, columns])
    torch.testing.assert_close(among.objective[own], alone.objective)
    torch.testing.assert_close(among.gradient[:, columns], alone.gradient, rtol=1e-4, atol=1e-3)


def test_products_there_and_back_by_part_are_those_with_the_rows_trained_on():
    batch = make_batch("multinomial", 4, in_runs=True)
    design, x = batch.design, batch.design.coordinates
    torch.manual_seed(0)
    parameters = torch.rand(D + 1, batch.n_columns)
    projected, sums = design.project(parameters), design.zeros(batch.n_columns)
    moved = x @ parameters[:-1] + parameters[-1]
    kept = moved * batch.masks.repeat_interleave(4, dim=1)
    for block in batch.blocks():
        wanted = moved[block.rows, block.columns]
        found = design.rows(projected, block.rows, block.columns)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
        design.collect(sums, block.rows, wanted.clone(), block.columns)
    found, over_rows = split(design.finish(sums))
    near = 1e-6 * float(kept.norm())
    torch.testing.assert_close(found, x.T @ kept, atol=near, rtol=1e-5)
    torch.testing.assert_close(over_rows, kept.sum(dim=0), atol=near, rtol=1e-5)


@pytest.mark.parametrize("c", [(1.0,), (0.01, 1.0)], ids=["one C", "a path"])
@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_rows_told_apart_by_who_trains_on_them_give_the_same_scores(kind, c, monkeypatch):
    """The whole way, with a second problem of other folds that shares the group."""
    rng = np.random.default_rng(5)
    wide, narrow = draw_problem(rng, 400), draw_problem(rng, 400, names=("c",))
    if kind == "multiclass":
        codes, names = wide.targets.sum(axis=1), ("x", "y", "z")
        wide = Problem("wide", kind, wide.rows, codes, names, wide.split)
    narrow = replace(narrow, id="narrow", rows=wide.rows)
    matrix = 4 * rng.normal(size=(800, 12)).astype(np.float32)
    protocol = read_protocol("paper")
    penalty = protocol.penalty.model_copy(update={"c": c})
    protocol = protocol.model_copy(update={"penalty": penalty})
    probe, how = read_probe("linear"), SolverSettings(float64_rows=0)

    def solve(least_rows):
        monkeypatch.setattr(groups, "MIN_SEGMENT_ROWS", least_rows)
        outputs = solve_problems(matrix, [wide, narrow], probe, protocol, how)
        return {output.problem_id: output for output in outputs}

    apart, together = solve(20), solve(1 << 40)
    assert set(apart) == {wide.id, narrow.id}
    for name, output in apart.items():
        for fold, other in zip(output.folds, together[name].folds, strict=True):
            assert np.array_equal(fold.c, other.c)
            np.testing.assert_allclose(fold.scores, other.scores, atol=2e-3)
            assert np.isfinite(fold.scores).all()


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


def test_word_counts_have_the_same_scores_with_and_without_segments(monkeypatch):
    rng = np.random.default_rng(6)
    matrix = rng.poisson(0.03, size=(800, 60)).astype(np.float32)
    problem = draw_problem(rng, 400)
    used, real = [], lbfgs.solve_in_threads

    def solve(batch, start):
        used.append((type(batch.design), len(batch.row_segments.rows) > 1))
        return real(batch, start)

    monkeypatch.setattr(lbfgs, "solve_in_threads", solve)
    scores = []
    for least in (20, 1 << 40):
        monkeypatch.setattr(groups, "MIN_SEGMENT_ROWS", least)
        settings = SolverSettings(float64_rows=0)
        (output,) = solve_problems(
            matrix, [problem], read_probe("linear"), read_protocol("paper"), settings
        )
        scores.append(np.concatenate([fold.scores for fold in output.folds]))
    assert used == [(SparseMatrix, True), (SparseMatrix, False)]
    np.testing.assert_allclose(*scores, atol=2e-3)

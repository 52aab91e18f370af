"""Groups of problems that are solved at once have the results of groups solved in turn."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from declared import read_probe, read_protocol

from genebench.cancellation import cancelled_by, raise_if_cancelled
from genebench.probes.declaration import TEST, TRAIN, Problem
from genebench.probes.linear import SolverSettings
from genebench.probes.linear import group_solver as solver
from genebench.probes.linear.adapter import solve_problems
from genebench.probes.linear.group_solver import count_at_once, divide_groups
from genebench.probes.linear.groups import group_problems
from genebench.threads import solve_at_once, use_threads

LINEAR = read_probe("linear")
# Two groups of this size are large enough to be solved at once.
N, WIDTH = 1200, 1024
# What one share takes: copies of the matrix and of the rows of a group, and as much for columns.
SHARE = 2 * solver.MATRIX_COPIES * 4 * (N + N) * WIDTH


def make_problems(rng):
    """Two large groups with different rows, and two small ones."""
    for number, n in enumerate([N, N - 100, 60, 50]):
        rows = rng.permutation(N)[:n]
        targets = (rng.random((n, 3)) < 0.3).astype(np.uint8)
        split = np.where(np.arange(n)[:, None] % 3 == np.arange(3), TEST, TRAIN).astype(np.int8)
        yield Problem(f"p{number}", "multilabel", rows[:, None], targets, ("a", "b", "c"), split)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(N, WIDTH)).astype(np.float32)
    return matrix, list(make_problems(rng))


def run(world, protocol, threads, progress=lambda _: None, **changes):
    matrix, problems = world
    settings = SolverSettings(**changes)
    found = solve_problems(matrix, problems, LINEAR, protocol, settings, progress)
    return {one.problem_id: one for one in use_threads(threads, found)}


@pytest.mark.parametrize("protocol", ["paper", "standard"])
def test_groups_solved_at_once_have_the_scores_of_groups_solved_in_turn(world, protocol):
    shares = divide_groups(list(group_problems(world[1], 1000)), WIDTH)
    assert [[len(group.rows) for group in share] for share in shares] == [[60, 50], [N], [N - 100]]
    in_turn = run(world, read_protocol(protocol), 1)
    at_once = run(world, read_protocol(protocol), 3)
    assert in_turn.keys() == at_once.keys()
    for name, one in in_turn.items():
        for fold, other in zip(one.folds, at_once[name].folds, strict=True):
            assert (fold.c == other.c).all()
            np.testing.assert_allclose(fold.scores, other.scores, rtol=1e-3, atol=1e-4)


def test_progress_is_reported_to_the_thread_that_waits(world):
    where, done = set(), []

    def progress(n_fits):
        where.add(threading.get_ident())
        done.append(n_fits)

    run(world, read_protocol("paper"), 3, progress)
    assert where == {threading.get_ident()}
    assert sum(done) == sum(problem.n_folds * 3 for problem in world[1])


def test_a_failed_group_does_not_end_the_others(world, monkeypatch):
    take = solver.FoldFitter.fit_all

    def fail(self, targets):
        if len(self.group.rows) == N:
            raise MemoryError("no more")
        take(self, targets)

    monkeypatch.setattr(solver.FoldFitter, "fit_all", fail)
    found = run(world, read_protocol("paper"), 3)
    assert {name for name, one in found.items() if one.failure} == {"p0"}
    assert "out of memory" in found["p0"].failure


def test_an_error_stops_the_other_threads():
    started, stopped = threading.Barrier(2), threading.Event()

    def solve(name, _):
        # A third share can begin between the error and the end of the others.
        if name != "third":
            started.wait(120)
        if name == "wrong":
            raise ZeroDivisionError(name)
        try:
            while True:
                raise_if_cancelled()
        finally:
            stopped.set()

    with pytest.raises(ZeroDivisionError, match="wrong"):
        list(solve_at_once([["wrong"], ["endless"], ["third"]], solve, 2, lambda _: None))
    assert stopped.is_set()


def test_a_reader_that_leaves_stops_the_threads():
    n_begun = []

    def solve(number, _):
        n_begun.append(number)
        if number:
            while True:
                raise_if_cancelled()
        return [number]

    results = solve_at_once([[number] for number in range(50)], solve, 2, lambda _: None)
    assert next(results) == 0
    results.close()
    assert len(n_begun) <= 3


def test_an_event_cancels_the_work_of_its_own_thread_only():
    stop = threading.Event()
    stop.set()
    with cancelled_by(stop), pytest.raises(KeyboardInterrupt):
        raise_if_cancelled()
    raise_if_cancelled()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3),
        ({"memory_bytes": 2 * SHARE}, 2),
        ({"memory_bytes": 2 * SHARE - 1}, 1),
        ({"memory_bytes": 1}, 1),
        ({"device": "cuda"}, 1),
    ],
)
def test_as_many_groups_are_solved_at_once_as_memory_and_threads_allow(world, changes, expected):
    matrix, problems = world
    groups = list(group_problems(problems, 1000))

    def count():
        yield count_at_once(groups, matrix, replace(SolverSettings(), **changes))

    assert list(use_threads(8, count())) == [expected]
    assert list(use_threads(1, count())) == [1]


def test_the_vectors_of_pairs_take_no_memory_of_their_own(world):
    matrix, problems = world
    rows = np.random.default_rng(0).integers(0, N, (100 * N, 2))
    split = np.full((len(rows), 1), TRAIN, np.int8)
    pairs = Problem("pairs", "binary", rows, np.zeros(len(rows), np.uint8), ("yes",), split)
    groups = list(group_problems([*problems, pairs], 1000))

    def count():
        yield count_at_once(groups, matrix, SolverSettings(memory_bytes=2 * SHARE))

    assert list(use_threads(8, count())) == [2]

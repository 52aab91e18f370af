"""Many writers of one lake at once, with and without the writer lock."""

import shutil

import pytest
from faults.lakes import find_faults, lost_and_doubled
from faults.verbs import run_at_once


def write_at_once(verb, n_writers, before, copied, stages, row, *, has_lock):
    folder = copied(before)
    ended = run_at_once(verb, folder, n_writers, has_lock=has_lock)
    assert [(one.code, one.error) for one in ended] == [(0, "")] * n_writers
    assert find_faults(folder) == []
    n_lost, n_doubled = lost_and_doubled(folder, stages(verb))
    row.add(n_lost, n_doubled, n=n_writers)
    assert (n_lost, n_doubled) == (0, 0)
    shutil.rmtree(folder)


@pytest.mark.soak
def test_two_writers_without_the_lock_score_at_once(copied, stages, ledger):
    row = ledger("writers at once, without the lock")
    write_at_once("score", 2, "embed", copied, stages, row, has_lock=False)


@pytest.mark.soak
@pytest.mark.parametrize("has_lock", [True, False])
@pytest.mark.parametrize(
    ("verb", "before"), [("refresh", "start"), ("curate", "refresh"), ("score", "embed")]
)
def test_eight_writers_at_once_lose_nothing(copied, stages, ledger, verb, before, has_lock):
    row = ledger(f"8 writers at once, {'with' if has_lock else 'without'} the lock")
    write_at_once(verb, 8, before, copied, stages, row, has_lock=has_lock)

"""A run that is killed at any of its commits loses nothing, doubles nothing, and goes on."""

import os
import random
import shutil
import signal
import time

import pytest
from faults.lakes import find_faults, lost_and_doubled
from faults.verbs import UNTIDY, VERBS, Kill, run, start

# Every how manyth commit is killed at.
STEP = int(os.environ.get("FAULT_STEP", "1"))
N_RANDOM = int(os.environ.get("FAULT_RANDOM", "15"))
BEFORE = dict(zip(VERBS, ("start", *VERBS), strict=False)) | {"tidy": UNTIDY}


def run_again(verb, folder, stages, row):
    """Run a verb that was stopped once more, and count what the lake lacks or has twice."""
    # A tidying that is stopped may leave a table that takes deletions; it mends that itself.
    mended = {"`genebench tidy --apply`"} if verb == "tidy" else set()
    assert {one.mend for one in find_faults(folder)} <= mended
    again = run(verb, folder)
    assert again.code == 0, again.error
    assert find_faults(folder) == []
    n_lost, n_doubled = lost_and_doubled(folder, stages(verb))
    row.add(
        n_lost,
        n_doubled,
        n_executed=len(again.programs),
        n_outside=len(again.outside),
        megabytes=again.megabytes,
    )
    assert (n_lost, n_doubled) == (0, 0)
    assert (again.programs, again.outside) == ((), ())
    shutil.rmtree(folder)


def kill_at(verb, number, is_after, copied, stages, row):
    folder = copied(BEFORE[verb])
    ended = run(verb, folder, Kill(number, is_after))
    assert ended.code == -signal.SIGKILL, ended.error
    run_again(verb, folder, stages, row)


def test_a_curation_that_is_killed_between_its_tables_goes_on(copied, stages, ledger):
    kill_at("curate", 12, True, copied, stages, ledger("SIGKILL at a commit of curate"))


@pytest.mark.soak
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_killed_before_or_after_any_of_its_commits_goes_on(
    copied, stages, ledger, verb, is_after
):
    row = ledger(f"SIGKILL at a commit of {verb}")
    folder = copied(BEFORE[verb])
    n_commits = run(verb, folder).n_commits
    shutil.rmtree(folder)
    for number in range(1, n_commits + 1, STEP):
        kill_at(verb, number, is_after, copied, stages, row)


@pytest.mark.soak
@pytest.mark.parametrize("word", ["SIGKILL", "SIGTERM"])
def test_a_verb_that_is_stopped_at_a_random_time_goes_on(copied, stages, ledger, word):
    row = ledger(f"{word} at a random time")
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    for _ in range(N_RANDOM):
        verb = draw.choice(VERBS[:-1])
        folder = copied(BEFORE[verb])
        process = start(verb, folder)
        time.sleep(draw.uniform(0.5, 6))
        if process.is_alive():
            os.kill(process.pid, getattr(signal, word))
        process.join(600)
        assert process.exitcode is not None, f"seed {seed}"
        run_again(verb, folder, stages, row)


@pytest.mark.soak
def test_a_verb_that_is_stopped_and_continued_goes_on(copied, stages, ledger):
    row = ledger("SIGSTOP and SIGCONT of a writer")
    for verb in ("embed", "score"):
        folder = copied(BEFORE[verb])
        process = start(verb, folder)
        time.sleep(2)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(process.pid, signal.SIGCONT)
        process.join(600)
        assert process.exitcode == 0
        run_again(verb, folder, stages, row)

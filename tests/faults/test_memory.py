"""A process that gets no more memory."""

import shutil

import pytest
from faults.lakes import find_faults, lost_and_doubled
from faults.verbs import TYPED, run

# A library that gets no memory may wait for threads that it cannot start, and never ends.
PATIENCE_SECONDS = 60
# pyarrow's error is a MemoryError too.
OF_MEMORY = (
    *("builtins.MemoryError", "pyarrow.lib.ArrowMemoryError"),
    "builtins.RuntimeError: can't start new thread",
    "pyo3_runtime.PanicException: OS can't spawn worker thread",
)


def run_short_of_memory(verb, before, megabytes, copied, stages, ledger):
    row = ledger("out of memory")
    folder = copied(before)
    ended = run(verb, folder, megabytes=megabytes, patience=PATIENCE_SECONDS)
    # Libraries that get no memory end the process by a signal; so does our patience.
    is_typed = ended.code <= 0 or ended.error.startswith((*TYPED, *OF_MEMORY))
    assert find_faults(folder) == []
    again = run(verb, folder)
    assert again.code == 0, again.error
    assert find_faults(folder) == []
    n_lost, n_doubled = lost_and_doubled(folder, stages(verb))
    row.add(n_lost, n_doubled, int(not is_typed), megabytes=ended.megabytes)
    assert is_typed, ended.error
    assert (n_lost, n_doubled) == (0, 0)
    shutil.rmtree(folder)
    return ended


@pytest.mark.soak
def test_a_scoring_run_that_gets_no_memory_ends_and_leaves_a_lake_that_goes_on(
    copied, stages, ledger
):
    ended = run_short_of_memory("score", "embed", 300, copied, stages, ledger)
    assert ended.code != 0, "the memory was enough"


@pytest.mark.soak
@pytest.mark.parametrize("megabytes", [100, 200, 400, 700, 1000, 1500])
@pytest.mark.parametrize(
    ("verb", "before"),
    [("refresh", "start"), ("curate", "refresh"), ("embed", "curate"), ("score", "embed")],
)
def test_a_verb_that_gets_no_more_memory_anywhere_ends_and_leaves_a_lake_that_goes_on(
    copied, stages, ledger, verb, before, megabytes
):
    run_short_of_memory(verb, before, megabytes, copied, stages, ledger)

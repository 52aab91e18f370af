"""A worker and the server killed in the middle of a run."""

import pytest
from local_stacks import LocalStack, keys, results, until
from world import build_world

from lakehouse import open_lake


@pytest.mark.soak
def test_killing_worker_and_server_midway_costs_nothing_but_time(stack, crash, weekly):
    until(lambda: stack.state(crash)["type"] == "COMPLETED", 300, stack.tail)
    # Its process is found to be gone when the stack starts again; nobody has to run it again.
    states = stack.ask("GET", f"/flow_run_states/?flow_run_id={crash}")
    assert "its process is gone: run again" in {state["message"] for state in states}
    lake = stack.folder / "crashed"
    assert open_lake(lake).table("gold.evaluations").collect()["run_id"].n_unique() == 2
    assert keys(lake) == keys(stack.lake, "biological")
    assert results(lake).equals(results(stack.lake, "biological"))


@pytest.fixture
def small(tmp_path):
    """A stack of its own, whose runs no other test counts."""
    build_world(tmp_path / "sources")
    one = LocalStack(tmp_path, tmp_path / "sources")
    try:
        one.up()
        yield one
    finally:
        one.run("down")


@pytest.mark.soak
def test_a_run_that_a_killed_worker_was_about_to_start_is_run_when_the_stack_starts_again(small):
    run = small.submit("refresh")
    until(lambda: small.state(run)["name"] == "Submitting", 60, small.tail)
    doomed = small.workers()
    for process in doomed:
        process.kill()
    for process in doomed:
        process.wait(120)
    assert small.state(run)["type"] == "PENDING"
    small.up()
    assert small.wait(run, 120)["type"] == "COMPLETED"

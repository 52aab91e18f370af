"""One local stack for all tests of deployments, because starting one takes longer than a test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_stacks import CHAIN, ENCODERS, ENDED, LocalStack, keys, until
from world import build_world


@pytest.fixture(scope="session", autouse=True)
def _database(database) -> None:
    """Servers of these tests start from a copy of one database."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[LocalStack]:
    """A running stack over a miniature world; its deployments embed two quick encoders."""
    folder: Path = tmp_path_factory.mktemp("stack")
    build_world(folder / "sources")
    one = LocalStack(folder, folder / "sources")
    try:
        one.up()
        yield one
    finally:
        one.run("down")


@pytest.fixture(scope="session")
def crash(stack) -> str:
    """A run of benchmark whose worker was killed midway, and the server too; both are up again.

    The locks of the killed run are released after a minute: request this fixture early.
    """
    lake = stack.folder / "crashed"
    run = stack.submit("benchmark", lake=lake, encoders=ENCODERS, families=["biological"])
    until(lambda: keys(lake), 300, stack.tail)
    doomed = [*stack.workers(), stack.server()]
    for process in doomed:
        process.kill()
    for process in doomed:
        process.wait(30)
    stack.up()
    return run


@pytest.fixture(scope="session")
def chain(stack) -> list[dict[str, Any]]:
    """The runs of a scheduled refresh and of the flows that it triggered, in the stack's lake."""
    stack.schedule_refresh()
    until(lambda: {run["deployment"] for run in ended(stack)} >= {*CHAIN}, 400, stack.tail)
    until(lambda: ended(stack) == chain_runs(stack), 400, stack.tail)
    return ended(stack)


def chain_runs(stack: LocalStack) -> list[dict[str, Any]]:
    return [run for run in stack.runs() if run["deployment"] in CHAIN]


def ended(stack: LocalStack) -> list[dict[str, Any]]:
    return [run for run in chain_runs(stack) if run["state_type"] in ENDED]

"""One local stack for all tests of deployments, because starting one takes longer than a test."""

import fcntl
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from local_stacks import ENCODERS, FAMILIES, LocalStack, keys, until
from places import Place
from world import World, build_world

from genebench.settings import get_settings


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
        process.wait(120)
    stack.up()
    return run


@dataclass(frozen=True)
class WeeklyRun:
    """A run of benchmark that was cancelled midway, and the weekly run that did the rest.

    Attributes:
        cancelled: The id of the cancelled run.
        before: The keys of the evaluations that it left.
        run: The weekly run, after its end.
    """

    cancelled: str
    before: list[str]
    run: dict[str, Any]


def scheduled_runs(stack: LocalStack) -> list[str]:
    return [run["id"] for run in stack.runs("benchmark") if run["auto_scheduled"]]


@pytest.fixture(scope="session")
def weekly(stack) -> WeeklyRun:
    """The weekly run of the stack's lake, after a run that was cancelled."""
    first = stack.submit("benchmark", encoders=ENCODERS, families=FAMILIES)
    until(lambda: stack.state(first)["name"] == "Running", 300, stack.tail)
    time.sleep(random.uniform(0, 5))
    stack.ask("POST", f"/flow_runs/{first}/set_state", {"state": {"type": "CANCELLING"}})
    stack.wait(first)
    before = keys(stack.lake)
    stack.schedule_benchmark()
    until(lambda: scheduled_runs(stack), 120, stack.tail)
    (second,) = scheduled_runs(stack)
    stack.wait(second)
    return WeeklyRun(first, before, stack.ask("GET", f"/flow_runs/{second}"))


@pytest.fixture(scope="session")
def curated_folder(tmp_path_factory, worker_id, prefect) -> Path:
    """A folder with a miniature world and its curated lake, made once for all workers.

    Tests copy it (`copy_of`) and change nothing in it.
    """
    from flows.curate import curate
    from flows.refresh import refresh

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "curated"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("ab") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            # What a worker that was stopped has left.
            shutil.rmtree(folder / "lake", ignore_errors=True)
            build_world(folder / "sources")
            Place(folder / "lake", folder / "sources", patch).enter()
            refresh()
            curate()
            (folder / "done").touch()
    get_settings.cache_clear()
    return folder


@pytest.fixture(scope="session")
def paper_lake(tmp_path_factory, prefect) -> tuple[Path, World, Any]:
    """A folder with a world and its curated lake of the paper's profile.

    Also the world, and the account of its curate flow. Tests copy the folder and change nothing.
    """
    from flows.curate import curate
    from flows.refresh import fetch_and_commit
    from flows.run.context import open_context

    folder: Path = tmp_path_factory.mktemp("paper")
    world = build_world(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        Place(folder / "lake", folder / "sources", patch, extra={"PROFILE": "paper"}).enter()
        # As the refresh flow does, without a task run for each of the 22 files.
        context = open_context()
        for file_id in context.registry.source_files:
            fetch_and_commit(context, file_id)
        account = curate()
    get_settings.cache_clear()
    return folder, world, account


@pytest.fixture
def copy_of(tmp_path, place_of) -> Callable[[Path], tuple[Place, World]]:
    """Copy a folder with a world and its lake, and enter the copy."""

    def copy(folder: Path) -> tuple[Place, World]:
        for name in ("sources", "lake"):
            shutil.copytree(folder / name, tmp_path / name)
        world = build_world(tmp_path / "sources")
        return place_of(tmp_path / "lake", tmp_path / "sources"), world

    return copy


@pytest.fixture(scope="session")
def ordinary(tmp_path_factory, curated_folder) -> Path:
    """The lake of an undisturbed run of two encoders on the miniature world, in this process."""
    from flows.embed import embed
    from flows.score import score

    folder = tmp_path_factory.mktemp("ordinary")
    shutil.copytree(curated_folder / "lake", folder / "lake")
    with pytest.MonkeyPatch.context() as patch:
        Place(folder / "lake", curated_folder / "sources", patch).enter()
        embed(ENCODERS)
        score(ENCODERS, families=["genomic"])
    get_settings.cache_clear()
    return folder / "lake"

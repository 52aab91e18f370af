"""One site for the tests of deployments: starting one takes longer than most of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import CHAIN, ENCODERS, ENDED, Site, keys, until
from world import build_world


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """A running site over a miniature world; its deployments embed two quick encoders."""
    folder: Path = tmp_path_factory.mktemp("site")
    build_world(folder / "sources")
    one = Site(folder, folder / "sources")
    try:
        one.up()
        yield one
    finally:
        one.run("down")


@pytest.fixture(scope="session")
def crash(site) -> str:
    """A run of benchmark whose worker was killed midway, and the server too; both are up again.

    The turns that the killed run held fall free after a minute: ask for it early.
    """
    lake = site.folder / "crashed"
    run = site.submit("benchmark", lake=lake, encoders=ENCODERS)
    until(lambda: keys(lake), 300, site.tail)
    doomed = [*site.workers(), site.server()]
    for process in doomed:
        process.kill()
    for process in doomed:
        process.wait(30)
    site.up()
    return run


@pytest.fixture(scope="session")
def chain(site) -> list[dict[str, Any]]:
    """The runs of a scheduled refresh and of what followed it by itself, in the site's lake."""
    site.schedule_refresh()
    until(lambda: {run["deployment"] for run in ended(site)} >= {*CHAIN}, 400, site.tail)
    until(lambda: ended(site) == chain_runs(site), 400, site.tail)
    return ended(site)


def chain_runs(site: Site) -> list[dict[str, Any]]:
    return [run for run in site.runs() if run["deployment"] in CHAIN]


def ended(site: Site) -> list[dict[str, Any]]:
    return [run for run in chain_runs(site) if run["state_type"] in ENDED]

"""One site for the tests of deployments: starting one takes longer than most of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Site
from world import build_world

ENCODERS = ["bag_of_words", "random"]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[Site]:
    """A running site over a miniature world; its deployments embed two quick encoders."""
    folder: Path = tmp_path_factory.mktemp("site")
    build_world(folder / "sources")
    one = Site(folder, folder / "sources")
    try:
        one.run("up")
        embed = one.deployment("embed")
        one.ask("PATCH", f"/deployments/{embed['id']}", {"parameters": {"encoders": ENCODERS}})
        yield one
    finally:
        one.run("down")

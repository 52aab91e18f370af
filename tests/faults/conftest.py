"""Lakes as each verb leaves them."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.verbs import ALL, run
from world import build_world


@pytest.fixture(scope="session")
def stages(tmp_path_factory) -> Callable[[str], Path]:
    """Folders with the lake that each verb leaves, and one without a lake, `start`."""
    base = tmp_path_factory.mktemp("stages")
    build_world(base / "sources")
    for name in ("start", ALL):
        (base / name).mkdir()
    ended = run(ALL, base / ALL)
    assert ended.code == 0, ended.error
    return lambda verb: base / verb


@pytest.fixture
def copied(stages, tmp_path_factory) -> Callable[[str], Path]:
    """Copies of the lakes that the verbs leave, for tests that change them."""

    def copy(verb: str) -> Path:
        before = stages(verb)
        return Path(shutil.copytree(before, before.parent / f"copy_{uuid.uuid4().hex[:8]}"))

    return copy

"""Lakes as each verb leaves them, and how tests of faults are spread over workers."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.verbs import ALL, run
from world import build_world
from xdist.scheduler import WorkStealingScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> WorkStealingScheduling:
    """Let every worker run any test, as the long form needs it.

    pytest knows of this only if this folder is named on its command line: the long tests are worth
    the lakes that each worker then builds. Otherwise one worker runs this folder.
    """
    return WorkStealingScheduling(config, log)


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


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Valid inputs of all readers, by name."""
    from faults.inputs import all_inputs

    return all_inputs(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def copied(stages, tmp_path_factory) -> Callable[[str], Path]:
    """Copies of the lakes that the verbs leave, for tests that change them."""

    def copy(verb: str) -> Path:
        before = stages(verb)
        return Path(shutil.copytree(before, before.parent / f"copy_{uuid.uuid4().hex[:8]}"))

    return copy

"""Lakes as each verb leaves them, and the table of what the fault tests counted."""

import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.verbs import ALL, run
from world import build_world

_LEDGER: dict[str, "Row"] = {}


@dataclass
class Row:
    """One row of the table: a kind of fault and what it did."""

    n_faults: int = 0
    n_lost: int = 0
    n_doubled: int = 0
    n_untyped: int = 0
    worst_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, n_lost: int = 0, n_doubled: int = 0, n_untyped: int = 0, n: int = 1) -> None:
        """Count faults with their outcome, and the time since the last."""
        now = time.monotonic()
        self.n_faults += n
        self.n_lost += n_lost
        self.n_doubled += n_doubled
        self.n_untyped += n_untyped
        self.worst_seconds = max(self.worst_seconds, (now - self.started) / n)
        self.started = now


@pytest.fixture
def ledger() -> Callable[[str], Row]:
    """The row of the table for a kind of fault."""

    def find(kind: str) -> Row:
        row = _LEDGER.setdefault(kind, Row())
        row.started = time.monotonic()
        return row

    return find


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table of faults."""
    if not _LEDGER:
        return
    write = terminalreporter.write_line
    write("")
    write("| fault | injected | rows lost | rows doubled | untyped errors | worst time (s) |")
    write("|---|---|---|---|---|---|")
    for kind, row in _LEDGER.items():
        counts = (row.n_faults, row.n_lost, row.n_doubled, row.n_untyped)
        numbers = " | ".join(f"{n:,}" for n in counts)
        write(f"| {kind} | {numbers} | {row.worst_seconds:.2g} |")


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

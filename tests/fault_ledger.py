"""The table of what the fault tests planted and counted, as a plugin of pytest.

Each worker of pytest-xdist counts its own rows and hands them over when it ends. The rows of a
worker that crashes are lost; the test at which it crashed fails.
"""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import pytest

COLUMNS = (
    "fault",
    "planted",
    "rows lost",
    "rows doubled",
    "untyped errors",
    "code executed",
    "writes outside",
    "largest memory (MB)",
    "worst time (s)",
)


@dataclass
class Row:
    """One row of the table: a kind of fault and what it did.

    The memory is that of the largest process that was told, or of this one; the time is that of one
    fault with all that is done and compared after it.
    """

    n_faults: int = 0
    n_lost: int = 0
    n_doubled: int = 0
    n_untyped: int = 0
    n_executed: int = 0
    n_outside: int = 0
    megabytes: float = 0.0
    worst_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(
        self,
        n_lost: int = 0,
        n_doubled: int = 0,
        n_untyped: int = 0,
        n_executed: int = 0,
        n_outside: int = 0,
        megabytes: float = 0.0,
        n: int = 1,
    ) -> None:
        """Count faults with their outcome, and the time since the last."""
        now = time.monotonic()
        self.n_faults += n
        self.n_lost += n_lost
        self.n_doubled += n_doubled
        self.n_untyped += n_untyped
        self.n_executed += n_executed
        self.n_outside += n_outside
        used = megabytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.megabytes = max(self.megabytes, used)
        self.worst_seconds = max(self.worst_seconds, (now - self.started) / max(n, 1))
        self.started = now

    def merge(self, other: "Row") -> None:
        """Add the counts of another row; memory and time are those of the larger."""
        self.n_faults += other.n_faults
        self.n_lost += other.n_lost
        self.n_doubled += other.n_doubled
        self.n_untyped += other.n_untyped
        self.n_executed += other.n_executed
        self.n_outside += other.n_outside
        self.megabytes = max(self.megabytes, other.megabytes)
        self.worst_seconds = max(self.worst_seconds, other.worst_seconds)

    def cells(self) -> tuple[str, ...]:
        """The cells of the row, without the first."""
        counts = (self.n_faults, self.n_lost, self.n_doubled)
        more = (self.n_untyped, self.n_executed, self.n_outside, round(self.megabytes))
        return (*(f"{n:,}" for n in (*counts, *more)), f"{self.worst_seconds:.2g}")


class Ledger:
    """The rows of the table, by kind of fault."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def __call__(self, kind: str) -> Row:
        """The row for a kind of fault; the time of its first fault begins now."""
        row = self.rows.setdefault(kind, Row())
        row.started = time.monotonic()
        return row

    def dump(self) -> dict[str, dict[str, float]]:
        """The rows as plain numbers, which a worker can send."""
        return {kind: asdict(row) for kind, row in self.rows.items()}

    def merge(self, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Add the rows that a worker dumped."""
        for kind, values in rows.items():
            self.rows.setdefault(kind, Row()).merge(Row(**values))

    def write(self, write_line: Callable[[str], object]) -> None:
        """Write the table, with a row of totals, as Markdown; nothing if nothing was planted."""
        if not self.rows:
            return
        total = Row()
        for row in self.rows.values():
            total.merge(row)
        write_line("")
        for cells in (COLUMNS, ("---",) * len(COLUMNS)):
            write_line(f"| {' | '.join(cells)} |")
        for kind, row in [*sorted(self.rows.items()), ("all", total)]:
            write_line(f"| {kind} | {' | '.join(row.cells())} |")


LEDGER = Ledger()


@pytest.fixture
def ledger() -> Ledger:
    """The table of the faults that are planted; called with a kind of fault, it gives its row."""
    return LEDGER


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the rows of a worker over."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["faults"] = LEDGER.dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take the rows of a worker that has ended."""
    LEDGER.merge(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    LEDGER.write(terminalreporter.write_line)

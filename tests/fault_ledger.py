"""The table of what the fault tests planted and counted."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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

    def write(self, write_line: Callable[[str], object]) -> None:
        """Write the table, with a row of totals, as Markdown; nothing if nothing was planted."""
        if not self.rows:
            return
        total = Row()
        for row in self.rows.values():
            total.n_faults += row.n_faults
            total.n_lost += row.n_lost
            total.n_doubled += row.n_doubled
            total.n_untyped += row.n_untyped
            total.n_executed += row.n_executed
            total.n_outside += row.n_outside
            total.megabytes = max(total.megabytes, row.megabytes)
            total.worst_seconds = max(total.worst_seconds, row.worst_seconds)
        write_line("")
        for cells in (COLUMNS, ("---",) * len(COLUMNS)):
            write_line(f"| {' | '.join(cells)} |")
        for kind, row in {**self.rows, "all": total}.items():
            write_line(f"| {kind} | {' | '.join(row.cells())} |")


LEDGER = Ledger()

"""Progress in a terminal, a log and the UI: Prefect 3.8.8 shows it as an artifact only."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_logger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from genebench.cancellation import raise_if_cancelled

if TYPE_CHECKING:
    import logging

    from prefect.logging.loggers import LoggingAdapter

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_ARTIFACTS = 3.0


@contextmanager
def track(description: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show the progress of one piece of work.

    Args:
        description: The work, for people.
        total: The number of steps.
        unit: The name of a step, in plural.

    Yields:
        A function to call with the number of steps done since the last call. It raises
        KeyboardInterrupt if the process has been asked to stop (`genebench.cancellation`).
    """
    report = _ProgressReport(description, total, unit)
    is_terminal = sys.stderr.isatty()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not is_terminal,
        # A finished bar disappears: the command prints what was done.
        transient=True,
    ) as bar:
        line = bar.add_task(description, total=total)

        def advance(n: int) -> None:
            raise_if_cancelled()
            bar.advance(line, n)
            report.advance(n, is_silent=is_terminal)

        yield advance
    report.finish(is_silent=is_terminal)


class _ProgressReport:
    """Writes log lines and the progress artifact, at most every few seconds."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.started = self.last_line = self.last_artifact = time.monotonic()
        self.artifact: UUID | None = None

    def advance(self, n: int, *, is_silent: bool) -> None:
        self.done += n
        now = time.monotonic()
        if not is_silent and now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            _logger().info(self._line(now))
        if now - self.last_artifact > SECONDS_BETWEEN_ARTIFACTS:
            self.last_artifact = now
            self._show()

    def finish(self, *, is_silent: bool) -> None:
        now = time.monotonic()
        if not is_silent:
            _logger().info(self._line(now))
        if self.artifact is not None:
            self._show()

    def _line(self, now: float) -> str:
        elapsed = max(now - self.started, 1e-9)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate else 0.0
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        tail = f", {left:.0f} s left" if self.done < self.total else f" in {elapsed:.1f} s"
        return f"{self.description}: {self.done:,} of {self.total:,} {self.unit} ({speed}/s{tail})"

    def _show(self) -> None:
        """Create or update the progress artifact; does nothing outside of a flow or task run."""
        if FlowRunContext.get() is None and TaskRunContext.get() is None:
            return
        percent = 100.0 * self.done / max(self.total, 1)
        try:
            if self.artifact is None:
                made = create_progress_artifact(progress=percent, description=self.description)
                self.artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(artifact_id=self.artifact, progress=percent)
        # The client raises errors of several libraries; none may end the work it reports on.
        except Exception as error:  # noqa: BLE001
            _logger().warning("the progress of %s was not saved: %s", self.description, error)


def _logger() -> "logging.Logger | LoggingAdapter":
    return get_logger("genebench.progress")

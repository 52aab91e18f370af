"""Runs flows from the command line: starts the Prefect server, handles signals, filters logs."""

import importlib
import logging
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from genebench.cancellation import raise_if_cancelled, received_signal, watch_signals
from genebench.errors import GenebenchError

# Progress lines of a benchmark that runs for longer than this, in a log file or a pipe.
SECONDS_BETWEEN_LINES = 60.0


class BriefLogFilter(logging.Filter):
    """Reduces the log in the terminal to a line a stage: for `genebench benchmark`.

    Data warnings are counted instead of printed; a progress line is printed once a minute.

    Attributes:
        n_data_warnings: The number of data warnings so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_data_warnings = 0
        self._last_line = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is printed in the terminal."""
        if record.name.endswith("genebench.data"):
            self.n_data_warnings += 1
            return False
        if record.name.endswith("genebench.progress"):
            now = time.monotonic()
            if now - self._last_line < SECONDS_BETWEEN_LINES:
                return False
            self._last_line = now
        return True


def run_flows(verb: Callable[[], Any], brief: BriefLogFilter | None = None) -> Any:
    """Call a function that runs flows, with a Prefect server and a quiet terminal.

    Args:
        verb: Runs flows.
        brief: Also filters the log records that are printed in the terminal.

    Raises:
        SystemExit: The process received SIGINT (Ctrl-C), SIGTERM or SIGHUP.
    """
    watch_signals()
    number: int
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A signal that is ignored, such as SIGHUP under nohup, stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        try:
            return _run_with_server(verb, brief)
        finally:
            # The exception of the signal may have been swallowed or replaced by another error.
            raise_if_cancelled()
    except KeyboardInterrupt:
        number = received_signal() or signal.SIGINT
        if number == signal.SIGINT:
            print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise SystemExit(128 + number) from None


def _end(number: int, _frame: FrameType | None) -> None:
    """Raise SystemExit, so that the server started by this process is stopped too."""
    raise SystemExit(128 + number)


def _run_with_server(verb: Callable[[], Any], brief: BriefLogFilter | None) -> Any:
    from flows.server.local_server import prefect_api

    with prefect_api(preload=("flows.benchmark",)):
        from prefect.exceptions import ParameterTypeError
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.server.logs import flush_prefect, quiet_prefect

        quiet_prefect(*([brief] if brief else []))
        _restore_ctrl_c()
        # Heartbeats are for runs of workers; they cost a second a flow.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            try:
                return verb()
            except ParameterTypeError as error:
                raise GenebenchError(str(error)) from None
            finally:
                flush_prefect()


def _restore_ctrl_c() -> None:
    """Set Python's own handler of Ctrl-C again, so that it interrupts waits for threads.

    polars sets another handler when it is imported, which restarts system calls after a signal.
    """
    importlib.import_module("polars")
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

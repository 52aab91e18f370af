"""Runs flows from the command line: Prefect server, signals and quiet logs."""

import importlib
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from genebench.cancellation import raise_if_cancelled, received_signal, watch_signals
from genebench.errors import GenebenchError


def run_flows(verb: Callable[[], Any]) -> Any:
    """Run flows under a Prefect server, and let them be quiet about it.

    Raises:
        SystemExit: A person pressed Ctrl-C, the process was asked to end, or its terminal closed.
    """
    watch_signals()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Who ignores it, as nohup does, goes on ignoring it.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        try:
            return _run_flows(verb)
        finally:
            # What the signal raised may have been lost, or have become an error of something else.
            raise_if_cancelled()
    except KeyboardInterrupt:
        number = received_signal() or signal.SIGINT
        if number == signal.SIGINT:
            print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise SystemExit(128 + number) from None


def _end(number: int, _frame: FrameType | None) -> None:
    """End as by an error: a process that just dies leaves the server that it started behind."""
    raise SystemExit(128 + number)


def _run_flows(verb: Callable[[], Any]) -> Any:
    from flows.server.local_server import prefect_api

    with prefect_api(preload=("flows.benchmark",)):
        from prefect.exceptions import ParameterTypeError
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        from flows.server.logs import flush_prefect, quiet_prefect

        quiet_prefect()
        _hear_ctrl_c()
        # Nobody watches the heartbeat of a run that a person started, and it costs a second a flow.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            try:
                return verb()
            except ParameterTypeError as error:
                raise GenebenchError(str(error)) from None
            finally:
                flush_prefect()


def _hear_ctrl_c() -> None:
    """Let Ctrl-C end waits for threads, which it does not once polars has set its own handler.

    polars does so as it is imported, and has system calls restarted after a signal.
    """
    importlib.import_module("polars")
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

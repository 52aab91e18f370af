"""Which log records reach the terminal: Prefect 3.8.8 filters by level, not by who logs."""

import logging
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogHandler, PrefectConsoleHandler

FLUSH_SECONDS = 10.0


class PackageLogFilter(logging.Filter):
    """Passes the records of `flows`, and warnings of other packages without a traceback.

    Two warnings of Prefect are left out. Its task runners warn of deadlocks because of the number
    of a task's tags; tasks are submitted in the order of their dependencies, so none waits for one
    that comes later. Its internal services warn that they are still sending logs and events.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is printed in the terminal."""
        is_internal = "_internal" in Path(record.pathname).parts
        if is_internal or record.name.startswith("prefect.task_runner."):
            return False
        if Path(record.pathname).is_relative_to(Path(__file__).parents[1]):
            return True
        return record.levelno == logging.WARNING and not record.exc_info


LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.server")


class PlainFormatter(logging.Formatter):
    """Formats a record as its message, without time and logger; warnings are marked as such."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text to print."""
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def quiet_prefect(*filters: logging.Filter) -> None:
    """Keep the log records of Prefect runs out of the terminal; the server stores them.

    Errors are also raised to the command, which prints them once, without a traceback.

    Args:
        filters: More filters of what is printed in the terminal.
    """
    # Prefect sets up its handlers once per process. Doing it now keeps the filters on them.
    setup_logging()
    # Its services for logs and events print each record that they could not send, at any level.
    for handler in logging.getLogger("prefect._internal").handlers:
        handler.setLevel(logging.CRITICAL)
    for handler in _handlers():
        if isinstance(handler, PrefectConsoleHandler):
            handler.setFormatter(PlainFormatter("%(message)s"))
            for one in (PackageLogFilter(), *filters):
                handler.addFilter(one)


def flush_prefect() -> None:
    """Send buffered log records and events to the server before it stops."""
    for handler in _handlers():
        if isinstance(handler, APILogHandler):
            handler.flush()
    EventsWorker.drain_all(timeout=FLUSH_SECONDS)


def _handlers() -> set[logging.Handler]:
    return {handler for name in LOGGERS for handler in logging.getLogger(name).handlers}

"""What Prefect logs: all of it to its server, little of it to a terminal."""

import logging
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogHandler, PrefectConsoleHandler

FLUSH_SECONDS = 10.0


class OwnRecords(logging.Filter):
    """Lets through what this package logs, and warnings of others that carry no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is for the person at the terminal."""
        if Path(record.pathname).is_relative_to(Path(__file__).parents[1]):
            return True
        return record.levelno == logging.WARNING and not record.exc_info


LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.server")


def quiet_prefect() -> None:
    """Keep Prefect's account of every run in its server, and out of the terminal.

    Errors are raised to the command too, which prints them once and without a traceback.
    """
    # Prefect sets up its handlers once a process: now, so that a filter put on them stays.
    setup_logging()
    for handler in _handlers():
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(OwnRecords())


def flush_prefect() -> None:
    """Send what logs and events are still on their way, before the server stops."""
    for handler in _handlers():
        if isinstance(handler, APILogHandler):
            handler.flush()
    EventsWorker.drain_all(timeout=FLUSH_SECONDS)


def _handlers() -> set[logging.Handler]:
    return {handler for name in LOGGERS for handler in logging.getLogger(name).handlers}

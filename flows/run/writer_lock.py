"""Writer lock of a lake in a run: a limit of Prefect 3.8.8 ends at its server, a lake does not.

The lock belongs to the lake (`lakehouse.tables.lake_lock`), so it works across commands, folders,
workers and Prefect servers. A run that waits has the state `WaitingForLake`. It is held until the
threads and local Dask workers of the run have ended. Readers need no lock, because a Delta reader
always sees one complete version.
"""

import functools
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import prefect.runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.logging import get_logger

from genebench.cancellation import raise_if_cancelled
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.tables.lake_lock import POLL_SECONDS, open_lock
from lakehouse.upkeep.backup import refuse_unfinished_restore

WAITING = "WaitingForLake"

P = ParamSpec("P")
R = TypeVar("R")


def with_writer_lock(body: Callable[P, R]) -> Callable[P, R]:
    """Decorate the function of a flow so that it runs while it holds the writer lock of its lake.

    A run with `dry_run=True` writes nothing and takes no lock.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return call_with_lock(body, args, kwargs)

    return run


def call_with_lock(body: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Call the function of a flow, holding the writer lock unless it writes nothing."""
    raise_if_cancelled()
    given = inspect.signature(body).bind(*args, **kwargs).arguments
    if given.get("dry_run"):
        return body(*args, **kwargs)
    with hold_writer_lock():
        try:
            return body(*args, **kwargs)
        finally:
            _end_tasks()


def _end_tasks() -> None:
    """End the task runner of the flow run: its threads may still commit after the function ended.

    Prefect ends it once more, when the lock is released already, and finds nothing to do.
    """
    context = FlowRunContext.get()
    if context is not None:
        context.task_runner.__exit__(*sys.exc_info())


@contextmanager
def hold_writer_lock() -> Iterator[None]:
    """Hold the writer lock of the current lake; wait while another run holds it.

    Raises:
        LakeError: The lake cannot be written to, or is restored in part.
    """
    storage = open_lake().delta.storage
    refuse_unfinished_restore(storage)
    lock = open_lock(storage)
    must_wait = not lock.try_acquire()
    if must_wait:
        _report_waiting(lock.holder())
        while not lock.try_acquire():
            raise_if_cancelled()
            time.sleep(POLL_SECONDS)
    try:
        if must_wait:
            _name_state("Running", f"holds the writer lock of the lake {get_settings().lake}")
        yield
    finally:
        lock.release()


def _report_waiting(holder: str) -> None:
    lake = get_settings().lake
    get_logger("genebench.writer_lock").info(
        "waiting: another run is writing to the lake %s (%s)", lake, holder
    )
    _name_state(WAITING, f"another run is writing to {lake} ({holder})")


def _name_state(name: str, message: str) -> None:
    """Set the name and message of the current flow run's state; its type stays RUNNING."""
    run_id = prefect.runtime.flow_run.id
    if run_id is None:
        return
    state: State[Any] = State(type=StateType.RUNNING, name=name, message=message)
    with get_client(sync_client=True) as client:
        # Without force: a run that is being cancelled stays in that state, and keeps the slot of
        # its deployment's concurrency limit.
        client.set_flow_run_state(run_id, state)

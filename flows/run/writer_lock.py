"""The writer lock of a lake: one flow run writes at a time, the others wait.

The lock is a global concurrency limit of the Prefect server, so it works across the commands,
workers and machines that use the same server. A run that waits has the state `WaitingForLake`.
Readers need no lock, because a Delta reader always sees one complete version.

The lock of a killed run is released when its lease expires, or earlier by the next command that
is the only user of the local server (`flows.server.local_server`).
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import prefect.runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_logger

from genebench.cancellation import raise_if_cancelled
from genebench.digest import digest_json
from genebench.settings import get_settings
from lakehouse import open_lake

WAITING = "WaitingForLake"
# The lock of a killed run is released after this time. A live holder renews the lease.
LEASE_SECONDS = 60.0

_holds_lock: ContextVar[bool] = ContextVar("holds_lock", default=False)
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
    """Call the function of a flow, holding the writer lock where that is needed.

    This is not part of `with_writer_lock`, because its wrapper is pickled by value for Dask workers
    and a context variable cannot be pickled.
    """
    raise_if_cancelled()
    given = inspect.signature(body).bind(*args, **kwargs).arguments
    if _holds_lock.get() or given.get("dry_run"):
        return body(*args, **kwargs)
    with hold_writer_lock():
        return body(*args, **kwargs)


def limit_name() -> str:
    """Return the name of the concurrency limit of the current lake."""
    storage = open_lake().delta.storage
    # Several paths may lead to one lake, for example through symbolic links.
    root = str(Path(storage.root).resolve()) if storage.is_local else storage.root
    folder = root.rstrip("/").rpartition("/")[2]
    cleaned = "".join(letter for letter in folder if letter.isalnum() or letter in "_-")[:40]
    return f"writer of {cleaned or 'lake'} {digest_json([root])[:8]}"


@contextmanager
def hold_writer_lock() -> Iterator[None]:
    """Hold the writer lock of the current lake; wait while another run holds it."""
    name = limit_name()
    must_wait = _is_taken(name)
    if must_wait:
        _report_waiting(name)
    with concurrency(name, occupy=1, lease_duration=LEASE_SECONDS, strict=True):
        if must_wait:
            _name_state("Running", f"holds the writer lock of the lake {get_settings().lake}")
        token = _holds_lock.set(True)
        try:
            yield
        finally:
            _holds_lock.reset(token)


def _is_taken(name: str) -> bool:
    """Whether a run holds the lock. Creates the concurrency limit if it does not exist."""
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.upsert_global_concurrency_limit_by_name(name, 1)
        return client.read_global_concurrency_limit_by_name(name).active_slots > 0


def _report_waiting(name: str) -> None:
    lake = get_settings().lake
    get_logger("genebench.writer_lock").info(
        "waiting: another run is writing to the lake %s (limit %r)", lake, name
    )
    _name_state(WAITING, f"another run is writing to {lake}")


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

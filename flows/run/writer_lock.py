"""One writer at a time: the turn that a flow run takes before it changes a lake.

Reading needs no turn; Delta gives every reader a whole version. Runs that wait show it by their
state's name. Turns are a concurrency limit of the Prefect server, so they hold between commands,
workers and machines that use the same server; a killed holder's turn falls free by itself, or when
the next command finds itself alone with a server of its own (`flows.server.local_server`).
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import prefect.runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_logger
from prefect.states import State

from genebench.cancellation import raise_if_cancelled
from genebench.digest import digest_json
from genebench.settings import get_settings
from lakehouse import open_lake

WAITING = "WaitingForLake"
# How long the turn of a killed run stays taken; the holder renews it all the while.
LEASE_SECONDS = 60.0

_has_turn: ContextVar[bool] = ContextVar("has_turn", default=False)
Body = TypeVar("Body", bound=Callable[..., Any])


def one_writer(body: Body) -> Body:
    """Let a flow run only while no other writes to the same lake; sub-flows share the turn.

    A run that computes nothing (`dry_run`) takes none.
    """

    @functools.wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        return run_in_turn(body, args, kwargs)

    return run  # type: ignore[return-value]


def run_in_turn(body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a flow's body in its turn.

    Apart from the wrapper above, which travels to Dask's workers by value: a context variable
    cannot.
    """
    raise_if_cancelled()
    given = inspect.signature(body).bind(*args, **kwargs).arguments
    if _has_turn.get() or given.get("dry_run"):
        return body(*args, **kwargs)
    with take_turn():
        return body(*args, **kwargs)


def limit_name() -> str:
    """The name of the concurrency limit of the lake at hand."""
    storage = open_lake().delta.storage
    # A lake may be reached by several paths, by links for one.
    root = str(Path(storage.root).resolve()) if storage.is_local else storage.root
    folder = root.rstrip("/").rpartition("/")[2]
    kept = "".join(letter for letter in folder if letter.isalnum() or letter in "_-")[:40]
    return f"writer of {kept or 'lake'} {digest_json([root])[:8]}"


@contextmanager
def take_turn() -> Iterator[None]:
    """Hold the turn of the lake at hand."""
    name = limit_name()
    is_late = _is_taken(name)
    if is_late:
        _tell_waiting(name)
    with concurrency(name, occupy=1, lease_duration=LEASE_SECONDS, strict=True):
        if is_late:
            _tell_state("Running", f"has the turn of the lake {get_settings().lake}")
        token = _has_turn.set(True)
        try:
            yield
        finally:
            _has_turn.reset(token)


def _is_taken(name: str) -> bool:
    """Whether somebody holds the turn; makes the limit where it does not exist yet."""
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.upsert_global_concurrency_limit_by_name(name, 1)
        return client.read_global_concurrency_limit_by_name(name).active_slots > 0


def _tell_waiting(name: str) -> None:
    lake = get_settings().lake
    get_logger("genebench.turns").info(
        "waiting: another run is writing to the lake %s (limit %r)", lake, name
    )
    _tell_state(WAITING, f"another run is writing to {lake}")


def _tell_state(name: str, message: str) -> None:
    """Name the state of the flow run at hand, which is running all the while."""
    run_id = prefect.runtime.flow_run.id
    if run_id is None:
        return
    state: State[Any] = State(type=StateType.RUNNING, name=name, message=message)
    with get_client(sync_client=True) as client:
        # Not by force: a run that is being cancelled stays so, and keeps its deployment's turn.
        client.set_flow_run_state(run_id, state)

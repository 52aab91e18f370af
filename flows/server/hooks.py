"""What runs tell Prefect's server of themselves that it would not know: hooks of every flow."""

import socket
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import State

from flows.server.processes import Started, this_process

ENDED = "genebench.flow-run.ended"
PROCESS = "process"


def tell_scheduled(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Emit the first event of a run that a schedule made.

    The server emits none (Prefect 3.8.8). Where such a run starts within five minutes of being
    made, its other events are said to follow the one that never comes, and are held back from
    automations for fifteen minutes: the next verb of the chain would begin as late.
    """
    if not run.auto_scheduled:
        return
    with get_client(sync_client=True) as client:
        first = min(client.read_flow_run_states(run.id), key=lambda one: one.timestamp)
    # The id of the state is what the run's next event names as the one before it.
    emit_event(f"prefect.flow-run.{first.name}", resource=_resource(run), id=first.id)


def tell_ended(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Emit `ENDED` of a run that came to its end."""
    emit_ended(run)


def emit_ended(run: FlowRun) -> None:
    """Emit `ENDED`: after it no heartbeat of the run is missed.

    An event apart from those that triggers of the chain wait for. A server that finds SQLite locked
    at one trigger hears the whole event again, at the triggers that have fired too (Prefect 3.8.8):
    no event must concern two.
    """
    emit_event(ENDED, resource=_resource(run))


def _resource(run: FlowRun) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": run.name,
    }


def tell_process(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Label a run with its process, so that `find_process` can tell whether it is gone."""
    process = this_process(PROCESS)
    labels = {
        f"{PROCESS}.host": socket.gethostname(),
        f"{PROCESS}.pid": process.pid,
        f"{PROCESS}.started_at": process.started_at,
    }
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run.id, labels)


def find_process(run: FlowRun) -> Started | None:
    """The process of a run, dead or alive; none where it is another machine's, or has not begun."""
    labels = run.labels
    if labels.get(f"{PROCESS}.host") != socket.gethostname():
        return None
    return Started(PROCESS, int(labels[f"{PROCESS}.pid"]), float(labels[f"{PROCESS}.started_at"]))


HOOKS: dict[str, Any] = {
    "on_running": [tell_scheduled, tell_process],
    "on_completion": [tell_ended],
    "on_failure": [tell_ended],
    "on_crashed": [tell_ended],
}

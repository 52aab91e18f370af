"""Flow hooks for recovery: Prefect 3.8.8 records the process of runs that a worker started only.

`flows.server.provision` defines the automations that use the events, and reads the labels.
"""

import socket
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from flows.server.processes import RecordedProcess, current_process

ENDED = "genebench.flow-run.ended"
STALE = "genebench.source.stale"
PROCESS = "process"


def emit_ended_event(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Emit `ENDED` when a run completes, fails or crashes."""
    emit_ended(run)


def emit_ended(run: FlowRun) -> None:
    """Emit `ENDED`, after which the heartbeat automation no longer watches the run.

    This is a separate event, because no event may match two triggers: if SQLite is locked while the
    server evaluates one trigger, the server evaluates the event again for all triggers, also for
    those that have fired (Prefect 3.8.8).
    """
    emit_event(ENDED, resource=_resource(run))


def emit_stale(source: str, version: str, age_days: int, fresh_within_days: int) -> None:
    """Emit `STALE`: a source of the lake is older than it declares.

    `deployments/automations/stale-source.yaml` is an automation that acts on it.
    """
    emit_event(
        STALE,
        resource={
            "prefect.resource.id": f"genebench.source.{source}",
            "genebench.version": version,
        },
        payload={"age_days": age_days, "fresh_within_days": fresh_within_days},
    )


def _resource(run: FlowRun) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": run.name,
    }


def label_process(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Label a run with its host and process, which `find_process` reads."""
    process = current_process(PROCESS)
    labels: dict[str, bool | int | float | str] = {
        f"{PROCESS}.host": socket.gethostname(),
        f"{PROCESS}.pid": process.pid,
        f"{PROCESS}.started_at": process.started_at,
    }
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run.id, labels)


def find_process(run: FlowRun) -> RecordedProcess | None:
    """Return the process of a run, dead or alive.

    None if the run has not started, or runs on another machine.
    """
    labels = run.labels
    if labels.get(f"{PROCESS}.host") != socket.gethostname():
        return None
    return RecordedProcess(
        PROCESS, int(labels[f"{PROCESS}.pid"]), float(labels[f"{PROCESS}.started_at"])
    )


HOOKS: dict[str, Any] = {
    "on_running": [label_process],
    "on_completion": [emit_ended_event],
    "on_failure": [emit_ended_event],
    "on_crashed": [emit_ended_event],
}

"""Events that Prefect's server leaves out, and automations wait for."""

from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import State


def tell_scheduled(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Emit the first event of a run that a schedule made; a hook of every flow.

    The server emits none (Prefect 3.8.8). Where such a run starts within five minutes of being
    made, its other events are said to follow the one that never comes, and are held back from
    automations for fifteen minutes: the next verb of the chain would begin as late.
    """
    if not run.auto_scheduled:
        return
    with get_client(sync_client=True) as client:
        first = min(client.read_flow_run_states(run.id), key=lambda one: one.timestamp)
    # The id of the state is what the run's next event names as the one before it.
    emit_event(
        f"prefect.flow-run.{first.name}",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{run.id}",
            "prefect.resource.name": run.name,
        },
        id=first.id,
    )

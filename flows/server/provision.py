"""Work pools, limits and automations by one call: a prefect.yaml of Prefect 3.8.8 declares none.

    python -m flows.server.provision            for the server of PREFECT_API_URL

Existing objects are found by name and updated, so running it again changes nothing.
"""

import argparse
import datetime as dt
from collections.abc import Collection
from contextlib import suppress
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists

from flows.server.hooks import ENDED, emit_ended, find_process

POOLS = {
    "default": "Flows that need no GPU",
    "gpu": "Encoders, on a machine with a GPU",
}
RUNS_AT_ONCE = 4
HEARTBEAT_SECONDS = 30
# Three heartbeats. A run that misses all of them has crashed.
HEARTBEAT_TIMEOUT = dt.timedelta(seconds=90)
N_RERUNS = 2
RUN = {"prefect.resource.id": "prefect.flow-run.*"}
HEARTBEAT = "prefect.flow-run.heartbeat"
CANCELLING = "prefect.flow-run.Cancelling"
AWAITING_RETRY = "AwaitingRetry"


def provision_server(gpus: int, heartbeat_timeout: dt.timedelta = HEARTBEAT_TIMEOUT) -> None:
    """Create or update the work pools, concurrency limits and automations of a server.

    Args:
        gpus: The number of encoders that may use a GPU at once, on all machines together.
        heartbeat_timeout: Time without a heartbeat after which a run counts as crashed.
    """
    with get_client(sync_client=True) as client:
        _set_up_pools(client)
        # Task runs tagged gpu wait for a slot of this limit; the server enforces it.
        client.upsert_global_concurrency_limit_by_name("tag:gpu", gpus)
    for automation in automations(heartbeat_timeout):
        _create_or_update(automation)


def _set_up_pools(client: SyncPrefectClient) -> None:
    for name, description in POOLS.items():
        # The limit belongs to the pool: a worker with a limit of its own crashes if a run is
        # scheduled again while the worker still counts its first attempt (Prefect 3.8.8).
        pool = WorkPoolCreate(
            name=name, type="process", description=description, concurrency_limit=RUNS_AT_ONCE
        )
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(pool)


def recover_lost_runs(lost_workers: Collection[str] = ()) -> None:
    """Recover the flow runs of this machine whose process or worker no longer exists.

    Runs of deployments are scheduled again, other runs are set to crashed. The heartbeat automation
    would find runs that had started minutes later.

    Args:
        lost_workers: Names of this machine's workers that are not running. Their pending runs have
            never sent a heartbeat, so the automation cannot find them.
    """
    with get_client(sync_client=True) as client:
        pending = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=pending)):
            if run.labels.get("prefect.worker.name") in lost_workers:
                _schedule_again(client, run, "its worker is gone: run again")
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running)):
            process = find_process(run)
            if process is None or process.is_alive:
                continue
            if run.deployment_id is not None and run.run_count <= N_RERUNS:
                _schedule_again(client, run, "its process is gone: run again")
            else:
                state: State[Any] = State(
                    type=StateType.CRASHED, message="the process of this run is gone"
                )
                client.set_flow_run_state(run.id, state, force=True)
            emit_ended(run)


def _schedule_again(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    state: State[Any] = State(type=StateType.SCHEDULED, name=AWAITING_RETRY, message=message)
    client.set_flow_run_state(run.id, state, force=True)


def automations(heartbeat_timeout: dt.timedelta = HEARTBEAT_TIMEOUT) -> list[Automation]:
    """Return the automations: mark runs without a heartbeat as crashed, run crashed runs again."""
    has_no_heartbeat = EventTrigger(
        match=RUN,
        for_each={"prefect.resource.id"},
        after={HEARTBEAT},
        # A cancelled run is killed and emits no `ENDED`; it must not be run again.
        expect={HEARTBEAT, ENDED, CANCELLING},
        posture=Posture.Proactive,
        threshold=1,
        within=heartbeat_timeout,
    )
    # Only runs of deployments, because no worker picks up a run that a person started by hand; and
    # only runs that had started, because a run that cannot start would be tried for ever.
    has_crashed = EventTrigger(
        match={**RUN, "prefect.run-count": [str(n + 1) for n in range(N_RERUNS)]},
        match_related={
            "prefect.resource.role": "deployment",
            "prefect.resource.id": "prefect.deployment.*",
        },
        expect={"prefect.flow-run.Crashed"},
        posture=Posture.Reactive,
        threshold=1,
    )
    return [
        Automation(
            name="a run without heartbeat has crashed",
            description=f"No heartbeat for {heartbeat_timeout.total_seconds():.0f} s.",
            trigger=has_no_heartbeat,
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message="no heartbeat: the process of this run is gone",
                )
            ],
        ),
        Automation(
            name="a crashed run is run again",
            description=f"At most {N_RERUNS} times. The run resumes where it stopped.",
            trigger=has_crashed,
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name=AWAITING_RETRY,
                    message="run again after a crash",
                    force=True,
                )
            ],
        ),
    ]


def _create_or_update(automation: Automation) -> None:
    """Create an automation, or update it if it differs.

    An update resets the events that the server remembers for it, so an automation that is the same
    must not be updated: a run that lost its heartbeat before would stay unnoticed.
    """
    try:
        # Prefect types its sync methods as coroutines too; outside of an event loop they are not.
        found = cast("Automation", Automation.read(name=automation.name))
    except ValueError:
        automation.create()
        return
    if _without_ids(found) != _without_ids(automation):
        automation.id = found.id
        automation.update()


def _without_ids(automation: Automation) -> dict[str, Any]:
    """Return the fields of an automation without ids, in a comparable order."""
    fields = automation.model_dump(mode="json", exclude={"id"})
    fields["trigger"] = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in fields["trigger"].items()
        if key != "id"
    }
    return fields


def main() -> None:
    """Parse the arguments and set up the server."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--gpus", type=int, default=1, help="number of encoders that may use a GPU at once"
    )
    provision_server(parser.parse_args().gpus)


if __name__ == "__main__":
    main()

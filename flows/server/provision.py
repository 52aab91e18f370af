"""What a Prefect server must know before it can run the deployments: pools, limits, automations.

    python -m flows.server.provision            against the server of PREFECT_API_URL

Everything is found by name and updated, so doing it again changes nothing.
"""

import argparse
import datetime as dt
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import State

from flows.server.hooks import ENDED, emit_ended, find_process

POOLS = {
    "default": "Everything that needs no GPU",
    "gpu": "Encoders; on a machine with a GPU",
}
RUNS_AT_ONCE = 4
HEARTBEAT_SECONDS = 30
# Three heartbeats: a run that missed them all is gone, not slow.
SILENCE = dt.timedelta(seconds=90)
N_RERUNS = 2
RUN = {"prefect.resource.id": "prefect.flow-run.*"}
HEARTBEAT = "prefect.flow-run.heartbeat"
CANCELLING = "prefect.flow-run.Cancelling"
AGAIN = "AwaitingRetry"


def set_up(gpus: int, silence: dt.timedelta = SILENCE) -> None:
    """Make the server what the deployments expect.

    Args:
        gpus: Encoders that may use a GPU at once, on all machines together.
        silence: How long after its last heartbeat a run counts as crashed.
    """
    with get_client(sync_client=True) as client:
        _set_up_pools(client)
        # A task run tagged gpu waits for a slot of this limit, visibly and without a worker's help.
        client.upsert_global_concurrency_limit_by_name("tag:gpu", gpus)
    for automation in automations(silence):
        _put(automation)


def _set_up_pools(client: SyncPrefectClient) -> None:
    for name, description in POOLS.items():
        # A limit of the pool, not of a worker: a worker that is asked to run a run again while it
        # still counts the run's first try dies of it (Prefect 3.8.8).
        pool = WorkPoolCreate(
            name=name, type="process", description=description, concurrency_limit=RUNS_AT_ONCE
        )
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(pool)


def end_orphans(lost_workers: Collection[str] = ()) -> None:
    """Attend to runs that claim to be at work on this machine and whose process is gone.

    The automations below would find those that had begun by their silence, minutes later; a machine
    that starts again knows at once. Runs of deployments are run again, the others have crashed.

    Args:
        lost_workers: Names of workers of this machine that are gone. What they were about to start
            has never had a heartbeat: nobody else would find it.
    """
    with get_client(sync_client=True) as client:
        pending = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=pending)):
            if run.labels.get("prefect.worker.name") in lost_workers:
                _run_again(client, run, "its worker is gone: run again")
        running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running)):
            process = find_process(run)
            if process is None or process.is_alive:
                continue
            if run.deployment_id is not None and run.run_count <= N_RERUNS:
                _run_again(client, run, "its process is gone: run again")
            else:
                state: State[Any] = State(
                    type=StateType.CRASHED, message="the process of this run is gone"
                )
                client.set_flow_run_state(run.id, state, force=True)
            emit_ended(run)


def _run_again(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    state: State[Any] = State(type=StateType.SCHEDULED, name=AGAIN, message=why)
    client.set_flow_run_state(run.id, state, force=True)


def automations(silence: dt.timedelta = SILENCE) -> list[Automation]:
    """What happens by itself to runs that nobody looks after."""
    is_silent = EventTrigger(
        match=RUN,
        for_each={"prefect.resource.id"},
        after={HEARTBEAT},
        # A run that is being cancelled is killed without a word; it must not be run again.
        expect={HEARTBEAT, ENDED, CANCELLING},
        posture=Posture.Proactive,
        threshold=1,
        within=silence,
    )
    # Only runs of deployments: no worker would take up one that a person started by hand. And
    # only those that had begun: what cannot begin at all would be tried for ever.
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
            description=f"Silent for {silence.total_seconds():.0f} s: its process is gone.",
            trigger=is_silent,
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED,
                    message="no heartbeat: the process of this run is gone",
                )
            ],
        ),
        Automation(
            name="a crashed run is run again",
            description=f"At most {N_RERUNS} times; it goes on where it stopped.",
            trigger=has_crashed,
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name=AGAIN,
                    message="run again after a crash",
                    force=True,
                )
            ],
        ),
    ]


def _put(automation: Automation) -> None:
    """Create an automation, or change it where it differs.

    An update starts the automation's memory anew, so a run that went silent before it would never
    be noticed.
    """
    try:
        found = Automation.read(name=automation.name)
    except ValueError:
        automation.create()
        return
    if _meaning(found) != _meaning(automation):
        automation.id = found.id
        automation.update()


def _meaning(automation: Automation) -> dict[str, Any]:
    """What an automation says, without ids."""
    said = automation.model_dump(mode="json", exclude={"id"})
    said["trigger"] = {
        key: sorted(value) if isinstance(value, list) else value
        for key, value in said["trigger"].items()
        if key != "id"
    }
    return said


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--gpus", type=int, default=1, help="encoders on a GPU at once")
    set_up(parser.parse_args().gpus)


if __name__ == "__main__":
    main()

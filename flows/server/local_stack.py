"""A site: one machine's server, deployments and workers, started and stopped together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import flows
from flows.server.local_server import (
    UI_PORT,
    Server,
    find_server,
    is_free,
    keep_server,
    prefect_home,
    stop_server,
)
from flows.server.processes import Started, read_record, start, write_record
from genebench.errors import GenebenchError

PROJECT = Path(flows.__file__).resolve().parents[1]
DEPLOYMENTS = PROJECT / "deployments" / "prefect.yaml"
STOP_SECONDS = 30.0
# Seconds between two looks for work; Prefect's own 10 make a chain of five verbs a minute longer.
QUERY_SECONDS = "2"


def start_site(gpus: int = 1, *, has_workers: bool = True) -> str:
    """Start what is not running, deploy, and say where the UI is.

    Settings of the flows are those of the environment that this is called in.

    Raises:
        GenebenchError: The server does not start, its port is taken, or deploying fails.
    """
    if not DEPLOYMENTS.is_file():
        raise GenebenchError(f"no {DEPLOYMENTS}: run this from a checkout of genebench")
    home = prefect_home()
    port = int(os.environ.get("PREFECT_SERVER_API_PORT", UI_PORT))
    if find_server(home) is None and not is_free(port):
        raise GenebenchError(
            f"port {port} is taken by something else; choose another with PREFECT_SERVER_API_PORT"
        )
    server, _ = keep_server(home, port)
    from flows.server.provision import end_orphans, set_up

    set_up(gpus)
    end_orphans(_lost_workers(home))
    _deploy()
    if has_workers:
        _start_workers(home)
    return (
        f"Prefect is at {server.ui} (log in with the text of {home / 'auth'}); `make down` stops it"
    )


def stop_site() -> str:
    """Stop the workers, with what they run, then the server; say what was stopped."""
    home = prefect_home()
    stopped = []
    for worker in _workers(home):
        if worker.is_alive:
            worker.stop(STOP_SECONDS)
            stopped.append(worker.name)
    (home / "workers.json").unlink(missing_ok=True)
    server = find_server(home)
    if server is not None and server.is_kept:
        stop_server(home)
        stopped.append("server")
    return f"stopped: {', '.join(stopped)}" if stopped else "nothing of it was running"


def running(home: Path) -> tuple[Server | None, list[Started]]:
    """The server and the workers of a site that are alive."""
    return find_server(home), [worker for worker in _workers(home) if worker.is_alive]


def _deploy() -> None:
    words = ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words],
        # Flow runs work where the settings of this call were meant: ./lake is this folder's.
        env={**os.environ, "PWD": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise GenebenchError(f"the deployments could not be made:\n{tail}")


def _start_workers(home: Path) -> None:
    from flows.server.provision import HEARTBEAT_SECONDS, POOLS

    alive = {worker.name: worker for worker in _workers(home) if worker.is_alive}
    settings = {
        "PREFECT_WORKER_QUERY_SECONDS": QUERY_SECONDS,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }
    for pool in POOLS:
        name = _record_name(pool)
        if name in alive:
            continue
        words = ["worker", "start", "--pool", pool, "--name", _worker_name(pool)]
        command = [sys.executable, "-m", "prefect", *words]
        alive[name], _ = start(name, command, settings, home / f"worker-{pool}.log")
    write_record(home / "workers.json", alive)


def _record_name(pool: str) -> str:
    return f"worker {pool}"


def _worker_name(pool: str) -> str:
    """What the server calls this machine's worker of a pool; runs are labelled with it."""
    return f"{socket.gethostname()} {pool}"


def _lost_workers(home: Path) -> list[str]:
    """The names of this machine's workers that do not run."""
    from flows.server.provision import POOLS

    alive = {worker.name for worker in _workers(home) if worker.is_alive}
    return [_worker_name(pool) for pool in POOLS if _record_name(pool) not in alive]


def _workers(home: Path) -> list[Started]:
    record = read_record(home / "workers.json")
    return [Started(**entry) for entry in record.values()]  # type: ignore[arg-type]

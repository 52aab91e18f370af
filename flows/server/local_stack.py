"""Server, deployments and workers at once: Prefect 3.8.8 has a command for each of them alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import deployments
from flows.server.local_server import (
    UI_PORT,
    ensure_server,
    find_server,
    is_free,
    prefect_home,
    recorded_server,
    stop_server,
)
from flows.server.processes import RecordedProcess, read_record, start_process, write_record
from genebench.errors import GenebenchError

DEPLOYMENTS = Path(deployments.__file__).with_name("prefect.yaml").resolve()
STOP_SECONDS = 30.0
# Seconds between two polls for work. Prefect's default of 10 makes five verbs a minute longer.
QUERY_SECONDS = "2"
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def start_stack(gpus: int = 1, *, has_workers: bool = True) -> str:
    """Start the server and workers that are not running, and create the deployments.

    The workers inherit the environment of this call, and with it the settings of the flows.

    Args:
        gpus: The number of encoders that may use a GPU at once.
        has_workers: Whether to start workers too.

    Returns:
        A message with the address of the UI.

    Raises:
        GenebenchError: The server does not start, its port is taken, or deploying fails.
    """
    home = prefect_home()
    port = int(os.environ.get("PREFECT_SERVER_API_PORT", UI_PORT))
    if find_server(home) is None and not is_free(port):
        raise GenebenchError(
            f"port {port} is taken by another program; choose another port, for example "
            f"PREFECT_SERVER_API_PORT={port + 1}"
        )
    server, _ = ensure_server(home, port)
    from flows.server.provision import provision_server, recover_lost_runs

    provision_server(gpus)
    recover_lost_runs(_lost_workers(home))
    _deploy()
    if has_workers:
        _start_workers(home)
    return (
        f"Prefect is at {server.ui} (log in with the text of {home / 'auth'}); "
        f"`genebench down` stops it\n{describe_database()}"
    )


def describe_database() -> str:
    """Say which database a server of this environment uses, and for how many people it is."""
    from prefect.settings import get_current_settings

    # Prefect's own setting, also from a profile or prefect.toml.
    url = get_current_settings().server.database.connection_url
    if url is not None and url.get_secret_value().startswith("postgresql"):
        return f"its database is PostgreSQL, by the setting {DATABASE}"
    return (
        "its database is SQLite, which is for one person; for more, name a PostgreSQL database by "
        f"the setting {DATABASE}=postgresql+asyncpg://user:password@host/name"
    )


def stop_stack() -> str:
    """Stop the workers with their flow runs, then the server; return a message."""
    home = prefect_home()
    stopped = []
    for worker in _workers(home):
        if worker.is_alive:
            worker.stop(STOP_SECONDS)
            stopped.append(worker.name)
    (home / "workers.json").unlink(missing_ok=True)
    server = recorded_server(home)
    if server is not None and server.is_kept:
        stop_server(home)
        stopped.append("server")
    return f"stopped: {', '.join(stopped)}" if stopped else "nothing of it was running"


def _deploy() -> None:
    arguments = ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        # Flow runs use this folder as working directory, so ./lake means the same to them.
        env={**os.environ, "PWD": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise GenebenchError(f"`prefect deploy` failed for {DEPLOYMENTS}:\n{tail}")


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
        arguments = ["worker", "start", "--pool", pool, "--name", _worker_name(pool)]
        command = [sys.executable, "-m", "prefect", *arguments]
        alive[name], _ = start_process(name, command, settings, home / f"worker-{pool}.log")
    write_record(home / "workers.json", alive)


def _record_name(pool: str) -> str:
    return f"worker {pool}"


def _worker_name(pool: str) -> str:
    """Return the name of this machine's worker of a pool. The server labels runs with it."""
    return f"{socket.gethostname()} {pool}"


def _lost_workers(home: Path) -> list[str]:
    """Return the names of this machine's workers that are not running."""
    from flows.server.provision import POOLS

    alive = {worker.name for worker in _workers(home) if worker.is_alive}
    return [_worker_name(pool) for pool in POOLS if _record_name(pool) not in alive]


def _workers(home: Path) -> list[RecordedProcess]:
    record = read_record(home / "workers.json")
    return [RecordedProcess(**entry) for entry in record.values()]

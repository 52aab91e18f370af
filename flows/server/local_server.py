"""The local Prefect server: Prefect 3.8.8 shares none among commands, nor stops it after the last.

A server belongs to a folder, `PREFECT_HOME`. Commands that run at the same time share the server of
the folder. The last command stops the server, unless `make up` started it.
"""

import fcntl
import importlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import httpx

from flows.server.processes import RecordedProcess, read_record, start_process, write_record
from genebench.errors import GenebenchError

HOST = "127.0.0.1"
UI_PORT = 4200
START_SECONDS = 120.0
STOP_SECONDS = 20.0
# How long a server that somebody else started may be too busy to answer.
ANSWER_SECONDS = 15.0
POLL_SECONDS = 0.1
USER = "genebench"
# Leases in memory are lost when the server stops, and their slots stay occupied.
LEASE_STORAGE = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class Server:
    """A recorded Prefect server.

    Attributes:
        url: The address of its API.
        process: Its process.
        is_kept: Whether it keeps running after the last command.
    """

    url: str
    process: RecordedProcess
    is_kept: bool

    @property
    def ui(self) -> str:
        """The address of the Prefect UI."""
        return self.url.removesuffix("/api")


def prefect_home() -> Path:
    """The folder of Prefect's database: `PREFECT_HOME`, or `.prefect` in the working folder."""
    return Path(os.environ.get("PREFECT_HOME", ".prefect")).resolve()


@contextmanager
def prefect_api(preload: Sequence[str] = ()) -> Iterator[str]:
    """Provide a Prefect API for the flows of a command.

    The server of `PREFECT_API_URL` is used if the variable is set. Otherwise the server of
    `PREFECT_HOME` is used, and started on loopback if it is not running. Enter this context before
    Prefect is imported, because Prefect reads its settings once.

    Args:
        preload: Modules to import while the server starts, to save time.

    Yields:
        The address of the API.

    Raises:
        GenebenchError: The server does not start, or `PREFECT_API_URL` does not answer.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        if not is_healthy(named, ANSWER_SECONDS):
            raise GenebenchError(
                f"no Prefect server answers at PREFECT_API_URL={named}; start it with `make up`, "
                "or unset the variable to start a server for this command"
            )
        yield named
        return
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "users.lock").open("ab") as users:
        with _locked(home):
            is_only_user = _is_only_user(users)
            fcntl.flock(users, fcntl.LOCK_SH)
            server = find_server(home) or start_server(home, free_port(), preload=preload)
            os.environ.update(client_settings(home, server.url))
            if is_only_user and not server.is_kept:
                _release_leases(home, server)
        try:
            yield server.url
        finally:
            _stop_if_unused(home, users)


def _is_only_user(users: IO[bytes]) -> bool:
    """Whether no other command uses the server of the folder."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release_leases(home: Path, server: Server) -> None:
    """Release the concurrency slots of killed commands, which would expire only after a minute."""
    user, _, password = login(home).partition(":")
    for lease in (home / "concurrency_leases").glob("*-*.json"):
        httpx.post(
            f"{server.url}/v2/concurrency_limits/decrement-with-lease",
            json={"lease_id": lease.stem},
            auth=(user, password),
            timeout=30.0,
        )


def _stop_if_unused(home: Path, users: IO[bytes]) -> None:
    """Stop the server, unless it is kept or another command uses it."""
    with _locked(home):
        fcntl.flock(users, fcntl.LOCK_UN)
        if not _is_only_user(users):
            return
        server = recorded_server(home)
        if server is not None and not server.is_kept:
            stop_server(home)


def start_server(
    home: Path, port: int, *, is_kept: bool = False, preload: Sequence[str] = ()
) -> Server:
    """Start the server of a folder and wait until it answers.

    Raises:
        GenebenchError: The server does not answer. The message has the end of its log.
    """
    url = f"http://{HOST}:{port}/api"
    settings = client_settings(home, url) | server_settings(home)
    log_path = home / "server.log"
    arguments = ["server", "start", "--host", HOST, "--port", str(port)]
    command = [sys.executable, "-m", "prefect", *arguments]
    process, child = start_process("server", command, settings, log_path)
    server = Server(url, process, is_kept)
    try:
        os.environ.update(client_settings(home, url))
        for name in preload:
            importlib.import_module(name)
        _wait_until_healthy(url, child, log_path)
    except BaseException:
        process.stop(STOP_SECONDS)
        raise
    write_record(home / "server.json", asdict(server))
    return server


def stop_server(home: Path) -> None:
    """Stop the recorded server of a folder, and delete the record."""
    server = recorded_server(home)
    if server is not None:
        server.process.stop(STOP_SECONDS)
    (home / "server.json").unlink(missing_ok=True)


def find_server(home: Path) -> Server | None:
    """Return the running server of a folder when it answers, or None if none is running.

    A server that is busy is waited for: a second one on the same database would disturb it.

    Raises:
        GenebenchError: The process of the server runs, but does not answer.
    """
    server = recorded_server(home)
    if server is not None and not is_healthy(server.url, START_SECONDS):
        raise GenebenchError(
            f"the Prefect server of {home} (process {server.process.pid}) has not answered for "
            f"{START_SECONDS:.0f} s; its log is {home / 'server.log'}; `genebench down` stops it"
        )
    return server


def recorded_server(home: Path) -> Server | None:
    """Return the server of a folder whose process runs, whether it answers or not, or None."""
    record = read_record(home / "server.json")
    if not record:
        return None
    server = Server(**{**record, "process": RecordedProcess(**record["process"])})
    return server if server.process.is_alive else None


def ensure_server(home: Path, port: int) -> tuple[Server, bool]:
    """Return a server that keeps running after the command: the running one, or a new one.

    Returns:
        The server, and whether this call started it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        found = find_server(home)
        if found is None:
            return start_server(home, port, is_kept=True), True
        kept = Server(found.url, found.process, is_kept=True)
        write_record(home / "server.json", asdict(kept))
        os.environ.update(client_settings(home, kept.url))
        return kept, False


def client_settings(home: Path, url: str) -> dict[str, str]:
    """Return the environment variables of a process that uses a server."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": login(home),
        "DO_NOT_TRACK": "1",
    }


def server_settings(home: Path) -> dict[str, str]:
    """Return the further environment variables of a server: login, no telemetry, stored leases."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": login(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_STORAGE,
        # Seconds until the deployment slot of a killed run expires, and between two attempts of a
        # waiting run.
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    }


def login(home: Path) -> str:
    """Return the `user:password` of the server.

    It comes from the environment, else from the file `auth` of the folder, which is created if it
    is missing. Only the owner can read the file.
    """
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"):
        if given := os.environ.get(name):
            return given
    path = home / "auth"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:  # noqa: PTH123 - a descriptor
            stream.write(f"{USER}:{secrets.token_urlsafe(18)}")
        try:
            path.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_text(encoding="utf-8").strip()


def is_healthy(url: str, seconds: float = 0.0) -> bool:
    """Whether a server answers at an API address, at once or within some seconds."""
    deadline = time.monotonic() + seconds
    # One client for all tries: making one reads the certificates of all authorities, 40 ms of work.
    with httpx.Client(timeout=5.0) as client:
        while not _answers(client, url):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
    return True


def _answers(client: httpx.Client, url: str) -> bool:
    with suppress(httpx.HTTPError):
        return client.get(f"{url}/health").status_code == httpx.codes.OK
    return False


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether no process listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock for starting and stopping the server of a folder."""
    with (home / "server.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5.0) as client:
        while time.monotonic() < deadline and server.poll() is None:
            if _answers(client, url):
                return
            time.sleep(POLL_SECONDS)
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
    has_ended = server.poll() is not None
    what = "stopped at once" if has_ended else f"did not start within {START_SECONDS:.0f} s"
    raise GenebenchError(f"the Prefect server {what}; its log {log_path} ends with:\n{tail}")

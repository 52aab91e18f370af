"""The Prefect server: for the length of one command, or until `make down`.

A server belongs to a folder, `PREFECT_HOME`. Commands that run at once share the folder's server,
so that its concurrency limits hold between them; the last to finish stops it, unless `make up`
started it to stay.
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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import httpx

from flows.server.processes import Started, read_record, start, write_record
from genebench.errors import GenebenchError

HOST = "127.0.0.1"
UI_PORT = 4200
START_SECONDS = 120.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.1
USER = "genebench"
# Leases in memory would be lost with the server, and their slots taken for ever.
LEASES = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class Server:
    """A server on record.

    Attributes:
        url: Its API.
        process: Its process.
        is_kept: Whether it stays when the last command is done.
    """

    url: str
    process: Started
    is_kept: bool

    @property
    def ui(self) -> str:
        """The address for a browser."""
        return self.url.removesuffix("/api")


def prefect_home() -> Path:
    """Where Prefect keeps its database: `PREFECT_HOME`, or `.prefect` in the working folder."""
    return Path(os.environ.get("PREFECT_HOME", ".prefect")).resolve()


@contextmanager
def prefect_api(preload: Sequence[str] = ()) -> Iterator[str]:
    """Give flows a Prefect API to record their runs in.

    A server named by `PREFECT_API_URL` is used as it is. Otherwise the one of `PREFECT_HOME` is,
    started on loopback where it is not running. Must be entered before Prefect is imported,
    which reads its settings once.

    Args:
        preload: Modules that the command needs, imported while a server is starting.

    Raises:
        GenebenchError: The server does not start, or the one named does not answer.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        if not is_healthy(named):
            raise GenebenchError(
                f"no Prefect server answers at PREFECT_API_URL={named}; start it with `make up`, "
                "or unset the variable and a server is started for this command"
            )
        yield named
        return
    home = prefect_home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "users.lock").open("ab") as users:
        with _locked(home):
            is_alone = _is_alone(users)
            fcntl.flock(users, fcntl.LOCK_SH)
            server = find_server(home) or start_server(home, free_port(), preload=preload)
            os.environ.update(client_settings(home, server.url))
            if is_alone and not server.is_kept:
                _free_turns(home, server)
        try:
            yield server.url
        finally:
            _leave(home, users)


def _is_alone(users: IO[bytes]) -> bool:
    """Whether no other command uses the folder's server."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_turns(home: Path, server: Server) -> None:
    """Give back what commands that were killed still hold; it would fall free after a minute."""
    user, _, password = login(home).partition(":")
    for lease in (home / "concurrency_leases").glob("*-*.json"):
        httpx.post(
            f"{server.url}/v2/concurrency_limits/decrement-with-lease",
            json={"lease_id": lease.stem},
            auth=(user, password),
            timeout=30.0,
        )


def _leave(home: Path, users: IO[bytes]) -> None:
    """Stop the server, unless it is to stay or another command uses it."""
    with _locked(home):
        fcntl.flock(users, fcntl.LOCK_UN)
        if not _is_alone(users):
            return
        server = find_server(home)
        if server is not None and not server.is_kept:
            stop_server(home)


def start_server(
    home: Path, port: int, *, is_kept: bool = False, preload: Sequence[str] = ()
) -> Server:
    """Start the server of a folder and wait until it answers.

    Raises:
        GenebenchError: It does not; shows the end of its log.
    """
    url = f"http://{HOST}:{port}/api"
    settings = client_settings(home, url) | server_settings(home)
    words = ["server", "start", "--host", HOST, "--port", str(port)]
    log_path = home / "server.log"
    command = [sys.executable, "-m", "prefect", *words]
    process, child = start("server", command, settings, log_path)
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
    """Stop the server on record and forget it."""
    server = find_server(home)
    if server is not None:
        server.process.stop(STOP_SECONDS)
    (home / "server.json").unlink(missing_ok=True)


def find_server(home: Path) -> Server | None:
    """The running server of a folder."""
    record = read_record(home / "server.json")
    if not record:
        return None
    server = Server(**{**record, "process": Started(**record["process"])})  # type: ignore[dict-item, arg-type]
    return server if server.process.is_alive and is_healthy(server.url) else None


def keep_server(home: Path, port: int) -> tuple[Server, bool]:
    """Have a server that stays: the running one, or a new one.

    Returns:
        The server, and whether it was started now.
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
    """What a process needs in its environment to use a server."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": login(home),
        "DO_NOT_TRACK": "1",
    }


def server_settings(home: Path) -> dict[str, str]:
    """What a server needs beside them: a login, no telemetry, leases that outlive it."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": login(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        # How long a killed run keeps its deployment's turn, and how late a waiting run may notice.
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "60",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        "PREFECT_SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    }


def login(home: Path) -> str:
    """The server's `user:password`: the environment's, or one made for this folder and kept in it.

    The file `auth` can be read by its owner only.
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


def is_healthy(url: str) -> bool:
    """Whether a server answers."""
    try:
        return httpx.get(f"{url}/health", timeout=5.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time starts or stops the server of a folder."""
    with (home / "server.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]", log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        if is_healthy(url):
            return
        time.sleep(POLL_SECONDS)
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
    ended = server.poll() is not None
    what = "stopped at once" if ended else f"did not start within {START_SECONDS:.0f} s"
    raise GenebenchError(f"the Prefect server {what}; its log {log_path} ends with:\n{tail}")

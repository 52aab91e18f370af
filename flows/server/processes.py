"""Background processes by pid and start time: Prefect 3.8.8 keeps a pid, which may be reused."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

# Tolerance between two clocks of the kernel. A reused process id differs by far more.
SAME_START_SECONDS = 1.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RecordedProcess:
    """A process, identified by its id and its start time.

    Attributes:
        name: A name for people.
        pid: The process id.
        started_at: The start time, in seconds since the epoch. Process ids are reused, so the id
            alone does not identify a process.
    """

    name: str
    pid: int
    started_at: float

    @property
    def is_alive(self) -> bool:
        """Whether this process still runs."""
        return self._find() is not None

    def stop(self, patience_seconds: float) -> None:
        """Send SIGTERM, wait, then kill the process and its children if they still run."""
        process = self._find()
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*process.children(recursive=True), process]
            process.send_signal(signal.SIGTERM)
            left = _wait_for(family, patience_seconds)
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            _wait_for(left, patience_seconds)

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_at) < SAME_START_SECONDS
            is_over = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if is_same and not is_over else None


def _wait_for(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that still run after some seconds.

    `psutil.wait_procs` waits for a zombie too: a process that has ended, but whose parent, such as
    the first process of a container, never asks for its exit code.
    """
    deadline = time.monotonic() + seconds
    while (left := [one for one in processes if _runs(one)]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def start_process(
    name: str, command: Sequence[str], environment: Mapping[str, str], log_path: Path
) -> tuple[RecordedProcess, "subprocess.Popen[bytes]"]:
    """Start a process in a session of its own, so that Ctrl-C in the terminal does not reach it.

    Its output is appended to a log file.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            list(command),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started_at = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:
        started_at = time.time()
    return RecordedProcess(name, child.pid, started_at), child


def current_process(name: str) -> RecordedProcess:
    """Return the current process."""
    return RecordedProcess(name, os.getpid(), psutil.Process().create_time())


def write_record(path: Path, entries: Mapping[str, object]) -> None:
    """Write a JSON file atomically: a reader sees the old content or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(entries, default=_plain, indent=2), encoding="utf-8")
    part.replace(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty if the file is missing or unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: object) -> object:
    if isinstance(value, RecordedProcess):
        return asdict(value)
    raise TypeError(f"cannot record {value!r}")

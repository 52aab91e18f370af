"""Processes that outlive the command that started them, and ending exactly those."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

# Two clocks of the kernel; a process id that was given out again differs by far more.
SAME_START_SECONDS = 1.0


@dataclass(frozen=True)
class Started:
    """A process that was started and put on record.

    Attributes:
        name: What it is, for people.
        pid: Its process id.
        started_at: When, in seconds since the epoch: process ids are given out again.
    """

    name: str
    pid: int
    started_at: float

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self._find() is not None

    def stop(self, patience_seconds: float) -> None:
        """Ask it to end, wait, then end it and whatever it had started."""
        process = self._find()
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*process.children(recursive=True), process]
            process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(family, timeout=patience_seconds)
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(left, timeout=patience_seconds)

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_at) < SAME_START_SECONDS
            is_over = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if is_same and not is_over else None


def start(
    name: str, command: Sequence[str], environment: Mapping[str, str], log_path: Path
) -> tuple[Started, "subprocess.Popen[bytes]"]:
    """Start a process that Ctrl-C at the terminal does not reach; its words go to a log."""
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
    return Started(name, child.pid, started_at), child


def this_process(name: str) -> Started:
    """The process that asks."""
    return Started(name, os.getpid(), psutil.Process().create_time())


def write_record(path: Path, entries: Mapping[str, object]) -> None:
    """Write a record in one step: a reader sees the old one or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(entries, default=_plain, indent=2), encoding="utf-8")
    part.replace(path)


def read_record(path: Path) -> dict[str, object]:
    """Read a record; empty where there is none, or a dying machine left it unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(value: object) -> object:
    if isinstance(value, Started):
        return asdict(value)
    raise TypeError(f"cannot record {value!r}")

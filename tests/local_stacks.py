"""A local stack for tests: a real Prefect server with workers, queried through its API only."""

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
from migrated_database import copy_database
from places import recorded_scores

from flows.server.local_server import free_port
from flows.server.processes import read_record
from lakehouse import open_lake
from lakehouse.tables.lake_lock import FolderLock

VERBS = ["refresh", "curate", "embed", "score", "report"]
# Quick ones: enough to see that two of anything are kept apart.
ENCODERS = ["bag_of_words", "random"]
# As few as show that one is kept when another is lost.
FAMILIES = ["biological", "localization"]
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
KEYS = [
    "evaluation_key", "family", "task_id", "encoder_id", "probe_id", "protocol_id", "metric",
    "label", "fold",
]  # fmt: skip


@dataclass
class LocalStack:
    """A folder with a lake, a Prefect home and, after `up`, a server and workers."""

    folder: Path
    sources: Path
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / ".prefect"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands; nothing of another server's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "GENEBENCH_"))}
        return {
            **kept,
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "GENEBENCH_LAKE": str(self.lake),
            "GENEBENCH_SOURCES": str(self.sources),
            "GENEBENCH_PROTOCOL": "paper",
            "GENEBENCH_PROFILE": "embedded",
            "OMP_NUM_THREADS": "1",
            **self.more,
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", "from flows.cli.app import main; main()", *words]

    def start(self, *words: str) -> "subprocess.Popen[str]":
        self.folder.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, timeout: float = 240) -> str:
        """Run a command to its end; its output."""
        process = self.start(*words)
        said, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, said
        return said

    def up(self) -> str:
        """Start what is not running."""
        copy_database(self.home)
        return self.run("up")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def login(self) -> str:
        return (self.home / "auth").read_text()

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        user, _, password = self.login.partition(":")
        return self.call_as((user, password), method, path, body)

    def call_as(
        self, login: tuple[str, str] | None, method: str, path: str, body: Any = None
    ) -> httpx.Response:
        """The server's answer to a call with a user and a password, or with none."""
        # SQLite can be locked for a moment, or a minute; Prefect's own clients wait longer.
        for _ in range(10):
            answer = httpx.request(method, f"{self.url}{path}", json=body, auth=login, timeout=120)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        return answer

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.call(method, path, body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        return self.ask("GET", f"/deployments/name/{name}/{name}")

    def submit(self, name: str, lake: Path | None = None, **parameters: Any) -> str:
        """Create a run of a deployment; its id."""
        body: dict[str, Any] = {"parameters": parameters}
        if lake is not None:
            body["job_variables"] = {"env": {"GENEBENCH_LAKE": str(lake)}}
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return self.ask("POST", path, body)["id"]

    def schedule_benchmark(
        self, seconds: int = 15, families: Sequence[str] = tuple(FAMILIES)
    ) -> None:
        """Move the weekly run of benchmark to a few seconds from now, for two quick encoders."""
        found = self.deployment("benchmark")
        (weekly,) = found["schedules"]
        due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        # The scheduler looks every five seconds at deployments that were updated, and makes no run
        # that is due already.
        moved = {
            "schedule": {"interval": 7 * 24 * 3600, "anchor_date": due.isoformat()},
            "active": True,
            "slug": weekly["slug"],
            "parameters": {
                **weekly["parameters"],
                "encoders": ENCODERS,
                "families": list(families),
            },
        }
        self.ask("PATCH", f"/deployments/{found['id']}", {"schedules": [moved]})

    def runs(self, name: str | None = None) -> list[dict[str, Any]]:
        """Runs of deployments, oldest first, without those that are scheduled for later."""
        found = self.ask("POST", "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        names = {one["id"]: one["name"] for one in self.ask("POST", "/deployments/filter", {})}
        now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
        return [
            {**run, "deployment": names[run["deployment_id"]]}
            for run in found
            if run["deployment_id"] in names
            and dt.datetime.fromisoformat(run["expected_start_time"]) < now
            and name in (None, names[run["deployment_id"]])
        ]

    def state(self, run_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/flow_runs/{run_id}")["state"]

    def wait(self, run_id: str, seconds: float = 240) -> dict[str, Any]:
        """The state that a run ends in."""
        until(lambda: self.state(run_id)["type"] in ENDED, seconds, self.tail)
        return self.state(run_id)

    def artifacts(self, run_id: str) -> dict[str, str]:
        """The markdown artifacts of a run and of its sub-flows, by key."""
        found = self.ask("POST", "/artifacts/filter", {"limit": 200})
        task_runs = self.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        ids = [one["id"] for one in task_runs]
        children = self.ask(
            "POST", "/flow_runs/filter", {"flow_runs": {"parent_task_run_id": {"any_": ids}}}
        )
        family = {run_id, *(one["id"] for one in children)}
        return {
            one["key"]: one["data"]
            for one in found
            if one["flow_run_id"] in family and one["type"] == "markdown"
        }

    def artifact_ids(self, key: str) -> list[str]:
        """The artifacts of a key, oldest first."""
        asked = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return [one["id"] for one in self.ask("POST", "/artifacts/filter", asked)][::-1]

    def workers(self) -> list[psutil.Process]:
        """Its workers and all that they run."""
        found = []
        for entry in read_record(self.home / "workers.json").values():
            process = psutil.Process(entry["pid"])
            found += [process, *process.children(recursive=True)]
        return found

    def server(self) -> psutil.Process:
        return psutil.Process(json.loads((self.home / "server.json").read_text())["process"]["pid"])

    def tail(self) -> str:
        """The end of its logs, for the message of a failed test."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"{log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)


def is_locked(lake: Path) -> bool:
    """Whether a run holds the writer lock of a lake."""
    lock = FolderLock(lake)
    if lock.try_acquire():
        lock.release()
        return False
    return True


def until(is_so: Any, seconds: float, tell: Any = lambda: "") -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{tell()}"
        time.sleep(0.5)


def results(lake: Path | str, *families: str, **options: Any) -> pl.DataFrame:
    """The scores of some families, or of all, without times and run ids."""
    from lakehouse.query.lake import Lake

    found = recorded_scores(Lake(lake, options.get("storage_options")))
    found = found.filter(pl.col("family").is_in(families)) if families else found
    return found.select(*KEYS, "value", "n_train", "n_test").sort(KEYS)


def keys(lake: Path | str, *families: str) -> list[str]:
    """The keys of the stored evaluations of some families, or of all, with duplicates."""
    found = open_lake(lake).table("gold.evaluations").collect()
    found = found.filter(pl.col("family").is_in(families)) if families else found
    return sorted(found["evaluation_key"])

"""A run that is terminated, one that is killed three times, one whose server stands still."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from local_stacks import ENCODERS, results
from migrated_database import copy_database
from places import recorded_scores
from world import build_world

from flows.server.processes import RecordedProcess
from lakehouse import open_lake

GENEBENCH = Path(sys.executable).parent / "genebench"
# Tables in the order in which a run begins to write them.
STAGES = ["bronze", "silver/entities", "silver/tasks", "silver/embeddings", "gold/scores"]
BENCHMARK = ("benchmark", *(word for name in ENCODERS for word in ("-e", name)), "-f", "genomic")


@dataclass
class Runs:
    """A folder in which the same command is started again and again; each starts a server."""

    folder: Path

    def __post_init__(self):
        build_world(self.folder / "sources")
        copy_database(self.folder / "prefect")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENEBENCH_", "PREFECT_"))}
        self.environment = {
            **kept,
            "GENEBENCH_SOURCES": str(self.folder / "sources"),
            "GENEBENCH_PROTOCOL": "paper",
            "GENEBENCH_LAKE": str(self.lake),
            "PREFECT_HOME": str(self.folder / "prefect"),
        }

    @property
    def lake(self):
        return self.folder / "lake"

    @property
    def log(self):
        return (self.folder / "log.txt").read_text()

    def start(self):
        """Start the command; what it prints is added to the log."""
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [GENEBENCH, *BENCHMARK],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start_until(self, table):
        """Start the command, and wait until it has begun to write a table, or has ended."""
        run = self.start()
        deadline = time.monotonic() + 300
        while not (self.lake / table).exists() and run.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return run

    def kill(self, table, seconds):
        """Start the command, and kill it some seconds after it has begun to write a table."""
        run = self.start_until(table)
        time.sleep(seconds)
        run.send_signal(signal.SIGKILL)
        run.wait()

    def finish(self):
        assert self.start().wait(600) == 0, self.log
        assert "waiting: another run" not in self.log, "a killed run keeps no lock"


def test_a_terminated_run_takes_its_server_along(tmp_path, database):
    runs = Runs(tmp_path)
    run = runs.start_until("bronze")
    recorded = json.loads((runs.folder / "prefect" / "server.json").read_text())["process"]
    run.send_signal(signal.SIGTERM)
    assert run.wait(120) == 128 + signal.SIGTERM
    assert not RecordedProcess(**recorded).is_alive


@pytest.mark.soak
def test_ctrl_c_ends_a_command_with_one_line(tmp_path, database):
    runs = Runs(tmp_path)
    run = runs.start_until("silver/tasks")
    run.send_signal(signal.SIGINT)
    assert run.wait(120) == 130
    assert "interrupted; the same command goes on where this one stopped" in runs.log


@pytest.mark.soak
def test_a_run_whose_server_stands_still_for_a_while_gives_the_tables_of_an_undisturbed_run(
    tmp_path, database, ordinary, ledger
):
    row, runs = ledger("SIGSTOP and SIGCONT of the Prefect server"), Runs(tmp_path)
    run = runs.start_until("silver/embeddings")
    recorded = json.loads((runs.folder / "prefect" / "server.json").read_text())["process"]
    server = psutil.Process(recorded["pid"])
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    time.sleep(30)
    for process in reversed(family):
        process.resume()
    assert run.wait(600) == 0, runs.log
    assert_same_tables(runs.lake, ordinary, seed="")
    row.add()


@pytest.mark.soak
def test_a_run_killed_three_times_gives_the_tables_of_an_undisturbed_run(
    tmp_path, database, ordinary
):
    runs, seed = Runs(tmp_path), random.randrange(10**6)
    moments = random.Random(seed)
    for table in sorted(moments.sample(STAGES, 3), key=STAGES.index):
        runs.kill(table, moments.uniform(0, 3))
    runs.finish()
    assert_same_tables(runs.lake, ordinary, seed)


def assert_same_tables(lake, undisturbed, seed):
    after, before = results(lake), results(undisturbed)
    # How many problems are solved together moves the last bits of a sum, and nothing else.
    assert after.drop("value").equals(before.drop("value")), f"seed {seed}"
    assert (after["value"] - before["value"]).abs().max() < 1e-6, f"seed {seed}"
    key = ["evaluation_key", "label", "fold", "metric"]
    assert recorded_scores(open_lake(lake)).select(key).is_unique().all(), f"seed {seed}"
    assert open_lake(lake).leaderboard_rows("current_paper").height > 0

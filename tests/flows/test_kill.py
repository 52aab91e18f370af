"""A run that is killed, and the one after it, give what an undisturbed run gives."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from migrated_database import copy_database
from places import recorded_scores
from world import build_world

from flows.server.processes import RecordedProcess
from lakehouse import open_lake

GENEBENCH = Path(sys.executable).parent / "genebench"
# Tables in the order in which a run begins to write them.
STAGES = ["bronze", "silver/entities", "silver/tasks", "silver/embeddings", "gold/scores"]
WHAT = ("-e", "bag_of_words", "-e", "random", "-f", "genomic")


def environment_of(folder):
    build_world(folder / "sources")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENEBENCH_", "PREFECT_"))}
    return {
        **kept,
        "GENEBENCH_SOURCES": str(folder / "sources"),
        "GENEBENCH_PROTOCOL": "paper",
        "PREFECT_HOME": str(copy_database(folder / "prefect")),
    }


@pytest.fixture
def environment(tmp_path):
    return environment_of(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, database):
    """The results of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with (folder / "log.txt").open("wb") as log:
        run = start(environment_of(folder), folder / "lake", log)
        assert run.wait(600) == 0, (folder / "log.txt").read_text()
    return results(folder / "lake")


def start(environment, lake, log, *words):
    return subprocess.Popen(
        [GENEBENCH, *(words or ("benchmark", *WHAT))],
        env={**environment, "GENEBENCH_LAKE": str(lake)},
        cwd=lake.parent,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def wait_for(table, run):
    """Until a run has begun to write a table, or has ended."""
    deadline = time.monotonic() + 300
    while not table.exists() and run.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def results(folder):
    scores = recorded_scores(open_lake(folder)).drop("run_id", "evaluated_at", "batch_id")
    order = ["evaluation_key", "label", "fold", "metric"]
    return scores.sort(order)


@pytest.mark.parametrize("n_kills", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_a_killed_run_and_the_next_give_the_tables_of_an_undisturbed_run(
    tmp_path, environment, undisturbed, n_kills
):
    log_path = tmp_path / "log.txt"
    with log_path.open("wb") as log:
        seed = random.randrange(10**6)
        moments = random.Random(seed)
        lake = tmp_path / "killed"
        for table in sorted(moments.sample(STAGES, n_kills), key=STAGES.index):
            run = start(environment, lake, log)
            wait_for(lake / table, run)
            time.sleep(moments.uniform(0, 3))
            run.send_signal(signal.SIGKILL)
            run.wait()
        assert start(environment, lake, log).wait(600) == 0, log_path.read_text()
    assert "waiting: another run" not in log_path.read_text(), "a killed run keeps no lock"
    after = results(lake)
    keys = [
        "evaluation_key",
        "task_id",
        "encoder_id",
        "label",
        "fold",
        "metric",
        "n_train",
        "n_test",
    ]
    assert after.select(keys).equals(undisturbed.select(keys)), f"seed {seed}"
    # How many problems are solved together moves the last bits of a sum, and nothing else.
    assert (after["value"] - undisturbed["value"]).abs().max() < 1e-6, f"seed {seed}"
    assert open_lake(lake).leaderboard_rows("current_paper").height > 0


def test_a_terminated_run_takes_its_server_along(tmp_path, environment):
    with (tmp_path / "log.txt").open("wb") as log:
        run = start(environment, tmp_path / "lake", log)
        wait_for(tmp_path / "lake" / "bronze", run)
        server = json.loads((tmp_path / "prefect" / "server.json").read_text())["process"]
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 128 + signal.SIGTERM
    assert not RecordedProcess(**server).is_alive


def test_ctrl_c_ends_with_one_line_and_the_next_command_goes_on(tmp_path, environment):
    log_path = tmp_path / "log.txt"
    with log_path.open("wb") as log:
        run = start(environment, tmp_path / "lake", log)
        wait_for(tmp_path / "lake" / "silver" / "tasks", run)
        run.send_signal(signal.SIGINT)
        assert run.wait(120) == 130
        assert "interrupted" in log_path.read_text()
        assert start(environment, tmp_path / "lake", log, "curate").wait(600) == 0
    assert open_lake(tmp_path / "lake").table("silver.tasks").collect().height > 0

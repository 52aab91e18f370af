"""Ctrl-C and SIGTERM end a run soon, whatever its threads are doing and wherever it is hit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

ROOT = Path(__file__).resolve().parents[2]
STEPS = 1200
pytestmark = pytest.mark.usefixtures("prefect")
# A flow whose one task works for two minutes, a tenth of a second at a time.
LONG_RUN = f"""
import os
import time
from flows.cli.run_flows import run_flows

class Deaf:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        # Python drops what the signal raises here.
        os.kill(os.getpid(), self.number)
        time.sleep(60)

def verb():
    from prefect import flow, task
    from flows.run.progress import track
    from flows.run.task_runners import SettingsTaskRunner, task_result
    from flows.run.writer_lock import with_writer_lock

    @task
    def work():
        with track("work", {STEPS}) as advance:
            for step in range({STEPS}):
                print("step", step, flush=True)
                time.sleep(0.1)
                advance(1)

    @flow
    def short_run():
        pass  # before
        print("short run is done")

    @flow(task_runner=SettingsTaskRunner())
    @with_writer_lock
    def long_run():
        working = work.submit()
        pass  # meanwhile
        task_result(working)

    short_run()
    long_run()

run_flows(verb)
"""


def begin(script, tmp_path):
    """A run of a script whose output goes to a file, and that file."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENEBENCH_", "PREFECT_"))}
    places = {
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
        "GENEBENCH_LAKE": str(tmp_path / "lake"),
        "PYTHONPATH": str(ROOT),
    }
    log_path = tmp_path / "log.txt"
    with log_path.open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**kept, **places},
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return run, log_path


def test_ctrl_c_ends_a_run_in_the_middle_of_a_task(tmp_path):
    run, log_path = begin(LONG_RUN, tmp_path)
    deadline = time.monotonic() + 120
    while b"step 3" not in log_path.read_bytes():
        assert run.poll() is None, log_path.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    assert run.wait(240) != 0, log_path.read_text()
    said = log_path.read_text()
    assert f"step {STEPS - 1}" not in said
    assert "interrupted; the same command goes on where this one stopped" in said


LOST = {
    "no flow begins": ("pass  # before", "step 0"),
    "no task goes on": ("pass  # meanwhile", f"step {STEPS - 1}"),
}


@pytest.mark.parametrize(
    ("number", "lost"),
    [
        pytest.param(signal.SIGINT, "no flow begins", marks=pytest.mark.soak),
        (signal.SIGTERM, "no task goes on"),
        pytest.param(signal.SIGINT, "no task goes on", marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, "no flow begins", marks=pytest.mark.soak),
    ],
)
def test_a_signal_whose_exception_is_lost_ends_the_run(tmp_path, number, lost):
    moment, later = LOST[lost]
    run, log_path = begin(LONG_RUN.replace(moment, f"Deaf({number:d})"), tmp_path)
    assert run.wait(240) == 128 + number, log_path.read_text()
    said = log_path.read_text()
    assert "Exception ignored in" in said
    assert "short run is done" in said
    assert later not in said

"""Ctrl-C ends a run soon, whatever its threads are doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = 1200
# A flow whose one task works for two minutes, a tenth of a second at a time.
LONG_RUN = f"""
import time
from flows.cli import run_flows

def verb():
    from prefect import flow, task
    from flows.progress import track
    from flows.runners import ChosenRunner, result_of

    @task
    def work():
        with track("work", {STEPS}) as advance:
            for step in range({STEPS}):
                print("step", step, flush=True)
                time.sleep(0.1)
                advance(1)

    @flow(task_runner=ChosenRunner())
    def long_run():
        result_of(work.submit())

    long_run()

run_flows(verb)
"""


def begin(script, tmp_path):
    """A run of a script whose output goes to a file, and that file."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENEBENCH_", "PREFECT_"))}
    places = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
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


def test_no_flow_begins_after_a_ctrl_c_that_was_dropped(tmp_path):
    dropped = """
    import os, signal
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        print("dropped")
    long_run()
"""
    run, log_path = begin(LONG_RUN.replace("\n    long_run()\n", dropped), tmp_path)
    assert run.wait(240) != 0, log_path.read_text()
    said = log_path.read_text()
    assert "dropped" in said
    assert "step" not in said
    assert "interrupted; the same command goes on" in said

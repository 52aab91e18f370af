"""Benchmarks the overhead of Prefect: its share of the wall time of `genebench benchmark`.

Runs the benchmark of the embedded profile once, in a new lake, with a new Prefect server, like the
command. A sampler checks all threads every few milliseconds. Time counts as ours while any thread
is in our packages or in a library they called; all other time is Prefect's.

    python -m benchmarks.orchestration
    python -m benchmarks.orchestration --world     a miniature world and two encoders, not saved
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Self

OURS = {"genebench", "lakehouse", "expectations", "flows"}
# Modules of ours that only serve Prefect; their time counts as Prefect's.
FOR_PREFECT = {
    "flows.run.task_runners",
    "flows.run.writer_lock",
    "flows.server.local_server",
    "flows.server.logs",
    "flows.server.processes",
}
PAUSE_SECONDS = 0.005
TARGET_SHARE = 0.15
TARGET_SERVER_SECONDS = 12.0


class Sampler:
    """Adds up the seconds in which our code runs, and those in which only Prefect's does."""

    def __init__(self) -> None:
        self.ours_s = self.other_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.perf_counter()
        while not self._ended.wait(PAUSE_SECONDS):
            # C code that keeps the interpreter's lock delays a sample; it is given that time.
            now = time.perf_counter()
            if any(is_ours(frame) for frame in sys._current_frames().values()):
                self.ours_s += now - before
            else:
                self.other_s += now - before
            before = now


def is_ours(frame: FrameType | None) -> bool:
    """Whether the innermost known code of a thread is ours and not Prefect's."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        root = module.partition(".")[0]
        if root in OURS:
            return module not in FOR_PREFECT
        if root in {"prefect", "prefect_dask"}:
            return False
        frame = frame.f_back
    return False


def run(case: str, encoders: list[str]) -> dict[str, Any]:
    """Run the benchmark in the place that the settings name, and measure it."""
    from flows.server.local_server import prefect_api

    started, load = time.perf_counter(), os.getloadavg()[0]
    with Sampler() as sampler:
        with prefect_api(preload=("flows.benchmark",)):
            server_s = time.perf_counter() - started
            before = sampler.other_s
            _run_benchmark(encoders)
        other_s = sampler.other_s - before
    wall_s = time.perf_counter() - started
    return {
        "name": "orchestration",
        "case": case,
        "ours_s": round(sampler.ours_s, 2),
        "wall_s": round(wall_s, 2),
        "server_start_s": round(server_s, 2),
        "target_server_start_s": TARGET_SERVER_SECONDS,
        "overhead_s": round(other_s, 2),
        "share_of_overhead": round(other_s / wall_s, 4),
        "target_share": TARGET_SHARE,
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "n_cores": os.cpu_count(),
    }


def _run_benchmark(encoders: list[str]) -> None:
    """What the command does between the start and the end of its server."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.benchmark import benchmark
    from flows.server.logs import flush_prefect, quiet_prefect

    quiet_prefect()
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        benchmark(encoders=encoders)
        flush_prefect()


def main() -> None:
    """Measure in a lake of its own; keep the result unless it is of the miniature world."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument(
        "--world", action="store_true", help="use a miniature world, without saving results"
    )
    arguments = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(("GENEBENCH_", "PREFECT_")):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"GENEBENCH_LAKE": f"{folder}/lake", "PREFECT_HOME": f"{folder}/prefect"}
        if arguments.world:
            sys.path.insert(0, "tests")
            from world import build_world

            build_world(Path(folder) / "sources")
            os.environ |= {"GENEBENCH_SOURCES": f"{folder}/sources"}
            row = run("miniature world", ["bag_of_words", "random"])
        else:
            row = run("embedded profile, all its encoders", [])
    print(json.dumps(row, indent=1))
    if not arguments.world:
        from benchmarks.__main__ import keep

        keep([row])


if __name__ == "__main__":
    main()

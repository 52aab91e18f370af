"""Benchmarks curate on the paper's sources: ingest of the largest file, and the whole step.

Runs on the real source files, in a new lake, without a Prefect server, so it measures reading,
checking and writing. Reports wall and CPU seconds, because other load changes wall time. The
targets are for two cores.

    python -m benchmarks.curate
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
SHARED = Path(os.environ.get("GENEBENCH_SHARED", "../shared")).resolve() / "data"
TARGET_SECONDS = {"ingest": 20.0, "curate": 60.0}
TARGET_GB = 4.0


def measure(name: str, case: str, step: Callable[[], str]) -> dict[str, Any]:
    """Run a step once: wall and CPU seconds, and the most memory the process has held so far."""
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = step()
    row = {
        "name": name,
        "case": case,
        "ours_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "target_s": TARGET_SECONDS[name],
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "target_gb": TARGET_GB,
        "load": round(os.getloadavg()[0], 1),
        "what": outcome,
    }
    print(json.dumps(row))
    return row


def run(version: str) -> list[dict[str, Any]]:
    """Fetch every file of the profile into a new lake, then curate; measure both."""
    from flows.curate import curate_silver
    from flows.refresh import fetch_and_commit
    from flows.run.context import open_context
    from lakehouse.curate.state import choose_snapshots, curation_key

    context = open_context("paper", versions={"hpa": version})
    # Great Expectations takes some seconds to import, once a process; another file pays for it.
    fetch_and_commit(context, "hgnc.group_588_hla")
    rows = [
        measure(
            "ingest",
            f"hpa {version}",
            lambda: fetch_and_commit(context, "hpa.proteinatlas").snapshot_id,
        )
    ]
    for file_id in context.registry.source_files:
        if file_id not in context.registry.profile.optional:
            fetch_and_commit(context, file_id)

    def curate() -> str:
        snapshots = choose_snapshots(context.lake, context.registry)
        key = curation_key(context.lake, context.registry, snapshots)
        done, left_out, failed = curate_silver.fn("paper", snapshots, key)
        assert not failed, failed
        return f"{done['silver.tasks']}, {done['silver.samples']}, {len(left_out)} left out"

    return [*rows, measure("curate", f"paper, hpa {version}", curate)]


def main() -> None:
    """Measure in a lake of its own, and keep the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curate", description=__doc__)
    parser.add_argument(
        "--version", default="23.0-composite", help="version of the Human Protein Atlas"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"GENEBENCH_LAKE": f"{folder}/lake", "GENEBENCH_SOURCES": str(SHARED)}
        os.environ["GENEBENCH_VERSIONS"] = json.dumps({"hpa": arguments.version})
        rows = run(arguments.version)
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    fresh = {(row["name"], row["case"]) for row in rows}
    kept = [row for row in old if (row["name"], row["case"]) not in fresh]
    ordered = sorted(kept + rows, key=lambda row: (row["name"], row["case"]))
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Benchmarks the linear engine: runs cases, prints a table and saves the results.

Usage:
    python -m benchmarks                 all cases with all baselines
    python -m benchmarks --quick         small cases, in a minute
    python -m benchmarks --suite 1024    all tasks of the paper at one width, both protocols

Other benchmarks are run as `python -m benchmarks.NAME`: curate, encoders, orchestration, published,
queries, road, uncertainty, vectors.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.engine import CASES, QUICK, run_case
from benchmarks.suite import FLOORS, run_suite

RESULTS = Path(__file__).with_name("results.json")
SHOWN = ("ours_s", "baseline_s", "ratio", "floor", "metric_difference", "share_of_peak")


def _run_apart(arguments: list[str]) -> list[dict[str, Any]]:
    """Run one case in a new process."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def keep(rows: list[dict[str, Any]]) -> None:
    """Save results with the processor's name; replaces results of the same name and case."""
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    fresh = {(row["name"], row["case"]) for row in rows}
    kept = [row for row in old if (row["name"], row["case"]) not in fresh]
    fresh_rows = [row | {"processor": _processor()} for row in rows]
    ordered = sorted(kept + fresh_rows, key=lambda row: (row["name"], row["case"]))
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")


def _processor() -> str:
    """Model name of the processor; empty where /proc/cpuinfo has none."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def show(rows: list[dict[str, Any]]) -> None:
    """Print results as a table."""
    table = Table("name", "case", *SHOWN)
    for row in rows:
        numbers = [row.get(key) for key in SHOWN]
        table.add_row(row["name"], row["case"], *("" if x is None else f"{x:.4g}" for x in numbers))
    Console(width=170).print(table)


def main() -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="run small cases, without saving results"
    )
    parser.add_argument(
        "--case", type=int, help="run one case, by number, in this process and print JSON"
    )
    parser.add_argument(
        "--baselines",
        default="default,tight,cholesky",
        help="baselines to run, separated by commas",
    )
    parser.add_argument("--only", default="", help="run only cases whose name contains this text")
    parser.add_argument(
        "--suite", type=int, choices=sorted(FLOORS), help="run all tasks of the paper at this width"
    )
    parser.add_argument(
        "--protocols", default="paper,standard", help="protocols of the suite, separated by commas"
    )
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases = QUICK if given.quick else CASES
    if given.case is not None:
        case = cases[given.case]
        keys = given.baselines.split(",")
        if case.kind in {"multiclass", "regression", "pairs"} or case.d > 2048:
            keys = [key for key in keys if key != "cholesky"]
        if case.kind == "regression":
            keys = keys[:1]
        print(json.dumps(run_case(case, keys)))
        return
    if given.suite:
        shared = Path(os.environ.get("GENEBENCH_SHARED", "../shared"))
        if given.apart:
            print(json.dumps([run_suite(shared / "tasks.csv", given.suite, given.protocols)]))
            return
        for protocol in given.protocols.split(","):
            rows = _run_apart(["--apart", "--suite", str(given.suite), "--protocols", protocol])
            keep(rows)
            show(rows)
        return
    for number, case in enumerate(cases):
        if given.only not in case.name:
            continue
        arguments = ["--case", str(number), "--baselines", given.baselines]
        rows = _run_apart([*arguments, *(["--quick"] if given.quick else [])])
        if not given.quick:
            keep(rows)
        show(rows)


if __name__ == "__main__":
    main()

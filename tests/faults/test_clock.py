"""A clock that is set back by a day between two runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from faults.lakes import find_faults, lost_and_doubled
from world import build_world

from lakehouse.query.lake import Lake

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
CODE = """
import sys
from pathlib import Path
from faults.verbs import run

for verb in ("refresh", "curate", "embed", "score", "report"):
    ended = run(verb, Path(sys.argv[1]), SOURCES=sys.argv[2])
    assert ended.code == 0, ended.error
"""


def run_all(folder: Path, sources: Path, **environment: str) -> None:
    """Run the verbs on the lake of a folder, in processes of their own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(sources)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.soak
def test_a_clock_that_is_set_back_loses_and_doubles_nothing_and_the_newer_release_is_current(
    copied, stages, ledger, tmp_path
):
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed (apt-get install libfaketime)")
    row = ledger("clock set back by a day")
    world = build_world(tmp_path / "sources")
    world.relabel(world.genes[0].symbol, "7")
    world.release("bioconductor", "3.24.0")
    world.write()
    undisturbed, disturbed = copied("release"), copied("release")
    run_all(undisturbed, tmp_path / "sources")
    back = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": "-1d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    run_all(disturbed, tmp_path / "sources", **back)
    assert find_faults(disturbed) == []
    n_lost, n_doubled = lost_and_doubled(disturbed, undisturbed)
    row.add(n_lost, n_doubled)
    assert (n_lost, n_doubled) == (0, 0)
    labels = [read_labels(folder) for folder in (stages("release"), undisturbed, disturbed)]
    assert not labels[0].equals(labels[1]), "the newer release changes no label"
    assert labels[2].equals(labels[1])
    shutil.rmtree(disturbed)


def read_labels(folder: Path) -> pl.DataFrame:
    rows = Lake(folder / "lake").table("silver.labels").collect()
    return rows.sort("task_id", "sample_id", "label")

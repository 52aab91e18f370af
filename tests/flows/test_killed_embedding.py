"""A killed embedding goes on where it stopped, and ends with the table of an undisturbed one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from world import build_world

from lakehouse import open_lake
from lakehouse.embed.pending import CHUNK_ENTITIES
from lakehouse.tables.vectors import to_matrix

GENEBENCH = Path(sys.executable).parent / "genebench"
N_MADE = 2_700


def write_large_world(folder: Path) -> None:
    """The world with thousands of genes more, each with a text of its own: several chunks."""
    world = build_world(folder)
    pattern = next(g for g in world.genes if g.summary and g.is_approved)
    first = max(g.number for g in world.genes) + 1
    world.genes += [
        replace(pattern, number=first + n, symbol=f"MADE{n}", aliases=[], previous=[], proteins=[])
        for n in range(N_MADE)
    ]
    world.write()


def start(folder: Path, lake: str, *words: str) -> subprocess.Popen:
    """Start a command as a process of its own, which can be killed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GENEBENCH_", "PREFECT_"))}
    settings = {
        "GENEBENCH_SOURCES": str(folder / "sources"),
        "GENEBENCH_LAKE": str(folder / lake),
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
    }
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [GENEBENCH, *words], env={**kept, **settings}, cwd=folder, stdout=log, stderr=log
        )


def embeddings(folder: Path) -> pl.DataFrame:
    return open_lake(folder).table("silver.embeddings").collect().sort("entity_id")


@pytest.mark.soak
@pytest.mark.usefixtures("prefect")
def test_a_killed_embedding_goes_on_where_it_stopped_and_ends_with_the_same_table(
    tmp_path, place_of
):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh

    write_large_world(tmp_path / "sources")
    place_of(tmp_path / "lake", tmp_path / "sources")
    refresh()
    curate()
    shutil.copytree(tmp_path / "lake", tmp_path / "killed")
    embed(["minilm_symbol"])
    whole = embeddings(tmp_path / "lake")
    assert whole.height > CHUNK_ENTITIES

    run = start(tmp_path, "killed", "embed", "minilm_symbol")
    end = time.monotonic() + 240
    while not embeddings(tmp_path / "killed").height:
        assert run.poll() is None, (tmp_path / "log.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    half = embeddings(tmp_path / "killed")
    assert 0 < half.height < whole.height
    state = open_lake(tmp_path / "killed").table("silver.encoders").collect()
    assert state["is_complete"].to_list() == [False]

    place_of(tmp_path / "killed", tmp_path / "sources")
    embed(["minilm_symbol"])
    after = embeddings(tmp_path / "killed")
    same = ["entity_type", "entity_id", "encoder_digest", "input_digest", "dimension", "n_parts"]
    assert after.select(same).equals(whole.select(same))
    moved = np.abs(to_matrix(after["vector"]) - to_matrix(whole["vector"]))
    assert moved.max() < 1e-6
    # What was there when it was killed was not computed again.
    kept = after.join(half, on=["entity_id", "run_id"], how="semi")
    assert kept.height == half.height

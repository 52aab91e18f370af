"""A refresh in the middle of a score."""

import shutil
from dataclasses import replace

import pytest
from local_stacks import is_locked, until
from world import build_world

from lakehouse import open_lake


@pytest.mark.soak
def test_a_refresh_during_score_waits_for_it(stack, weekly, tmp_path):
    world = build_world(tmp_path / "sources")
    shutil.copytree(stack.lake, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    before = lake.table("gold.evaluations").collect()
    world.release("bioconductor", "3.17.0")
    world.relabel(world.genes[0].symbol, "22")
    world.write()
    busy = replace(
        stack, sources=tmp_path / "sources", more={"GENEBENCH_LAKE": str(tmp_path / "lake")}
    )
    scoring = busy.start("score", "--protocol", "standard")
    until(lambda: is_locked(tmp_path / "lake"), 120, stack.tail)
    refreshing = busy.start("refresh")
    scored, refreshed = (one.communicate(timeout=400)[0] for one in (scoring, refreshing))
    assert (scoring.returncode, refreshing.returncode) == (0, 0), scored + refreshed
    assert "waiting: another run is writing" in refreshed
    after = lake.table("gold.evaluations").collect()
    assert after["evaluation_key"].is_unique().all()
    assert set(after["protocol_id"]) == {"paper", "standard"}
    assert after.filter(protocol_id="paper").height == before.height
    # What the refresh brought is beside what was there, and is curated when somebody asks for it.
    snapshots = lake.table("bronze.snapshots").collect()
    assert snapshots["snapshot_id"].is_unique().all()
    assert set(snapshots["version"]) == {"3.16.0", "3.17.0"}
    assert snapshots["retrieved_at"].max() > after["evaluated_at"].max()

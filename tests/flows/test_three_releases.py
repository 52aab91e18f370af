"""The weekly deployment follows three real releases of a source, two years apart each."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from local_stacks import ENCODERS, LocalStack, until

from genebench.registry.loading import load_registry
from lakehouse import open_lake
from lakehouse.query.lake import Lake
from lakehouse.report.diff.lake_diff import LakeDiff, diff_states
from lakehouse.report.diff.lake_states import find_state
from lakehouse.report.diff.score_causes import CAUSES
from lakehouse.report.diff.score_changes import ADDED, REMOVED

pytestmark = pytest.mark.soak

VERSIONS = ["3.16.0", "3.20.0", "3.23.1"]
# Small ones: the multiclass task of all proteins, and the pairs.
FAMILIES = ["genomic", "regulatory"]
# The release that the stack's protocol writes.
CURRENT = "current_paper"
ITEM = ["task_id", "encoder_id", "probe_id"]
RUN_SECONDS = 1800


@dataclass(frozen=True)
class Releases:
    """A lake with three frozen releases, and the weekly runs that made them."""

    stack: LocalStack
    runs: list[dict[str, Any]]

    @property
    def lake(self) -> Lake:
        return open_lake(self.stack.lake)

    def diff(self, before: str, after: str) -> LakeDiff:
        states = [find_state(self.lake, name, CURRENT) for name in (before, after)]
        return diff_states(*states, load_registry("embedded").tasks.values())


def list_versions(mirror: Path, shared: Path, versions: list[str]) -> None:
    """Let a mirror list the versions that its source has published so far."""
    listed = yaml.safe_load((shared / "annotation_releases" / "sources.yaml").read_text())
    kept = {
        name: [entry for entry in entries if entry["version"] in versions]
        for name, entries in listed.items()
    }
    draft = mirror / "sources.yaml.part"
    draft.write_text(yaml.safe_dump(kept))
    draft.replace(mirror / "sources.yaml")


def scheduled(stack: LocalStack) -> list[dict[str, Any]]:
    return [run for run in stack.runs("benchmark") if run["auto_scheduled"]]


@pytest.fixture(scope="module")
def releases(shared, tmp_path_factory) -> Iterator[Releases]:
    folder = tmp_path_factory.mktemp("releases")
    mirror = folder / "mirror"
    for version in VERSIONS:
        shutil.copytree(shared / "annotation_releases" / version, mirror / version)
    stack = LocalStack(folder, mirror)
    runs: list[dict[str, Any]] = []
    try:
        list_versions(mirror, shared, VERSIONS[:1])
        stack.up()
        for n, version in enumerate(VERSIONS, 1):
            list_versions(mirror, shared, VERSIONS[:n])
            stack.schedule_benchmark(families=FAMILIES)
            until(lambda n=n: len(scheduled(stack)) == n, 120, stack.tail)
            run = scheduled(stack)[-1]["id"]
            stack.wait(run, RUN_SECONDS)
            runs.append(stack.ask("GET", f"/flow_runs/{run}"))
            # Tasks of other families are pending.
            stack.run("release", version, "--allow-pending", timeout=600)
        yield Releases(stack, runs)
    finally:
        stack.run("down")


def test_each_weekly_run_freezes_a_release_of_its_version(releases):
    assert [run["state_type"] for run in releases.runs] == ["COMPLETED"] * 3
    assert all(run["auto_scheduled"] for run in releases.runs)
    assert set(VERSIONS) <= set(releases.lake.releases()["release_id"])
    for version in VERSIONS:
        read = find_state(releases.lake, version, CURRENT).tables
        ids = read.table("silver.tasks").filter(task_id="chromosome").collect()["snapshot_id"]
        snapshots = releases.lake.table("bronze.snapshots").collect()
        (row,) = snapshots.filter(snapshot_id=ids[0]).iter_rows(named=True)
        assert row["version"] == version


def test_the_server_shows_what_changed_in_each_week(releases):
    asked = {"artifacts": {"key": {"any_": ["changes"]}}}
    texts = [one["data"] for one in releases.stack.ask("POST", "/artifacts/filter", asked)]
    # Curate tells what changed in the tables, benchmark also which scores moved.
    scored = [text for text in texts if "scores by cause" in text]
    for before, now in pairwise(VERSIONS):
        (text,) = [text for text in scored if f"| bioconductor | {before} | {now} |" in text]
        assert "0 of them unexplained" in text
    assert len(scored) == 2, "the first week has nothing to compare with"
    for run in releases.runs:
        assert "Bag of words" in releases.stack.artifacts(run["id"])["leaderboard"]


def test_every_moved_score_is_explained(releases):
    for before, now in pairwise(VERSIONS):
        diff = releases.diff(before, now)
        assert diff.versions.rows() == [("bioconductor", before, now, 4)]
        scores, counts = diff.scores, diff.counts
        assert counts["moved"] > 0
        assert counts["unexplained"] == 0
        moved = scores.filter(pl.col("change") != 0)
        causes = {cause for why in moved["why"] for cause in why.split(" and ")}
        assert causes <= set(CAUSES) - {"declaration"}
        n_now = releases.lake.release(now).height
        assert n_now == counts["kept"] + counts["computed"] + counts["without_score"]


def test_the_two_diffs_add_up_to_the_one_over_both(releases):
    first, second = (releases.diff(*VERSIONS[n : n + 2]) for n in (0, 1))
    whole = releases.diff(VERSIONS[0], VERSIONS[2])

    def count(diff: LakeDiff, change: str) -> int:
        return diff.entities.filter(change=change, entity_type="gene").height

    net = [count(diff, "added") - count(diff, "withdrawn") for diff in (first, second, whole)]
    assert net[0] + net[1] == net[2]
    assert min(count(diff, "withdrawn") for diff in (first, second)) > 0
    for task_id in set(whole.samples["task_id"]):
        parts = [diff.samples.filter(task_id=task_id) for diff in (first, second, whole)]
        grown = [int((one["n_now"] - one["n_before"]).sum()) for one in parts]
        assert grown[0] + grown[1] == grown[2], task_id
    changes = [
        diff.scores.filter(~pl.col("why").is_in([ADDED, REMOVED])).select(*ITEM, "change")
        for diff in (first, second, whole)
    ]
    one, two, both = changes
    joined = both.join(one, on=ITEM, suffix="_one").join(two, on=ITEM, suffix="_two").drop_nulls()
    assert joined.height >= len(ENCODERS) * 2
    error = (joined["change_one"] + joined["change_two"] - joined["change"]).abs().max()
    assert error < 1e-9


def test_no_week_computes_what_did_not_change(releases):
    evaluations = releases.lake.table("gold.evaluations").collect()
    assert evaluations["evaluation_key"].is_unique().all(), "nothing was computed twice"
    computed = set(evaluations["evaluation_key"])
    seen: set[str] = set()
    for version in VERSIONS:
        items = releases.lake.release(version).filter(pl.col("family").is_in(FAMILIES))
        keys = set(items["evaluation_key"])
        assert keys <= computed
        assert keys - seen, "every release has other labels of some task"
        seen |= keys
    assert computed == seen, "nothing else was computed"

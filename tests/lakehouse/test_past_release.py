"""`later --as-of` takes a release of the source or a month of its data."""

import datetime as dt
from dataclasses import replace

import polars as pl
import pytest
from blanks import filled

from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from genebench.sources.declaration import Source
from genebench.tasks.declaration import Task
from lakehouse import open_lake
from lakehouse.curate.task_selection import read_task
from lakehouse.studies.past_release import is_release, read_past_release
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
# Source, version and day of publication, if known: the role of each gene.
RELEASES = {
    ("demo_old", "1.0", None): {"1": "a", "2": "b"},
    ("demo", "2.0", "2024-05-06"): {"1": "a", "2": "a"},
    ("demo", "3.0", "2026-01-02"): {"1": "a", "2": "a", "3": "b"},
}


def source(source_id, version, **rest):
    file = {"url": "https://example.org/rows.tsv", "format": "tsv"}
    return Source(
        id=source_id, title="t", license="CC0", cite="c", homepage="https://example.org",
        version=version, files={"rows": file}, **rest,
    )  # fmt: skip


def snapshot(name, version, published_on, day):
    return {
        "snapshot_id": f"{name}_{version}", "source": name, "version": version, "file": "rows",
        "published_on": published_on, "retrieved_at": dt.datetime(2026, 1, day, tzinfo=dt.UTC),
    }  # fmt: skip


@pytest.fixture
def place(tmp_path):
    lake = open_lake(tmp_path / "lake")
    snapshots = [snapshot(*release, day) for day, release in enumerate(RELEASES, start=1)]
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", snapshots), COMMIT)
    for (name, version, _), genes in RELEASES.items():
        cells = {"gene": list(genes), "role": list(genes.values())}
        rows = pl.DataFrame(
            {"row_number": range(len(genes)), **cells}, schema_overrides={"row_number": pl.Int64}
        ).with_columns(snapshot_id=pl.lit(f"{name}_{version}"))
        where = {"snapshot_id": f"{name}_{version}"}
        lake.delta.replace(f"bronze.{name}_rows", rows, COMMIT, where)
    xrefs = [
        {"entity_type": "gene", "namespace": "entrez", "identifier": gene, "status": "approved",
         "entity_id": f"ncbigene:{gene}"}
        for gene in "123"
    ]  # fmt: skip
    where = {"entity_type": "gene"}
    lake.delta.replace("silver.xrefs", filled("silver.xrefs", xrefs), COMMIT, where)
    tasks = [{"task_id": name, "family": "protein", "kind": "multilabel"} for name in ("role", "x")]
    lake.delta.replace("silver.tasks", filled("silver.tasks", tasks), COMMIT)
    task = Task.model_validate(
        {"id": "role", "title": "t", "profile": "embedded", "family": "protein",
         "kind": "multilabel", "source": "demo.rows", "recipe": "keywords",
         "with": {"id": "gene", "namespace": "entrez", "label": "role"}}
    )  # fmt: skip
    sources = {
        "demo": source("demo", "3.0", version_days={"3.0": "2026-01-15"}),
        "demo_old": source("demo_old", "1.0", version_days={"1.0": "2022-09-12"}, past_of="demo"),
    }
    registry = replace(load_registry("embedded"), tasks={"role": task}, sources=sources)
    return open_lake(tmp_path / "lake"), registry


def read(place, as_of, task="role"):
    lake, registry = place
    return read_past_release(lake, registry, read_task(lake, task), as_of)


@pytest.mark.parametrize(
    ("as_of", "name", "labels"),
    [
        ("demo=1.0", "demo 1.0", ["a", "b"]),
        ("demo=2.0", "demo 2.0", ["a", "a"]),
        ("2022-09", "demo 1.0", ["a", "b"]),
        ("2024-04", "demo 1.0", ["a", "b"]),
        ("2025-12", "demo 2.0", ["a", "a"]),
    ],
)
def test_a_version_or_a_month_gives_the_labels_of_that_release(place, as_of, name, labels):
    past = read(place, as_of)
    assert past.name == name
    assert past.labels.sort("sample_id")["label"].to_list() == labels
    assert past.samples["entity_id"].to_list() == ["ncbigene:1", "ncbigene:2"]


@pytest.mark.parametrize(
    ("as_of", "complaint"),
    [
        ("demo=3.0", r"demo 3\.0 is not older than 3\.0, the current release"),
        ("2026-02", r"demo 3\.0 is not older than 3\.0"),
        ("demo=0.9", r"no release '0\.9' of demo; it has 1\.0, 2\.0, 3\.0"),
        ("2022-08", r"as old as 2022-08; it has 1\.0 of 2022-09, 2\.0 of 2024-05"),
        ("dmeo=1.0", r"role does not read the source 'dmeo'.*'?demo'?"),
    ],
)
def test_a_release_that_cannot_be_the_past_is_one_clear_message(place, as_of, complaint):
    with pytest.raises(LakeError, match=complaint):
        read(place, as_of)


def test_the_past_must_be_older_than_what_the_lake_reads_now(place):
    lake, registry = place
    back = snapshot("demo", "2.0", "2024-05-06", 20)
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", [back]), COMMIT)
    again = open_lake(lake.delta.storage.root)
    with pytest.raises(LakeError, match=r"demo 3\.0 is not older than 2\.0, the current release"):
        read((again, registry), "demo=3.0")
    assert read((again, registry), "demo=1.0").name == "demo 1.0"


def test_a_task_that_is_not_declared_needs_a_day(place):
    with pytest.raises(LakeError, match="x is not a declared task; give --as-of a day"):
        read(place, "demo=1.0", "x")


def test_days_are_read_as_before():
    assert is_release("bioconductor=3.16.0")
    assert is_release("2022-09")
    assert not is_release("2022-09-12")
    assert not is_release("2022-09-12T10:00:00")

"""The age of a source counts from its release, and one that is older than it declares is stale."""

import datetime as dt

import pytest
from blanks import filled

from genebench.registry.loading import load_registry
from genebench.sources.declaration import Source
from lakehouse.query.lake import Lake
from lakehouse.refresh.freshness import freshness_markdown, read_freshness
from lakehouse.tables.commits import Commit

COMMIT = Commit("test", "test")
FILE = {"url": "https://example.org/{version}.tsv", "format": "tsv"}


def source(name, **fields):
    shared = {"title": name, "license": "none", "cite": "nobody", "homepage": "https://example.org"}
    return Source(id=name, **shared, version="1", files={"rows": FILE}, **fields)


def day(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def snapshot(name, version, retrieved, published=None):
    return {
        "snapshot_id": f"{name}_{version}", "source": name, "version": version, "file": "rows",
        "retrieved_at": day(retrieved), "published_on": published,
    }  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    """A lake with two snapshots of `a`, and one of `b`, `c` and `d` each."""
    lake = Lake(tmp_path / "lake")
    rows = [
        snapshot("a", "7", "2026-01-10"),
        snapshot("a", "8", "2026-06-01"),
        snapshot("b", "2026-03-05", "2026-06-01"),
        snapshot("c", "current", "2026-06-01", "2026-05-20"),
        snapshot("d", "1", "2026-06-01"),
    ]
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", rows), COMMIT)
    return lake


SOURCES = {
    one.id: one
    for one in (
        source("a", fresh_within="120 days", version_days={"7": "2025-12-31", "8": "2026-05-01"}),
        source("b", fresh_within="120 days"),
        source("c", fresh_within="30 days"),
        source("d"),
        source("e", fresh_within="1 day"),
    )
}
FILES = [f"{name}.rows" for name in SOURCES]


def states(lake, now):
    rows = read_freshness(lake, SOURCES, FILES, now=day(now))
    return {row["source"]: row for row in rows.iter_rows(named=True)}


def test_the_age_counts_from_the_release_however_it_is_known(lake):
    found = states(lake, "2026-06-10")
    assert [(found[name]["age_days"], found[name]["dated_by"]) for name in "abcd"] == [
        (40, "release"), (97, "release"), (21, "server"), (9, "retrieval"),
    ]  # fmt: skip
    assert {name: row["state"] for name, row in found.items()} == {
        "a": "fresh", "b": "fresh", "c": "fresh", "d": "no limit", "e": "not in the lake",
    }  # fmt: skip


def test_a_source_is_stale_on_the_day_after_its_limit(lake):
    assert states(lake, "2026-06-19")["c"]["state"] == "fresh"
    assert states(lake, "2026-06-20")["c"]["state"] == "stale"
    rows = read_freshness(lake, SOURCES, FILES, now=day("2026-12-01"))
    assert rows["source"].to_list() == ["a", "b", "c", "e", "d"]
    assert rows["state"].to_list()[:3] == ["stale"] * 3


def test_the_wanted_version_counts(lake):
    rows = read_freshness(lake, SOURCES, FILES, {"a.rows": "7"}, day("2026-06-10"))
    row = rows.filter(source="a").row(0, named=True)
    assert (row["version"], row["age_days"], row["state"]) == ("7", 161, "stale")


def test_an_earlier_lake_is_judged_by_its_own_day(lake):
    written = dt.datetime.now(dt.UTC)
    later = dt.timedelta(days=1)
    found = read_freshness(lake.at(written + later), SOURCES, FILES).filter(source="d")
    assert found["age_days"][0] == (written + later - day("2026-06-01")).days
    assert set(read_freshness(lake.at("2001-01-01"), SOURCES, FILES)["state"]) == {
        "not in the lake"
    }


def test_the_artifact_has_a_row_for_each_source(lake):
    text = freshness_markdown(read_freshness(lake, SOURCES, FILES, now=day("2026-12-01")))
    assert "| c | current | 2026-05-20 | server | 2026-06-01 | 195 days | 30 days | stale |" in text
    assert text.count("\n") == 1 + len(SOURCES)


@pytest.mark.parametrize("wrong", ["soon", "0 days", "120", "4 weeks"])
def test_a_limit_that_is_no_number_of_days_is_refused(wrong):
    with pytest.raises(ValueError, match="write it as `120 days`"):
        source("a", fresh_within=wrong)


def test_sources_that_go_on_declare_how_old_they_may_become():
    declared = {}
    for profile in ("embedded", "paper"):
        declared |= load_registry(profile).sources
    without = {name for name, one in declared.items() if one.fresh_within is None}
    # The tables of these publications do not change, and a past release is wanted as it is.
    assert {"bioconductor", "hgnc", "hpa", "ncbi"} & without == set()
    assert {"gene2vec", "genecorpus", "humantfs"} <= without


def test_a_version_that_is_a_month_counts_from_its_first_day():
    one = source("a", version_days={"3.1": "2026-02-03"})
    assert one.release_day("2024-10") == dt.date(2024, 10, 1)
    assert one.release_day("3.1") == dt.date(2026, 2, 3)
    assert [one.release_day(name) for name in ("2024-13", "110", "2023_04")] == [None] * 3

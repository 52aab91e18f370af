"""The silver tables stay curated after compaction and vacuum, not after other writes."""

import datetime as dt
import os

import polars as pl
import pytest

from genebench.errors import LakeError
from lakehouse.curate.state import CURATED_TABLES, is_curated, require_curated
from lakehouse.query.lake import Lake
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import compact_table, vacuum_table

CURATE = Commit("run1", "0", profile="paper", extra={"curation_key": "k1"})
UPKEEP = Commit("run2", "0")


def labels(family: str, label: str) -> pl.DataFrame:
    values = [[family], ["t"], ["hgnc:1"], [label], [1.0]]
    return pl.DataFrame(values, schema=table("silver.labels").schema)


@pytest.fixture
def curated(tmp_path) -> Lake:
    """A lake with six silver tables of one curation; that of labels has two files to join."""
    lake = Lake(tmp_path / "lake")
    for name in CURATED_TABLES:
        whole = {} if table(name).partition else None
        lake.delta.replace(name, table(name).empty(), CURATE, whole)
    for label in ("yes", "no"):
        lake.delta.append("silver.labels", labels("genomic", label), CURATE)
    return lake


def newest_operation(lake: Lake, name: str) -> str:
    return lake.delta.history(name, 1)[0]["operation"]


def test_compacted_and_vacuumed_tables_still_count_as_curated(curated, tmp_path):
    assert compact_table(curated.delta, "silver.labels", UPKEEP, max_files=1) == 2
    assert newest_operation(curated, "silver.labels") == "OPTIMIZE"
    for number in range(5):
        left = tmp_path / "lake" / "silver" / "tasks" / f"part-{number}.parquet"
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        assert vacuum_table(curated.delta, "silver.tasks") == 1
    assert newest_operation(curated, "silver.tasks") == "VACUUM END"
    assert is_curated(curated, "k1")
    assert not is_curated(curated, "k2")
    require_curated(curated)


def test_rows_that_no_curation_wrote_count_as_not_curated_also_after_a_compaction(curated):
    curated.delta.append("silver.labels", labels("genomic", "perhaps"), UPKEEP)
    compact_table(curated.delta, "silver.labels", UPKEEP, max_files=1)
    assert newest_operation(curated, "silver.labels") == "OPTIMIZE"
    assert not is_curated(curated, "k1")
    with pytest.raises(LakeError, match="by different curations"):
        require_curated(curated)


def test_a_lake_keeps_its_profile_when_its_snapshots_are_compacted(tmp_path):
    lake = Lake(tmp_path / "lake")
    row = {
        "snapshot_id": "hpa_23_0_proteinatlas_a1b2c3d4",
        "source": "hpa",
        "version": "23.0",
        "file": "proteinatlas",
        "url": "https://example.org/a",
        "sha256": "a1b2c3d4" * 8,
        "size_bytes": 1,
        "retrieved_at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        "license": "CC0",
        "is_complete": True,
        "is_composite": False,
        "run_id": "run1",
    }
    assert lake.profile() is None
    for day in (2, 3):
        row["retrieved_at"] = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
        frame = pl.DataFrame([row], schema=table("bronze.snapshots").schema)
        lake.delta.append("bronze.snapshots", frame, CURATE)
    assert compact_table(lake.delta, "bronze.snapshots", UPKEEP, max_files=1) == 2
    assert lake.profile() == "paper"

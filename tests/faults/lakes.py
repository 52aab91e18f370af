"""Compares two lakes by what readers see of them: rows lost, rows doubled."""

from pathlib import Path

import polars as pl

from lakehouse.query.lake import Lake
from lakehouse.score.evidence import EVIDENCE, read_evaluations, read_evidence
from lakehouse.tables.catalogue import table
from lakehouse.upkeep.doctor import examine_lake
from lakehouse.upkeep.findings import Finding

# Tables that record runs: a run that is repeated is recorded again.
_RECORDS = ("bronze.readings", "silver.curations")
# Writers without the lock may store a split twice, and each record a retrieval: documented limits.
_REPEATED = ("gold.folds", "bronze.snapshots")
_OF_A_RUN = {"run_id", "batch_id", "retrieved_at", "imported_at"}


def visible_keys(lake: Lake) -> dict[str, pl.DataFrame]:
    """The keys of the rows that readers see, by table, without those of the run."""
    evaluations = read_evaluations(lake).collect()
    keys = {}
    for name in lake.delta.list_tables():
        if name.startswith("audit.") or name in _RECORDS:
            continue
        if name == "gold.evaluations":
            rows = evaluations
        elif name in EVIDENCE:
            rows = read_evidence(lake, name, evaluations).collect()
        else:
            rows = lake.table(name).collect()
        keys[name] = rows.select(one for one in table(name).key if one not in _OF_A_RUN)
    return keys


def lost_and_doubled(after: Path | Lake, undisturbed: Path) -> tuple[int, int]:
    """Count the rows that a lake lacks beside an undisturbed one, and those that it has twice.

    Lakes are given opened, or by the folder that they are in.
    """
    lake = Lake(after / "lake") if isinstance(after, Path) else after
    found, wanted = visible_keys(lake), visible_keys(Lake(undisturbed / "lake"))
    n_lost = n_doubled = 0
    for name, keys in wanted.items():
        rows = found.get(name, keys.clear())
        n_lost += keys.join(rows, on=keys.columns, how="anti", nulls_equal=True).height
        if name in _REPEATED:
            rows = rows.unique()
        n_doubled += rows.height - rows.n_unique()
    return n_lost, n_doubled


def find_faults(place: Path | Lake) -> list[Finding]:
    """Examine a lake, opened or by its folder; each finding names what mends it."""
    found = examine_lake(Lake(place / "lake") if isinstance(place, Path) else place)
    assert all(one.mend for one in found)
    return [one for one in found if one.is_fault]

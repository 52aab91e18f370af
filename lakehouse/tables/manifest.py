"""The manifest: the rows of `audit.runs`, which say what each finished run wrote.

The six silver tables of a curation are replaced one after the other. Their current version, and
their version at an earlier time, is the one that the manifest names: a curation counts when its
last row is written, and its tables are never read with those of another curation.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit

RUNS = "audit.runs"
CURATE = "curate"
# The tables of a curation, in the order in which they are written.
CURATED_TABLES = (
    "silver.entities",
    "silver.xrefs",
    "silver.inputs",
    "silver.samples",
    "silver.labels",
    "silver.tasks",
)


@dataclass(frozen=True)
class FinishedRun:
    """A run of the manifest.

    Attributes:
        run_id: The flow run.
        finished_at: When its last table was written.
        versions: Table to the version that the run wrote.
    """

    run_id: str
    finished_at: dt.datetime
    versions: Mapping[str, int]


def run_rows(
    verb: str, versions: Mapping[str, int], commit: Commit, last: FinishedRun | None = None
) -> pl.DataFrame:
    """Build the row of `audit.runs` of one run.

    Args:
        verb: The verb.
        versions: Table to the version that the run wrote.
        commit: The metadata of the run's commits.
        last: The last run of the verb. The new row is later, even if the clock was set back since.
    """
    now = dt.datetime.now(dt.UTC)
    if last is not None:
        now = max(now, last.finished_at + dt.timedelta(microseconds=1))
    row = {
        "run_id": commit.flow_run,
        "verb": verb,
        "code": commit.code,
        "profile_id": commit.profile,
        "table_versions": json.dumps(dict(versions), sort_keys=True),
        "finished_at": now,
    }
    return pl.DataFrame([row], schema=table(RUNS).schema)


def finished_runs(rows: pl.DataFrame) -> list[FinishedRun]:
    """Read rows of `audit.runs`, the earliest run first."""
    return [
        FinishedRun(row["run_id"], row["finished_at"], json.loads(row["table_versions"]))
        for row in rows.sort("finished_at", "run_id").iter_rows(named=True)
    ]

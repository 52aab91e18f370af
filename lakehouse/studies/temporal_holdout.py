"""Temporal hold-out: trains on the labels of an earlier time, tests on labels gained since."""

from typing import Any

import numpy as np
import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.folds import make_split
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.problems import prepare_task
from genebench.evaluation.resplits import make_temporal_problem
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.tasks.declaration import TEMPORAL
from lakehouse.curate.task_selection import read_task
from lakehouse.embed.stored_vectors import read_complete_vectors
from lakehouse.score.holdout_groups import read_holdout_groups
from lakehouse.studies.past_release import PastRelease
from lakehouse.tables.time_travel import Tables, When

TEMPORAL_HOLDOUT_SCHEMA = pl.Schema(
    {
        "task_id": pl.String(),
        "encoder_id": pl.String(),
        "label": pl.String(),
        "n_tested": pl.Int64(),
        "n_gained": pl.Int64(),
        "n_lost": pl.Int64(),
        "value": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "reason": pl.String(),
    }
)


def measure_temporal_holdout(
    tables: Tables,
    task_id: str,
    encoder_id: str,
    as_of: When | PastRelease,
    probe: Probe,
    protocol: Protocol,
    *,
    min_gained: int = 10,
) -> pl.DataFrame:
    """Train on the labels of an earlier time and test on the labels that entities gained since.

    The earlier labels are read from the silver tables with time travel, or given as those of an
    earlier release. Only samples that exist at both times are used; labels are matched by name.
    Well-studied genes gain more labels, so compare the result with the study-bias controls.

    Args:
        tables: The tables of the lake in their latest version.
        task_id: A multi-label task of single entities.
        encoder_id: An encoder with complete vectors.
        as_of: The earlier time, UTC, or the earlier release.
        probe: The probe.
        protocol: The protocol; folds are stratified by the earlier labels.
        min_gained: Minimum number of entities that gained a label; labels with fewer are left out.

    Returns:
        `TEMPORAL_HOLDOUT_SCHEMA`, one row per label, most gained first. `n_tested` is the number of
        entities without the label at the earlier time, `n_gained` how many of them have it now and
        `n_lost` how many entities lost it. `value` is the ROC AUC over all folds with its interval
        `low` to `high`; if it is null, `reason` says why.

    Raises:
        LakeError: The task is not multi-label or has no sample at the earlier time, the vectors of
            the encoder are missing or incomplete, or no label was gained by `min_gained` entities.
    """
    row = read_task(tables, task_id)
    if row["kind"] != "multilabel":
        raise LakeError(f"{task_id} is {row['kind']}; a temporal hold-out needs a multi-label task")
    if row["family"] == TEMPORAL:
        raise LakeError(f"{task_id} is a temporal task already; take a task of another family")
    now = _labels(tables, task_id)
    past = as_of
    if not isinstance(past, PastRelease):
        earlier = tables.at(past)
        past = PastRelease(str(as_of), _samples(earlier, task_id), _labels(earlier, task_id))
    then, named = past.labels, past.name
    samples = _samples(tables, task_id).join(
        past.samples, on=["sample_id", "position", "entity_id"], how="semi"
    )
    if samples.is_empty():
        raise LakeError(
            f"no sample of {task_id} was in the lake at {named}; choose a later time "
            "(`lake.history('silver.samples')` lists them)"
        )
    vectors = read_complete_vectors(tables.delta, encoder_id)
    ids = pl.Series("entity_id", vectors.entity_ids)
    parent = prepare_task(
        row, samples, then, ids, protocol, read_holdout_groups(tables, ids, protocol)
    )
    problems, counts = [], {}
    for column, label in enumerate(parent.labels):
        before = parent.targets[:, column]
        having = now.filter(pl.col("label") == label)["sample_id"].to_list()
        after = np.isin(parent.sample_ids, having).astype(np.uint8)
        gained = int(((before == 0) & (after == 1)).sum())
        if gained < min_gained:
            continue
        counts[label] = (
            int((before == 0).sum()),
            gained,
            int(((before == 1) & (after == 0)).sum()),
        )
        split = make_split(parent.slot_folds(protocol))
        problems.append(make_temporal_problem(label, parent.rows, before, after, split, label))
    if not problems:
        raise LakeError(
            f"{task_id}: no label was gained by {min_gained} entities since {named}; choose an "
            "earlier time, or another task"
        )
    rows: list[dict[str, Any]] = []
    for done in evaluate(vectors.matrix, problems, probe, protocol, intervals=True):
        tested, gained, lost = counts[done.problem_id]
        found: dict[str, Any] = {}
        if done.intervals is not None:
            (found,) = done.intervals.filter(metric=MAIN_METRICS["binary"]).to_dicts()
        rows.append(
            {
                "task_id": task_id,
                "encoder_id": encoder_id,
                "label": done.problem_id,
                "n_tested": tested,
                "n_gained": gained,
                "n_lost": lost,
                **{name: found.get(name) for name in ("value", "low", "high")},
                "reason": done.reason,
            }
        )
    return pl.DataFrame(rows, schema=TEMPORAL_HOLDOUT_SCHEMA).sort(
        "n_gained", "label", descending=[True, False]
    )


def _labels(tables: Tables, task_id: str) -> pl.DataFrame:
    return tables.table("silver.labels").filter(pl.col("task_id") == task_id).collect()


def _samples(tables: Tables, task_id: str) -> pl.DataFrame:
    return tables.table("silver.samples").filter(pl.col("task_id") == task_id).collect()

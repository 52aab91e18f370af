"""Time travel as science: train on the labels of one day, test on what was learned since."""

from typing import Any

import numpy as np
import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.folds import split_of
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.problems import prepare
from genebench.evaluation.resplits import ask_later
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from lakehouse.curate.task_selection import read_task
from lakehouse.embed.stored_vectors import read_finished
from lakehouse.score.universes import find_groups
from lakehouse.tables.time_travel import Tables, When

LATER_SCHEMA = pl.Schema(
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


def predict_later(
    lake: Tables,
    task_id: str,
    encoder_id: str,
    as_of: "When",
    probe: Probe,
    protocol: Protocol,
    *,
    min_gained: int = 10,
) -> pl.DataFrame:
    """Train on a multi-label task as it was, test on the labels that entities have gained since.

    The earlier state is the lake's own at a time or day, that is, what the snapshots of that day
    were curated to. Only entities sampled at both times count; a gained label says that somebody
    looked, so compare with the study-bias controls.

    Args:
        lake: The lake as it is now.
        task_id: A multi-label task of single entities.
        encoder_id: An encoder that has embedded.
        as_of: The earlier time.
        probe: The probe.
        protocol: The rules; binary folds are dealt by the earlier labels.
        min_gained: Labels that fewer entities have gained are left out.

    Returns:
        `LATER_SCHEMA`, a row a label: entities without it then (tested), those that have it now
        (gained), those that lost it, the ROC AUC over folds with its interval, or why none.

    Raises:
        LakeError: The task is not multi-label or was not in the lake at that time, the encoder has
            no vectors or not yet all, or no label was gained often enough.
    """
    row = read_task(lake, task_id)
    if row["kind"] != "multilabel":
        raise LakeError(f"{task_id} is {row['kind']}; gained labels need a multi-label task")
    now, then = _labels(lake, task_id), _labels(lake.at(as_of), task_id)
    samples = _samples(lake, task_id).join(
        _samples(lake.at(as_of), task_id), on=["sample_id", "position", "entity_id"], how="semi"
    )
    if samples.is_empty():
        raise LakeError(
            f"no sample of {task_id} was in the lake at {as_of}; choose a later time "
            "(`lake.history('silver.samples')` lists them)"
        )
    vectors = read_finished(lake.delta, encoder_id)
    ids = pl.Series("entity_id", vectors.entity_ids)
    parent = prepare(row, samples, then, ids, protocol, find_groups(lake, ids, protocol))
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
        split = split_of(parent.slot_folds(protocol))
        problems.append(ask_later(label, parent.rows, before, after, split, label))
    if not problems:
        raise LakeError(
            f"{task_id}: no label was gained by {min_gained} entities since {as_of}; choose an "
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
    return pl.DataFrame(rows, schema=LATER_SCHEMA).sort(
        "n_gained", "label", descending=[True, False]
    )


def _labels(lake: Tables, task_id: str) -> pl.DataFrame:
    return lake.table("silver.labels").filter(pl.col("task_id") == task_id).collect()


def _samples(lake: Tables, task_id: str) -> pl.DataFrame:
    return lake.table("silver.samples").filter(pl.col("task_id") == task_id).collect()

"""Converts evaluations to rows of the gold tables."""

import datetime as dt
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from genebench.digest import digest_json
from genebench.evaluation.evaluate import REVISION, Evaluation
from genebench.evaluation.problems import PreparedTask
from genebench.protocols.declaration import Protocol
from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta

PACKAGES = ("numpy", "polars", "scikit-learn", "torch")


def evaluation_rows(
    items: Mapping[str, Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    run_id: str,
    batch_id: str | None = None,
) -> pl.DataFrame:
    """Build the rows of `gold.evaluations`.

    Args:
        items: Evaluation key (the problem's id) to its row of `gold.releases`.
        evaluations: The evaluations.
        run_id: The flow run.
        batch_id: The batch. The scores, intervals and predictions of these evaluations have the
            same, so that rows of other batches are not counted with them.
    """
    packages = describe_packages()
    rows = [
        {
            **_key_columns(items[evaluation.problem_id]),
            "status": evaluation.status,
            "reason": evaluation.reason or None,
            "n_samples": evaluation.n_samples,
            "n_features": evaluation.n_features,
            "n_labels": evaluation.n_labels,
            "solver": evaluation.solver or None,
            "gradient_norm": evaluation.gradient_norm or None,
            "seconds": evaluation.seconds,
            "revision": REVISION,
            "packages": packages,
            "run_id": run_id,
            "evaluated_at": dt.datetime.now(dt.UTC),
            "batch_id": batch_id,
        }
        for evaluation in evaluations
    ]
    return pl.DataFrame(rows, schema=table("gold.evaluations").schema)


def score_rows(
    items: Mapping[str, Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    run_id: str,
    batch_id: str | None = None,
) -> pl.DataFrame:
    """Build the rows of `gold.scores`; see `evaluation_rows` for the arguments."""
    schema = table("gold.scores").schema
    now = dt.datetime.now(dt.UTC)
    frames = []
    for evaluation in evaluations:
        if not evaluation.scores.height:
            continue
        item = items[evaluation.problem_id]
        repeated = {**_key_columns(item), "kind": item["kind"], "modality": item["modality"]}
        frames.append(
            evaluation.scores.with_columns(
                *(pl.lit(value).alias(name) for name, value in repeated.items()),
                pl.lit(run_id).alias("run_id"),
                pl.lit(now).alias("evaluated_at"),
                pl.lit(batch_id).alias("batch_id"),
            ).select([pl.col(name).cast(dtype) for name, dtype in schema.items()])
        )
    return pl.concat(frames) if frames else pl.DataFrame(schema=schema)


def interval_rows(
    items: Mapping[str, Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    run_id: str,
    batch_id: str | None = None,
) -> pl.DataFrame:
    """Build the rows of `gold.intervals`; see `evaluation_rows` for the arguments."""
    frames = [
        _table_rows("gold.intervals", items[one.problem_id], one.intervals, run_id, batch_id)
        for one in evaluations
        if one.intervals is not None
    ]
    return pl.concat(frames) if frames else table("gold.intervals").empty()


def prediction_rows(
    items: Mapping[str, Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    sample_ids: Mapping[str, Sequence[str]],
    run_id: str,
    batch_id: str | None = None,
) -> pl.DataFrame:
    """Build the rows of `gold.predictions`.

    Args:
        items: See `evaluation_rows`.
        evaluations: See `evaluation_rows`.
        sample_ids: Task id to the ids of its samples, in the order of its problem.
        run_id: The flow run.
        batch_id: See `evaluation_rows`.
    """
    frames = []
    for one in evaluations:
        if one.predictions is None:
            continue
        item = items[one.problem_id]
        ids = pl.Series("sample_id", sample_ids[item["task_id"]], dtype=pl.String)
        named = one.predictions.with_columns(
            ids.gather(one.predictions["sample"]).alias("sample_id"),
            pl.col("score").alias("value"),
        )
        frames.append(_table_rows("gold.predictions", item, named, run_id, batch_id))
    return pl.concat(frames) if frames else table("gold.predictions").empty()


def _table_rows(
    name: str, item: Mapping[str, Any], frame: pl.DataFrame, run_id: str, batch_id: str | None
) -> pl.DataFrame:
    fixed = {**_key_columns(item), "run_id": run_id, "batch_id": batch_id}
    return frame.select(
        (pl.lit(fixed[column]) if column in fixed else pl.col(column)).cast(dtype).alias(column)
        for column, dtype in table(name).schema.items()
    )


def _key_columns(item: Mapping[str, Any]) -> dict[str, Any]:
    names = ("evaluation_key", "family", "task_id", "encoder_id", "probe_id", "protocol_id")
    return {name: item[name] for name in names}


def describe_packages() -> str:
    """Describe the versions of the numerical packages.

    They are stored with each evaluation and are not part of its key.
    """
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def split_key(prepared: PreparedTask, protocol: Protocol) -> str:
    """Digest of everything a task's folds depend on: its samples, its labels and the fold rules."""
    return digest_json([prepared.label_digest, protocol.folds.model_dump(mode="json")])


def fold_rows(prepared: Sequence[PreparedTask], protocol: Protocol) -> pl.DataFrame:
    """Build the rows of `gold.folds` of some tasks: one per sample, position and repeat."""
    frames = []
    for task in prepared:
        slot_folds = task.slot_folds(protocol)
        n, positions, repeats = slot_folds.shape
        frames.append(
            pl.DataFrame(
                {
                    "sample_id": task.sample_ids.repeat(positions * repeats),
                    "position": [p for p in range(positions) for _ in range(repeats)] * n,
                    "repeat": list(range(repeats)) * (positions * n),
                    "fold": slot_folds.ravel(),
                },
                schema_overrides={"position": pl.Int8, "repeat": pl.Int8},
            ).select(
                pl.lit(split_key(task, protocol)).alias("split_key"),
                pl.lit(task.family).alias("family"),
                pl.lit(task.task_id).alias("task_id"),
                "sample_id",
                "position",
                "repeat",
                "fold",
            )
        )
    return pl.concat(frames) if frames else table("gold.folds").empty()


def tasks_without_folds(
    delta: Delta, prepared: Sequence[PreparedTask], protocol: Protocol
) -> list[PreparedTask]:
    """Return the tasks whose folds are not stored yet.

    Sub-tasks are left out: their folds can be recomputed from the protocol's seed.
    """
    known = set(delta.scan("gold.folds").select("split_key").unique().collect()["split_key"])
    return [
        task
        for task in prepared
        if task.parent_task_id is None and split_key(task, protocol) not in known
    ]

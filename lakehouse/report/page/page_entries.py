"""Builds the page's entry of each encoder (declaration, coverage) and each task (labels, sizes)."""

import json
from typing import Any

import numpy as np
import polars as pl

from lakehouse.embed.encoder_records import list_encoders, read_coverage
from lakehouse.report.future_marks import read_marks
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.values import plain_rows, round_value
from lakehouse.score.evidence import read_evaluations
from lakehouse.tables.time_travel import Tables

N_BINS = 24
N_SHOWN_LABELS = 60


def encoder_entries(tables: Tables, contents: Contents) -> list[dict[str, Any]]:
    """Return one entry per encoder, best first: its declaration, digest and coverage."""
    rows = {row["encoder_id"]: row for row in list_encoders(tables).iter_rows(named=True)}
    coverage = read_coverage(tables)
    marks = read_marks(tables)
    entries = []
    for encoder_id, title, modality, is_control in contents.encoders.iter_rows():
        row = rows.get(encoder_id, {})
        declared = json.loads(row.get("declaration") or "{}")
        of_encoder = coverage.filter(pl.col("encoder_id") == encoder_id)
        embedded_at = row.get("embedded_at")
        entries.append(
            {
                "id": encoder_id,
                "title": title,
                "modality": modality,
                "is_control": is_control,
                "dimension": row.get("dimension"),
                "n_entities": row.get("n_entities"),
                "digest": row.get("encoder_digest"),
                "embedded_at": f"{embedded_at:%Y-%m-%d %H:%M} UTC" if embedded_at else None,
                "coverage": plain_rows(of_encoder.drop("encoder_id")),
                **{
                    key: declared.get(key)
                    for key in ("loader", "model", "revision", "parameters", "license", "cite")
                },
                **{
                    key: declared.get(key)
                    for key in ("homepage", "description", "template", "trained")
                },
                "base": declared.get("base"),
                "mark": marks.get(encoder_id, ""),
            }
        )
    return entries


def task_entries(tables: Tables, contents: Contents) -> list[dict[str, Any]]:
    """Return one entry per task, in the order of `contents.tasks`.

    Whole tasks also have their description, label balance, coverage and row counts.
    """
    evaluated = dict(
        contents.items.lazy()
        .join(read_evaluations(tables).filter(pl.col("status") == "ok"), on="evaluation_key")
        .group_by("task_id")
        .agg(pl.col("n_samples").max())
        .collect()
        .iter_rows()
    )
    balance = _label_balance(tables, contents.leaves)
    coverage = _task_coverage(tables, contents)
    position = {task_id: number for number, task_id in enumerate(contents.tasks["task_id"])}
    entries = []
    for row in contents.tasks.iter_rows(named=True):
        task_id, parent = row["task_id"], row["parent_task_id"]
        entry = {
            "id": task_id,
            "n_evaluated": evaluated.get(task_id),
            "parent": position.get(parent) if parent else None,
            **{key: row[key] for key in ("title", "family", "kind", "entity_types", "positive")},
            **{key: row[key] for key in ("n_samples", "n_entities", "n_labels")},
            "density": round_value(row["label_density"]),
        }
        if not parent:
            entry |= {
                **{key: row[key] for key in ("description", "source", "snapshot_id", "recipe")},
                "counts": json.loads(row["counts"] or "{}"),
                "n_smallest": row["n_smallest_class"],
                "superseded_by": row["superseded_by"],
                "balance": balance.get(task_id),
                "coverage": coverage.get(task_id),
            }
        entries.append(entry)
    return entries


def _label_balance(tables: Tables, leaves: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Count the samples of each label, by task; numeric tasks get a histogram."""
    labels = tables.table("silver.labels")
    numbers = leaves.filter(pl.col("kind") == "regression")["task_id"]
    counts = (
        labels.filter(~pl.col("task_id").is_in(numbers.to_list()))
        .group_by("task_id", "label")
        .len("n")
        .sort("task_id", "n", "label", descending=[False, True, False])
        .collect()
    )
    balance: dict[str, dict[str, Any]] = {}
    for (task_id,), rows in counts.group_by("task_id", maintain_order=True):
        shown = rows.head(N_SHOWN_LABELS)
        balance[str(task_id)] = {
            "labels": shown["label"].to_list(),
            "n": shown["n"].to_list(),
            "n_more": rows.height - shown.height,
        }
    values = labels.filter(pl.col("task_id").is_in(numbers.to_list())).collect()
    for (task_id,), rows in values.group_by("task_id", maintain_order=True):
        heights, edges = np.histogram(rows["value"].to_numpy(), bins=N_BINS)
        balance[str(task_id)] = {
            "edges": [round_value(edge) for edge in edges],
            "n": heights.tolist(),
        }
    return balance


def _task_coverage(tables: Tables, contents: Contents) -> dict[str, list[float | None]]:
    """Return, by task, the share of its entities that each encoder has a vector for."""
    entity = ["entity_type", "entity_id"]
    wanted = tables.table("silver.samples").select("task_id", *entity).unique().collect()
    sizes = wanted.group_by("task_id").len("n_all")
    vectors = tables.table("silver.embeddings").select("encoder_id", *entity).collect()
    found = []
    for encoder_id in contents.encoders["encoder_id"]:
        of_encoder = vectors.filter(pl.col("encoder_id") == encoder_id)
        counts = wanted.join(of_encoder, on=entity, how="semi").group_by("task_id").len("n")
        shares = sizes.join(counts, on="task_id", how="left").select(
            "task_id", (pl.col("n").fill_null(0) / pl.col("n_all")).round(4).alias("share")
        )
        found.append(dict(shares.iter_rows()))
    return {
        task_id: [shares.get(task_id) for shares in found] for task_id in contents.leaves["task_id"]
    }

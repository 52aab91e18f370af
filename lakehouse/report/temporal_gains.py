"""Says which encoders predict what was learned later better than attention does."""

import json
from typing import Any

import polars as pl

from genebench.encoders.loader_catalogue import LOADERS
from genebench.tasks.declaration import TEMPORAL
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.tables.time_travel import Tables

# The control that knows how well each gene was studied when the labels were unknown.
ATTENTION = "publication_count_2022"
MARK = "†"


def describe_gains(tables: Tables, release: str) -> str:
    """Describe the temporal tasks of a release in one sentence, and mark texts of today.

    An encoder beats attention on a task where their paired difference is established
    (`gold.comparisons`), by the linear probe if it was used. Encoders that read texts of the
    current release have a mark: a text may have been written after the label.

    Returns:
        An empty text if the release has no comparison of an encoder with `ATTENTION`.
    """
    encoders = {row["encoder_id"]: row for row in list_encoders(tables).iter_rows(named=True)}
    rows = (
        tables.table("gold.comparisons")
        .filter((pl.col("release_id") == release) & (pl.col("family") == TEMPORAL))
        .filter((pl.col("encoder_a") == ATTENTION) | (pl.col("encoder_b") == ATTENTION))
        .collect()
    )
    if "linear" in rows["probe_id"]:
        rows = rows.filter(pl.col("probe_id") == "linear")
    is_first = pl.col("encoder_a") == ATTENTION
    rival = pl.when(is_first).then("encoder_b").otherwise("encoder_a").alias("encoder_id")
    margin = pl.when(is_first).then(-pl.col("difference")).otherwise("difference")
    found = (
        rows.with_columns(rival, ((margin > 0) & pl.col("is_established")).alias("is_better"))
        .group_by("encoder_id")
        .agg(pl.len().alias("n_tasks"), pl.col("is_better").sum().alias("n_better"))
        .sort("n_better", "encoder_id", descending=[True, False])
    )
    parts: dict[bool, list[str]] = {True: [], False: []}
    has_mark = False
    for row in found.iter_rows(named=True):
        known = encoders.get(row["encoder_id"], {})
        if known.get("is_control"):
            continue
        mark = MARK if reads_text(row["encoder_id"], encoders) else ""
        has_mark |= bool(mark)
        name = f"{known.get('title', row['encoder_id'])}{mark}"
        share = f" on {row['n_better']} of {row['n_tasks']} tasks" if row["n_better"] else ""
        parts[bool(row["n_better"])].append(name + share)
    if not any(parts.values()):
        return ""
    attention = encoders.get(ATTENTION, {}).get("title", ATTENTION)
    sentence = "; ".join(
        f"{verdict} {', '.join(names)}"
        for verdict, names in (("better:", parts[True]), ("not better:", parts[False]))
        if names
    )
    note = f" {MARK} The text may have been written after the label." if has_mark else ""
    return f"Gained labels, predicted better than by attention ({attention})? {sentence}.{note}"


def reads_text(encoder_id: str, encoders: dict[str, dict[str, Any]]) -> bool:
    """Whether an encoder, or one of those whose vectors it reads, reads texts.

    Args:
        encoder_id: The encoder.
        encoders: Encoder id to its row of `silver.encoders`.
    """
    declared = json.loads(encoders.get(encoder_id, {}).get("declaration") or "{}")
    entry = LOADERS.get(declared.get("loader", ""))
    if entry is not None and entry.reads == "text":
        return True
    base = declared.get("base") or []
    bases = [base] if isinstance(base, str) else base.values() if isinstance(base, dict) else base
    return any(reads_text(name, encoders) for name in bases)

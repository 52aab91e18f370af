"""Says which encoders predict what was learned later better than attention does."""

import polars as pl

from genebench.tasks.declaration import TEMPORAL
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.report.future_marks import describe_marks, read_marks
from lakehouse.tables.time_travel import Tables

# The control that knows how well each gene was studied when the labels were unknown.
ATTENTION = "publication_count_2022"


def describe_gains(tables: Tables, release: str) -> str:
    """Describe the temporal tasks of a release in one sentence, with the marks of encoders.

    An encoder beats attention on a task where their paired difference is established
    (`gold.comparisons`), by the linear probe if it was used.

    Returns:
        What the marks mean alone if the release has no comparison of an encoder with `ATTENTION`;
        an empty text without temporal tasks.
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
    scored = tables.table("gold.releases").filter(
        (pl.col("release_id") == release) & (pl.col("family") == TEMPORAL)
    )
    marks = read_marks(tables)
    shown = [marks.get(name, "") for name in scored.collect()["encoder_id"].unique()]
    parts: dict[bool, list[str]] = {True: [], False: []}
    for row in found.iter_rows(named=True):
        known = encoders.get(row["encoder_id"], {})
        if known.get("is_control"):
            continue
        mark = marks.get(row["encoder_id"], "")
        shown.append(mark)
        name = f"{known.get('title', row['encoder_id'])}{mark}"
        share = f" on {row['n_better']} of {row['n_tasks']} tasks" if row["n_better"] else ""
        parts[bool(row["n_better"])].append(name + share)
    if not any(parts.values()):
        return describe_marks(shown)
    attention = encoders.get(ATTENTION, {}).get("title", ATTENTION)
    sentence = "; ".join(
        f"{verdict} {', '.join(names)}"
        for verdict, names in (("better:", parts[True]), ("not better:", parts[False]))
        if names
    )
    found_better = f"Gained labels, predicted better than by attention ({attention})? {sentence}."
    return f"{found_better} {describe_marks(shown)}".rstrip()

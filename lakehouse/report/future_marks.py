"""Marks encoders that may have known the labels which genes gained later."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl

from genebench.encoders.loader_catalogue import LOADERS
from genebench.encoders.templates import list_templates, template_fields
from genebench.registry.loading import load_registry, profile_ids
from genebench.tasks.declaration import TEMPORAL
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.tables.time_travel import Tables

TEXT_MARK, MODEL_MARK = "†", "‡"
_NOTES = {
    TEXT_MARK: "The text may have been written after the label.",
    MODEL_MARK: "The model was trained on data that are newer than the known labels.",
}


def read_marks(tables: Tables) -> dict[str, str]:
    """Read the marks of the encoders of a lake, which hold for their scores of temporal tasks.

    `TEXT_MARK`: the encoder, or one of those whose vectors it reads, reads texts of a release that
    is newer than the one that the tasks take the known labels from. `MODEL_MARK`: one of them
    declares to be `trained` until a later month.

    Returns:
        Encoder id to its marks; encoders without a mark are left out.
    """
    encoders = {row["encoder_id"]: row for row in list_encoders(tables).iter_rows(named=True)}
    months = _past_months(tables)
    month = _training_month(tables, months)
    past_fields = _past_fields(tables, months, month)
    marks = {}
    for encoder_id in encoders:
        trained = trained_until(encoder_id, encoders)
        is_late = bool(month and trained and trained > month)
        has_text = reads_text(encoder_id, encoders, past_fields)
        mark = (TEXT_MARK if has_text else "") + (MODEL_MARK if is_late else "")
        if mark:
            marks[encoder_id] = mark
    return marks


def describe_marks(marks: Iterable[str]) -> str:
    """Return what the marks mean, one sentence for each that occurs; empty without any."""
    used = set("".join(marks))
    return " ".join(f"{mark} {note}" for mark, note in _NOTES.items() if mark in used)


def append_mark(value: float | None, mark: str) -> float | str | None:
    """Return a score with its mark as text; the score itself without a mark."""
    return value if value is None or not mark else f"{value:.3f}{mark}"


def mark_of(marks: Mapping[str, str], family: str = "family") -> pl.Expr:
    """Expression: the mark of the column `encoder_id` in rows of temporal tasks, else empty."""
    mark = pl.col("encoder_id").replace_strict(marks, default="", return_dtype=pl.String)
    return pl.when(pl.col(family) == TEMPORAL).then(mark).otherwise(pl.lit(""))


def reads_text(
    encoder_id: str,
    encoders: Mapping[str, Mapping[str, Any]],
    past_fields: Collection[str] = (),
) -> bool:
    """Whether an encoder, or one of those whose vectors it reads, reads texts.

    Args:
        encoder_id: The encoder.
        encoders: Encoder id to its row of `silver.encoders`.
        past_fields: Text fields that do not count.
    """
    declared = _declaration(encoder_id, encoders)
    entry = LOADERS.get(declared.get("loader", ""))
    if entry is not None and entry.reads == "text":
        fields = {
            name
            for one in list_templates(declared.get("template") or ())
            for name in template_fields(one)
        }
        return not fields or not fields.issubset(past_fields)
    return any(reads_text(name, encoders, past_fields) for name in _bases(declared))


def trained_until(encoder_id: str, encoders: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the last month that an encoder, or one whose vectors it reads, was trained until.

    Args:
        encoder_id: The encoder.
        encoders: Encoder id to its row of `silver.encoders`.

    Returns:
        A month such as `2021-08`; None where none is declared.
    """
    declared = _declaration(encoder_id, encoders)
    months = [trained_until(name, encoders) for name in _bases(declared)]
    return max(filter(None, [declared.get("trained"), *months]), default=None)


def _declaration(encoder_id: str, encoders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    declared: dict[str, Any] = json.loads(encoders.get(encoder_id, {}).get("declaration") or "{}")
    return declared


def _bases(declared: Mapping[str, Any]) -> list[str]:
    base = declared.get("base") or []
    if isinstance(base, dict):
        return list(base.values())
    return [base] if isinstance(base, str) else list(base)


def _past_months(tables: Tables) -> dict[str, str]:
    """Map each snapshot of a source that is declared as the past of another to its month."""
    profiles = tables.table("silver.tasks").select("profile_id").unique().collect()["profile_id"]
    snapshots = tables.table("bronze.snapshots").select(
        "snapshot_id", "source", "version", "published_on"
    )
    rows = snapshots.collect().rows()
    months = {}
    for profile_id in {*profiles}.intersection(profile_ids()):
        sources = load_registry(profile_id).sources
        for snapshot_id, source, version, published_on in rows:
            if source in sources and sources[source].past_of:
                day = sources[source].release_day(version) or published_on
                if day:
                    months[snapshot_id] = str(day)[:7]
    return months


def _training_month(tables: Tables, months: Mapping[str, str]) -> str | None:
    """Return the month of the oldest past release that temporal tasks read; None without one."""
    read = tables.table("silver.tasks").filter(pl.col("family") == TEMPORAL).select("snapshot_id")
    ids = {one for joined in read.collect()["snapshot_id"] for one in joined.split(",")}
    return min((months[one] for one in ids if one in months), default=None)


def _past_fields(tables: Tables, months: Mapping[str, str], month: str | None) -> set[str]:
    """Return the text fields that were all read from releases of a month or of earlier ones."""
    read = (
        tables.table("silver.inputs")
        .filter(pl.col("modality") == "text")
        .select("field", "snapshot_id")
        .unique()
        .collect()
    )
    late = {field for field, one in read.rows() if not (month and months.get(one, "~") <= month)}
    return {*read["field"]} - late

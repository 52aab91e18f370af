"""Checks rows of a lake against each other: evidence, vectors, releases, source files."""

import hashlib
from collections.abc import Iterator

import polars as pl

from lakehouse.refresh.blobs import Blobs
from lakehouse.score.evidence import EVIDENCE, find_unrecorded, read_evaluations, read_evidence
from lakehouse.score.plan import CURRENT
from lakehouse.score.tidy import find_lost_scores
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables
from lakehouse.tables.vector_pages import list_layouts
from lakehouse.upkeep.findings import RESTORE, TIDY, Finding

_VECTOR_KEY = ["encoder_id", "entity_type", "entity_id"]


def check_evidence(tables: Tables) -> Iterator[Finding]:
    """Find scores, intervals and predictions without an evaluation, and the reverse."""
    for name in EVIDENCE:
        left = find_unrecorded(tables, name)
        if left.height:
            n_rows, n_runs = int(left["n_rows"].sum()), left["run_id"].n_unique()
            what = (
                f"{n_rows:,} rows of {n_runs} runs have no evaluation on record, so nothing reads "
                "them: of interrupted runs, or of one at work"
            )
            yield Finding(name, what, TIDY, is_fault=False)
    lost = find_lost_scores(tables)
    if lost.height:
        what = f"{int(lost['n_rows'].sum()):,} evaluations on record have no scores"
        yield Finding("gold.evaluations", what, f"{TIDY}, then `genebench score`; or {RESTORE}")
    evaluations = read_evaluations(tables).collect()
    for name in EVIDENCE:
        key = list(table(name).key)
        rows = read_evidence(tables, name, evaluations).select(key).collect()
        if n_double := rows.height - rows.n_unique():
            yield Finding(name, f"{n_double:,} rows are read twice", RESTORE)


def check_vectors(tables: Tables) -> Iterator[Finding]:
    """Find encoders with too few, double or differently stored vectors."""
    delta = tables.delta
    stored = (
        tables.table("silver.embeddings")
        .group_by("encoder_id")
        .agg(
            pl.struct("entity_type", "entity_id").n_unique().alias("n_stored"),
            pl.len().alias("n_rows"),
        )
        .collect()
    )
    counts = {name: (n, rows) for name, n, rows in stored.iter_rows()}
    for row in tables.table("silver.encoders").collect().sort("encoder_id").iter_rows(named=True):
        encoder_id = row["encoder_id"]
        n_stored, n_rows = counts.pop(encoder_id, (0, 0))
        mend = f"`genebench embed {encoder_id}`"
        where = f"encoder {encoder_id}"
        if not row["is_complete"]:
            yield Finding(
                where, "its embedding was interrupted, or is at work", mend, is_fault=False
            )
        elif n_stored != row["n_entities"]:
            what = f"{n_stored:,} vectors are stored, {row['n_entities']:,} are on record"
            yield Finding(where, what, mend)
        if n_rows > n_stored:
            what = f"{n_rows - n_stored:,} vectors are stored twice and read once"
            yield Finding(where, what, mend, is_fault=False)
        files = delta.partition_files("silver.embeddings", {"encoder_id": encoder_id}) or []
        layouts = list_layouts([file for file in files if file.exists()], "vector")
        if len(layouts) > 1:
            what = f"its files have {len(layouts)} layouts of vectors, which are read slowly"
            yield Finding(where, what, mend, is_fault=False)
    for encoder_id, (n_stored, _) in counts.items():
        what = f"{n_stored:,} vectors are stored of an encoder that is not on record"
        yield Finding(f"encoder {encoder_id}", what, f"`genebench embed {encoder_id}`")


def check_releases(tables: Tables) -> Iterator[Finding]:
    """Find releases whose evaluations, universes or leaderboards are missing."""
    releases = tables.table("gold.releases").select("release_id", "evaluation_key").collect()
    finished = read_evaluations(tables).select("evaluation_key").collect()
    missing = releases.join(finished, on="evaluation_key", how="anti")
    for release, n in missing.group_by("release_id").len().sort("release_id").iter_rows():
        is_current = release.startswith(CURRENT)
        what = f"{n:,} of its evaluations are not on record"
        mend = "`genebench score`" if is_current else RESTORE
        yield Finding(f"release {release}", what, mend, is_fault=not is_current)
    known = set(releases["release_id"])
    for name, verb in (("gold.universes", "score"), ("gold.leaderboard", "report")):
        present = set(tables.table(name).select("release_id").unique().collect()["release_id"])
        for release in sorted(known - present):
            is_current = release.startswith(CURRENT)
            mend = f"`genebench {verb}`" if is_current else RESTORE
            what = f"it has no rows in {name}"
            yield Finding(f"release {release}", what, mend, is_fault=not is_current)
        for release in sorted(present - known):
            what = f"it has rows in {name} and none in gold.releases: it was being written"
            mend = f"`genebench release {release}`, or `genebench score`"
            yield Finding(f"release {release}", what, mend, is_fault=False)


def check_source_files(tables: Tables, *, has_digests: bool) -> Iterator[Finding]:
    """Find source files that are missing, truncated or changed, and snapshots without rows.

    Args:
        tables: The tables of the lake.
        has_digests: Also read each file and compare its SHA-256; else only its size.
    """
    blobs = Blobs(tables.delta.storage)
    rows = tables.table("bronze.snapshots").collect().sort("retrieved_at")
    current = rows.unique(["source", "file"], keep="last")["snapshot_id"].implode()
    named = rows.with_columns(pl.col("snapshot_id").is_in(current).alias("is_current"))
    for row in named.unique("sha256", keep="last").sort("snapshot_id").iter_rows(named=True):
        if not blobs.is_stored(row["sha256"], row["size_bytes"]):
            what = f"its file snapshots/{row['sha256']} is missing or truncated"
        elif has_digests and hash_blob(blobs, row["sha256"]) != row["sha256"]:
            what = f"its file snapshots/{row['sha256']} has changed"
        else:
            continue
        mend = f"`genebench refresh {row['source']}`" if row["is_current"] else RESTORE
        yield Finding(f"snapshot {row['snapshot_id']}", what, mend)
    yield from _find_unread_snapshots(tables, named.filter("is_current"))


def _find_unread_snapshots(tables: Tables, current: pl.DataFrame) -> Iterator[Finding]:
    """Find current snapshots that are on record as parsed and have no rows in their table."""
    parsed = set(tables.table("bronze.readings").select("snapshot_id").collect()["snapshot_id"])
    present = {name for name in tables.delta.list_tables() if name.startswith("bronze.")}
    found: set[str] = set()
    for name in present - {"bronze.snapshots", "bronze.readings"}:
        found |= set(tables.table(name).select("snapshot_id").unique().collect()["snapshot_id"])
    for row in current.filter(pl.col("snapshot_id").is_in(list(parsed))).iter_rows(named=True):
        if row["snapshot_id"] not in found:
            what = "its rows are gone from the bronze tables"
            mend = f"`genebench refresh {row['source']}`"
            yield Finding(f"snapshot {row['snapshot_id']}", what, mend)


def hash_blob(blobs: Blobs, sha256: str) -> str:
    """Compute the SHA-256 of a stored source file."""
    digest = hashlib.sha256()
    with blobs.open(sha256) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

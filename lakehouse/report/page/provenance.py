"""The page's provenance: release, evaluations without a score, table versions, packages."""

import datetime as dt
from typing import Any

import polars as pl

from lakehouse.refresh.freshness import read_freshness
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.values import plain_rows
from lakehouse.score.evidence import read_evaluations
from lakehouse.tables.time_travel import Tables


def describe_release(tables: Tables, contents: Contents, code: str) -> dict[str, Any]:
    """Return the release's counts, and the code version and time of its page."""
    universe = (
        tables.table("gold.universes")
        .filter(pl.col("release_id") == contents.release_id)
        .group_by("entity_type")
        .len()
        .sort("entity_type")
        .collect()
    )
    profiles = contents.tasks["profile_id"].drop_nulls().unique().to_list()
    return {
        "id": contents.release_id,
        "made_at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code": code,
        "profile": ", ".join(sorted(profiles)),
        "n_tasks": contents.leaves.height,
        "n_subtasks": contents.tasks.height - contents.leaves.height,
        "n_encoders": int((~contents.encoders["is_control"]).sum()),
        "n_controls": int(contents.encoders["is_control"].sum()),
        "n_evaluations": contents.items["evaluation_key"].n_unique(),
        "universe": dict(universe.iter_rows()),
    }


def unscored_rows(tables: Tables, contents: Contents) -> list[dict[str, Any]]:
    """Return the evaluations without a score, grouped by task, probe, status and reason."""
    tried = read_evaluations(tables).select("evaluation_key", "status", "reason")
    rows = (
        contents.items.lazy()
        .join(tried, on="evaluation_key", how="left")
        .filter(pl.col("status").fill_null("pending") != "ok")
        .select(
            "task_id",
            "encoder_id",
            "probe_id",
            pl.col("status").fill_null("pending"),
            pl.col("reason").fill_null("not evaluated yet; run `genebench score`"),
        )
        .group_by("task_id", "probe_id", "status", "reason")
        .agg(pl.col("encoder_id").sort())
        .sort("task_id", "probe_id", "status", "reason")
        .collect()
    )
    return plain_rows(rows)


def freshness_rows(tables: Tables, contents: Contents) -> list[dict[str, Any]]:
    """Return the version and age of each source; see `read_freshness`."""
    registry = contents.registry
    if registry is None:
        return []
    rows = read_freshness(tables, registry.sources, registry.source_files, registry.wanted_versions)
    days = pl.col("dated_on", "retrieved_on").dt.to_string()
    return rows.with_columns(days).to_dicts()


def table_rows(tables: Tables) -> list[dict[str, Any]]:
    """Return the newest commit of each table, audit tables excluded."""
    rows = []
    for name in tables.delta.list_tables():
        history = tables.history(name)
        if history.height and not name.startswith("audit."):
            last = history.row(0, named=True)
            rows.append(
                {
                    "table": name,
                    "version": last["version"],
                    "committed_at": f"{last['committed_at']:%Y-%m-%d %H:%M} UTC",
                    "code": last["code"],
                    "inputs": last["inputs"],
                }
            )
    return rows


def package_rows(tables: Tables, contents: Contents) -> list[dict[str, Any]]:
    """Return the packages, revisions and solvers of the evaluations, with their numbers."""
    rows = (
        contents.items.lazy()
        .select("evaluation_key")
        .unique()
        .join(read_evaluations(tables).filter(pl.col("status") == "ok"), on="evaluation_key")
        .group_by("packages", "revision", "solver")
        .agg(pl.len().alias("n_evaluations"), pl.col("seconds").sum().round(1))
        .sort("packages", "revision", "solver")
        .collect()
    )
    return plain_rows(rows)

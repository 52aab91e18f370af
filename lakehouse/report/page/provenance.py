"""Where the numbers of a page come from, and what is missing of them."""

import datetime as dt
from typing import Any

import polars as pl

from lakehouse.report.page.contents import Contents
from lakehouse.report.page.values import plain_rows
from lakehouse.tables.time_travel import Tables


def describe_release(lake: Tables, contents: Contents, code: str) -> dict[str, Any]:
    """The release in numbers, with the code and time of its page."""
    universe = (
        lake.table("gold.universes")
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


def undone_rows(lake: Tables, contents: Contents) -> list[dict[str, Any]]:
    """The evaluations without a score, with the reason that is on record."""
    tried = (
        lake.table("gold.evaluations")
        .sort("evaluated_at")
        .select("evaluation_key", "status", "reason")
        .unique("evaluation_key", keep="last", maintain_order=True)
    )
    rows = (
        contents.items.lazy()
        .join(tried, on="evaluation_key", how="left")
        .filter(pl.col("status").fill_null("pending") != "ok")
        .select(
            "task_id",
            "encoder_id",
            "probe_id",
            pl.col("status").fill_null("pending"),
            pl.col("reason").fill_null("not evaluated yet; `genebench score` does it"),
        )
        .group_by("task_id", "probe_id", "status", "reason")
        .agg(pl.col("encoder_id").sort())
        .sort("task_id", "probe_id", "status", "reason")
        .collect()
    )
    return plain_rows(rows)


def table_rows(lake: Tables) -> list[dict[str, Any]]:
    """The newest commit of each table."""
    rows = []
    for name in lake.delta.list_tables():
        history = lake.history(name)
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


def package_rows(lake: Tables, contents: Contents) -> list[dict[str, Any]]:
    """The packages, revisions and solvers that the evaluations were computed by."""
    rows = (
        contents.items.lazy()
        .select("evaluation_key")
        .unique()
        .join(lake.table("gold.evaluations").filter(pl.col("status") == "ok"), on="evaluation_key")
        .group_by("packages", "revision", "solver")
        .agg(pl.len().alias("n_evaluations"), pl.col("seconds").sum().round(1))
        .sort("packages", "revision", "solver")
        .collect()
    )
    return plain_rows(rows)

"""Converts the evidence of a report page to JSON values."""

from typing import Any

import polars as pl

from lakehouse.report.page.contents import Contents
from lakehouse.report.page.evidence import N_PAIRS, P_DIGITS, Standing
from lakehouse.report.page.values import index_names, round_value


def evidence_payload(contents: Contents) -> dict[str, Any]:
    """Verdicts, pairs and ranks as JSON values, by series; tasks and encoders by their place."""
    tasks = index_names(contents.tasks["task_id"].to_list())
    encoders = index_names(contents.encoders["encoder_id"].to_list())
    found = contents.evidence
    verdicts, pairs, ranks = [], [], []
    for probe, protocol in contents.series:
        mine = (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
        verdicts.append(_verdicts(found.verdicts.filter(mine), tasks, encoders))
        pairs.append(_pairs(found.comparisons.filter(mine), contents, tasks, encoders))
        ranks.append(
            {
                one.metric: _standing(one, encoders)
                for one in found.standings
                if (one.probe_id, one.protocol_id) == (probe, protocol)
            }
        )
    return {"verdicts": verdicts, "pairs": pairs, "ranks": ranks}


def _verdicts(
    rows: pl.DataFrame, tasks: dict[str, int], encoders: dict[str, int]
) -> dict[int, dict[str, Any]]:
    return {
        tasks[row["task_id"]]: {
            "verdict": row["verdict"],
            "solved_by": encoders.get(row["solved_by"]),
            "control": encoders.get(row["control_id"]),
            "noise": _maybe(row["noise"]),
            "spread": _maybe(row["spread"]),
            "n_pairs": row["n_pairs"],
            "n_established": row["n_established"],
        }
        for row in rows.iter_rows(named=True)
        if row["task_id"] in tasks
    }


def _pairs(
    rows: pl.DataFrame, contents: Contents, tasks: dict[str, int], encoders: dict[str, int]
) -> dict[str, list[Any]]:
    """One list a column."""
    if rows.height > N_PAIRS:
        known = contents.encoders.filter(~pl.col("is_control"))["encoder_id"].to_list()
        rows = rows.filter(pl.col("encoder_a").is_in(known) & pl.col("encoder_b").is_in(known))
    rows = rows.filter(pl.col("task_id").is_in(list(tasks)))
    return {
        "task": [tasks[name] for name in rows["task_id"]],
        "a": [encoders[name] for name in rows["encoder_a"]],
        "b": [encoders[name] for name in rows["encoder_b"]],
        **{name: rows[name].round(4).to_list() for name in ("difference", "low", "high")},
        "p": [round_value(p, P_DIGITS) for p in rows["p_adjusted"]],
        "p_folds": [round_value(p, P_DIGITS) for p in rows["p_folds"]],
        "is_established": rows["is_established"].cast(pl.Int8).to_list(),
    }


def _standing(one: Standing, encoders: dict[str, int]) -> dict[str, Any]:
    places = [encoders[name] for name in one.encoders]
    return {
        "encoders": places,
        "mean": [round_value(rank) for rank in one.ranking.mean_ranks],
        "n_tasks": one.ranking.n_tasks,
        "p": round_value(one.ranking.p_value, P_DIGITS),
        "critical": round_value(one.ranking.critical_difference),
        "cliques": [[places[number] for number in clique] for clique in one.ranking.cliques],
    }


def _maybe(value: float | None) -> float | None:
    return None if value is None else round_value(value)

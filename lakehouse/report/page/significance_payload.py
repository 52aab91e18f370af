"""Converts comparisons, verdicts and rankings of a release to the page's JSON values."""

from typing import Any

import polars as pl

from lakehouse.report.page.contents import Contents
from lakehouse.report.page.significance_results import MAX_PAIRS, P_DIGITS, EncoderRanking
from lakehouse.report.page.values import index_by_name, round_value


def significance_payload(contents: Contents) -> dict[str, Any]:
    """Return verdicts, pairs and ranks by series; tasks and encoders are given by position."""
    tasks = index_by_name(contents.tasks["task_id"].to_list())
    encoders = index_by_name(contents.encoders["encoder_id"].to_list())
    found = contents.significance
    verdicts, pairs, ranks = [], [], []
    for probe, protocol in contents.series:
        of_series = (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
        verdicts.append(_verdicts(found.verdicts.filter(of_series), tasks, encoders))
        pairs.append(_pairs(found.comparisons.filter(of_series), contents, tasks, encoders))
        ranks.append(
            {
                one.metric: _ranking(one, encoders)
                for one in found.rankings
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
            "noise": _round_or_none(row["noise"]),
            "spread": _round_or_none(row["spread"]),
            "n_pairs": row["n_pairs"],
            "n_established": row["n_established"],
        }
        for row in rows.iter_rows(named=True)
        if row["task_id"] in tasks
    }


def _pairs(
    rows: pl.DataFrame, contents: Contents, tasks: dict[str, int], encoders: dict[str, int]
) -> dict[str, list[Any]]:
    """Return the pairs as one list per column."""
    if rows.height > MAX_PAIRS:
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


def _ranking(one: EncoderRanking, encoders: dict[str, int]) -> dict[str, Any]:
    positions = [encoders[name] for name in one.encoders]
    return {
        "encoders": positions,
        "mean": [round_value(rank) for rank in one.ranking.mean_ranks],
        "n_tasks": one.ranking.n_tasks,
        "p": round_value(one.ranking.p_value, P_DIGITS),
        "critical": round_value(one.ranking.critical_difference),
        "cliques": [[positions[number] for number in clique] for clique in one.ranking.cliques],
    }


def _round_or_none(value: float | None) -> float | None:
    return None if value is None else round_value(value)

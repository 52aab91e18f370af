"""What the numbers of a report can bear: intervals, pairs of encoders, verdicts and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from genebench.comparison import Ranking
from genebench.errors import LakeError
from genebench.metrics import MAIN_METRICS
from lakehouse.report.values import index_names, round_value
from lakehouse.uncertainty import rank_over_tasks, stored_rows

if TYPE_CHECKING:
    from lakehouse.queries import Lake
    from lakehouse.report.contents import Contents

# Beyond these, pairs with a control are left to `gold.comparisons`: the page stays small.
N_PAIRS = 40_000
P_DIGITS = 2


@dataclass(frozen=True)
class Standing:
    """Encoders ranked over the tasks of one probe, protocol and metric.

    Attributes:
        probe_id: The probe.
        protocol_id: The protocol.
        metric: The metric.
        encoders: Ids, in the order of the ranking's arrays.
        ranking: Mean ranks with their critical difference.
    """

    probe_id: str
    protocol_id: str
    metric: str
    encoders: list[str]
    ranking: Ranking


@dataclass(frozen=True)
class Evidence:
    """A release's rows of `gold.comparisons` and `gold.verdicts`, and its rankings."""

    comparisons: pl.DataFrame
    verdicts: pl.DataFrame
    standings: list[Standing]


def read_evidence(lake: "Lake", release: str, series: Sequence[tuple[str, str]]) -> Evidence:
    """Read what `genebench report` found of a release; empty frames where it has not run.

    Args:
        lake: The lake.
        release: The release.
        series: Its (probe_id, protocol_id).
    """
    standings = []
    for probe, protocol in series:
        for metric in dict.fromkeys(MAIN_METRICS.values()):
            try:
                encoders, ranking = rank_over_tasks(lake, release, metric, probe)
            except LakeError:
                # Too few encoders or tasks for a ranking.
                continue
            standings.append(Standing(probe, protocol, metric, encoders, ranking))
    comparisons = stored_rows(lake, "gold.comparisons", release)
    return Evidence(comparisons, stored_rows(lake, "gold.verdicts", release), standings)


def evidence_payload(contents: "Contents") -> dict[str, Any]:
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
    rows: pl.DataFrame, contents: "Contents", tasks: dict[str, int], encoders: dict[str, int]
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

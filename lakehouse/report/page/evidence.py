"""What the numbers of a report can bear: intervals, pairs of encoders, verdicts and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.statistics.ranking import Ranking
from lakehouse.report.significance import rank_release, stored_rows
from lakehouse.tables.time_travel import Tables

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


def read_evidence(lake: Tables, release: str, series: Sequence[tuple[str, str]]) -> Evidence:
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
                encoders, ranking = rank_release(lake, release, metric, probe)
            except LakeError:
                # Too few encoders or tasks for a ranking.
                continue
            standings.append(Standing(probe, protocol, metric, encoders, ranking))
    comparisons = stored_rows(lake, "gold.comparisons", release)
    return Evidence(comparisons, stored_rows(lake, "gold.verdicts", release), standings)

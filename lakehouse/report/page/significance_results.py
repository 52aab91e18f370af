"""Reads the significance results of a release: comparisons, verdicts and rankings."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.statistics.ranking import Ranking
from lakehouse.report.significance import rank_release, stored_rows
from lakehouse.tables.time_travel import Tables

# With more pairs than this, the page leaves out pairs with a control to stay small.
MAX_PAIRS = 40_000
P_DIGITS = 2


@dataclass(frozen=True)
class EncoderRanking:
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
class SignificanceResults:
    """A release's rows of `gold.comparisons` and `gold.verdicts`, and its encoder rankings."""

    comparisons: pl.DataFrame
    verdicts: pl.DataFrame
    rankings: list[EncoderRanking]


def read_significance(
    tables: Tables, release: str, series: Sequence[tuple[str, str]]
) -> SignificanceResults:
    """Read the results that `genebench report` stored; empty frames if it has not run.

    Args:
        tables: The tables of the lake.
        release: The release.
        series: The (probe_id, protocol_id) pairs of the release.
    """
    rankings = []
    for probe, protocol in series:
        for metric in dict.fromkeys(MAIN_METRICS.values()):
            try:
                encoders, ranking = rank_release(tables, release, metric, probe)
            except LakeError:
                # Too few encoders or tasks for a ranking.
                continue
            rankings.append(EncoderRanking(probe, protocol, metric, encoders, ranking))
    comparisons = stored_rows(tables, "gold.comparisons", release)
    return SignificanceResults(comparisons, stored_rows(tables, "gold.verdicts", release), rankings)

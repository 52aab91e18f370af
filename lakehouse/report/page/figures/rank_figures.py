"""Draws critical-difference diagrams: mean ranks of encoders over tasks (Demšar 2006, figure 1)."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from genebench.evaluation.metrics import METRICS
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.figures.figure import (
    GREY,
    STEP,
    Figure,
    colour_by_modality,
    name_encoders,
)
from lakehouse.report.page.significance_results import EncoderRanking

WIDTH = 460
BARE = alt.ViewBackground(stroke=None)


def draw_rank_figures(contents: Contents) -> Iterator[Figure]:
    """Draw one figure per main metric, by the release's first probe and protocol."""
    for ranked in contents.significance.rankings:
        if (ranked.probe_id, ranked.protocol_id) == contents.series[0]:
            yield draw_ranking(ranked, contents.encoders)


def draw_ranking(ranked: EncoderRanking, encoders: pl.DataFrame) -> Figure:
    """Draw mean ranks as points, and each group without significant differences as a bar.

    Args:
        ranked: The encoders and their ranking.
        encoders: encoder_id, title, modality and is_control.
    """
    ranking = ranked.ranking
    names = encoders.select("encoder_id", "modality").join(name_encoders(encoders), on="encoder_id")
    rows = (
        pl.DataFrame({"encoder_id": ranked.encoders, "rank": ranking.mean_ranks.round(3)})
        .join(names, on="encoder_id")
        .sort("rank", "encoder")
    )
    order = rows["encoder"].to_list()
    rank_of = dict(zip(ranked.encoders, ranking.mean_ranks, strict=True))
    low, high = 1.0, float(max(len(order), ranking.mean_ranks.max()))
    scale = alt.Scale(domain=[low - 0.15, high + 0.15], nice=False)
    x = alt.X("rank:Q", title="mean rank, 1 is best", scale=scale, axis=alt.Axis(tickMinStep=1))
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=x,
            y=alt.Y("encoder:N", title=None, sort=order),
            color=colour_by_modality(rows),
            tooltip=["encoder", "rank"],
        )
        .properties(width=WIDTH, height=alt.Step(STEP + 4))
    )
    groups = [
        {"group": f"group {number + 1}", "low": min(ranks) - 0.04, "high": max(ranks) + 0.04}
        for number, clique in enumerate(ranking.cliques)
        for ranks in [[float(rank_of[ranked.encoders[one]]) for one in clique]]
    ]
    critical = {
        "low": low,
        "high": low + ranking.critical_difference,
        "label": "critical difference",
    }
    chart = alt.vconcat(
        _critical_difference_bar(critical, scale), points, *_group_bars(groups, scale), spacing=10
    )
    metric = METRICS[ranked.metric]
    return Figure(
        f"encoder_ranks_{ranked.metric}",
        f"Mean ranks by {metric.title}",
        f"Over {ranking.n_tasks} tasks that all of these encoders were scored on; near-duplicate "
        "tasks share the weight of one, and controls take no part. Encoders whose ranks differ by "
        f"less than the critical difference of {ranking.critical_difference:.2f} do not differ "
        "significantly (Nemenyi's test, level 0.05); each grey bar below spans such a group. "
        f"Friedman's test that all encoders are equal: p = {ranking.p_value:.2g} (with the "
        "correction of Iman and Davenport).",
        chart.resolve_scale(x="shared"),
    )


def _critical_difference_bar(row: dict[str, Any], scale: alt.Scale) -> Any:
    """Draw the critical difference as a line above the points."""
    base = alt.Chart(alt.InlineData(values=[row])).properties(width=WIDTH, height=26, view=BARE)
    x = alt.X("low:Q", scale=scale, axis=None)
    line = base.mark_rule(strokeWidth=3, color=GREY, clip=True).encode(x=x, x2="high:Q")
    label = base.mark_text(align="left", dx=4, dy=-9, color=GREY).encode(x=x, text="label:N")
    return (line + label).properties(view=BARE)


def _group_bars(groups: list[dict[str, Any]], scale: alt.Scale) -> list[Any]:
    """Draw each group without significant differences as a bar; no chart if there is none."""
    if not groups:
        return []
    bars = (
        alt.Chart(alt.InlineData(values=groups))
        .mark_bar(color=GREY, height=5, cornerRadius=2)
        .encode(
            x=alt.X("low:Q", scale=scale, axis=None),
            x2="high:Q",
            y=alt.Y("group:N", title=None, sort=None, axis=alt.Axis(ticks=False, domain=False)),
        )
        .properties(width=WIDTH, height=alt.Step(14), view=BARE)
    )
    return [bars]

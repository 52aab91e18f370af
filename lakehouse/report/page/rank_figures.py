"""Mean ranks of encoders over tasks, with what cannot be told apart (Demšar 2006, figure 1)."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from genebench.evaluation.metrics import METRICS
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.evidence import Standing
from lakehouse.report.page.figures import STEP, Figure, colour_by_modality, name_encoders

WIDTH = 460
GREY = "#8A8F98"
BARE = alt.ViewBackground(stroke=None)


def draw_ranks(contents: Contents) -> Iterator[Figure]:
    """One figure for each main metric by the first probe and protocol that ranks encoders."""
    for standing in contents.evidence.standings:
        if (standing.probe_id, standing.protocol_id) == contents.series[0]:
            yield draw_standing(standing, contents.encoders)


def draw_standing(standing: Standing, encoders: pl.DataFrame) -> Figure:
    """Mean ranks as points, each group that cannot be told apart as a bar across them.

    Args:
        standing: The ranks.
        encoders: encoder_id, title, modality and is_control.
    """
    ranking = standing.ranking
    names = encoders.select("encoder_id", "modality").join(name_encoders(encoders), on="encoder_id")
    rows = (
        pl.DataFrame({"encoder_id": standing.encoders, "rank": ranking.mean_ranks.round(3)})
        .join(names, on="encoder_id")
        .sort("rank", "encoder")
    )
    order = rows["encoder"].to_list()
    place = dict(zip(standing.encoders, ranking.mean_ranks, strict=True))
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
        {"group": f"alike {number + 1}", "low": min(ranks) - 0.04, "high": max(ranks) + 0.04}
        for number, clique in enumerate(ranking.cliques)
        for ranks in [[float(place[standing.encoders[one]]) for one in clique]]
    ]
    reach = {"low": low, "high": low + ranking.critical_difference, "words": "critical difference"}
    chart = alt.vconcat(_reach(reach, scale), points, *_bars(groups, scale), spacing=10)
    metric = METRICS[standing.metric]
    return Figure(
        f"encoder_ranks_{standing.metric}",
        f"Mean ranks by {metric.title}",
        f"Over {ranking.n_tasks} tasks that all of these encoders were scored on, near-duplicate "
        "tasks sharing a weight; no control takes part. Ranks closer than the critical difference "
        f"of {ranking.critical_difference:.2f} cannot be told apart (Nemenyi, level 0.05): each "
        "grey bar below spans encoders that are alike. That all are equal has "
        f"p = {ranking.p_value:.2g} (Friedman, as Iman and Davenport).",
        chart.resolve_scale(x="shared"),
    )


def _reach(row: dict[str, Any], scale: alt.Scale) -> Any:
    """The critical difference as a length above the points."""
    base = alt.Chart(alt.InlineData(values=[row])).properties(width=WIDTH, height=26, view=BARE)
    x = alt.X("low:Q", scale=scale, axis=None)
    line = base.mark_rule(strokeWidth=3, color=GREY, clip=True).encode(x=x, x2="high:Q")
    words = base.mark_text(align="left", dx=4, dy=-9, color=GREY).encode(x=x, text="words:N")
    return (line + words).properties(view=BARE)


def _bars(groups: list[dict[str, Any]], scale: alt.Scale) -> list[Any]:
    """Each group that cannot be told apart as a bar; no chart where there is none."""
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

"""Draws the scores of one probe against those of another."""

import math

import altair as alt
import polars as pl

from lakehouse.report.page.figures.figure import (
    GREY,
    Figure,
    colour_by_modality,
    shape_by_modality,
)
from lakehouse.report.page.figures.similarity import pearson_correlation


def draw_probe_agreement(
    means: pl.DataFrame, first: str, second: str, protocol: str
) -> Figure | None:
    """Draw one probe against another, one point per task and encoder (Fig. S12: MLP, logistic).

    Args:
        means: task, encoder, modality, probe_id, protocol_id, metric and mean.
        first: The probe on the x axis.
        second: The probe on the y axis.
        protocol: The protocol of both.

    Returns:
        The figure; None if the probes have no common task with a ROC AUC.
    """
    rows = means.filter((pl.col("metric") == "roc_auc") & (pl.col("protocol_id") == protocol))
    key = ["task", "encoder", "modality"]
    sides = [rows.filter(pl.col("probe_id") == p).select(*key, "mean") for p in (first, second)]
    both = sides[0].join(sides[1], on=key, suffix="_other").sort(key)
    if not both.height:
        return None
    competitors = both.filter(pl.col("modality") != "control")
    r = pearson_correlation(competitors["mean"].to_numpy(), competitors["mean_other"].to_numpy())
    values = both["mean"].to_list() + both["mean_other"].to_list()
    low = math.floor(10 * min(values) - 0.2) / 10
    line = alt.Chart(alt.InlineData(values=[{"v": low}, {"v": 1.0}])).mark_line(
        strokeDash=[3, 3], color=GREY, clip=True
    )
    domain = alt.Scale(domain=[low, 1.02], nice=False, zero=False)
    points = (
        alt.Chart(both)
        .mark_point(filled=True, size=36, opacity=0.65, clip=True)
        .encode(
            x=alt.X("mean:Q", title=f"ROC AUC, {first} probe", scale=domain),
            y=alt.Y("mean_other:Q", title=f"ROC AUC, {second} probe", scale=domain),
            color=colour_by_modality(both),
            shape=shape_by_modality(),
            tooltip=["task", "encoder", "mean", "mean_other"],
        )
    )
    correlation = f"Pearson's r = {r:.3f}" if r is not None else "Too few values for a correlation"
    chart = alt.layer(line.encode(x="v:Q", y="v:Q"), points).properties(width=380, height=380)
    return Figure(
        f"probe_agreement_{second}",
        f"{second} against {first}",
        f"Each point is a task and an encoder; on the dashed line both probes are equal. "
        f"{correlation} over {competitors.height:,} points without controls. Sub-tasks are not "
        "drawn.",
        chart,
    )

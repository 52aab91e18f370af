"""Templates of the charts that the page draws in the browser for an opened task.

Each is a Vega-Lite specification without data; the page adds its rows as the data set `rows`.
"""

from typing import Any

import altair as alt

from lakehouse.report.page.figures.figure import COLOURS, GREY, SHAPES

_ROWS = alt.NamedData(name="rows")


def folds_chart() -> Any:
    """Return the chart of every fold of every encoder, with the mean as a tick.

    Rows: encoder, modality, fold, value, mean, sd, order (of the encoders), chance (or null).
    """
    y = alt.Y("encoder:N", title=None, sort=alt.EncodingSortField("order", op="min"))
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False, nice=True))
    base = alt.Chart(_ROWS)
    chance = (
        base.transform_filter("datum.chance != null")
        .mark_rule(strokeDash=[3, 3], color=GREY, opacity=0.8)
        .encode(x=alt.X("max(chance):Q"))
    )
    means = base.mark_tick(thickness=3, size=15).encode(
        y=y, x=alt.X("max(mean):Q"), color=_colour()
    )
    folds = base.mark_point(filled=True, size=42, opacity=0.6).encode(
        y=y,
        x=x,
        color=_colour(),
        shape=alt.Shape(
            "modality:N",
            scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip("encoder:N"),
            alt.Tooltip("fold:O"),
            alt.Tooltip("value:Q", format=".4f"),
            alt.Tooltip("mean:Q", format=".4f"),
            alt.Tooltip("sd:Q", format=".4f"),
        ],
    )
    return alt.layer(chance, folds, means).properties(width="container")


def _colour() -> alt.Color:
    return alt.Color(
        "modality:N",
        title="modality",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=None,
    )


def balance_chart() -> Any:
    """Return the bar chart of samples per label. Rows: label, n, order."""
    return (
        alt.Chart(_ROWS)
        .mark_bar(color=COLOURS["text"], cornerRadiusEnd=2)
        .encode(
            y=alt.Y("label:N", title=None, sort=alt.EncodingSortField("order", op="min"),
                    axis=alt.Axis(labelLimit=180)),
            x=alt.X("n:Q", title="samples", axis=alt.Axis(tickCount=4)),
            tooltip=["label:N", alt.Tooltip("n:Q", format=",")],
        )
        .properties(width="container")
    )  # fmt: skip


def histogram_chart() -> Any:
    """Return the histogram of a regression task's numbers. Rows: low, high, n."""
    return (
        alt.Chart(_ROWS)
        .mark_bar(color=COLOURS["text"])
        .encode(
            x=alt.X("low:Q", title="value", bin="binned"),
            x2="high:Q",
            y=alt.Y("n:Q", title="samples"),
            tooltip=["low:Q", "high:Q", alt.Tooltip("n:Q", format=",")],
        )
        .properties(width="container", height=150)
    )

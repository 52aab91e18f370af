"""Draws the mean of each encoder over the tasks of each family."""

import math

import altair as alt
import polars as pl

from genebench.evaluation.metrics import METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.report.page.contents import OVERALL_TITLE
from lakehouse.report.page.figures.figure import (
    GREY,
    STEP,
    Figure,
    colour_by_modality,
    encoder_names,
    name_encoders,
    shape_by_modality,
    tooltips,
)


def draw_family_means(board: pl.DataFrame, encoders: pl.DataFrame, metric: str) -> Figure:
    """Draw mean and deviation over the tasks of each family (Fig. 2 by ROC AUC, S1 by F1).

    Args:
        board: Rows of `gold.leaderboard` of one metric, probe and protocol.
        encoders: encoder_id, title, modality and is_control, best first.
        metric: The metric.
    """
    info = METRICS[metric]
    titles = FAMILY_TITLES | {OVERALL: OVERALL_TITLE}
    scopes = [OVERALL, *FAMILY_TITLES]
    rows = board.join(name_encoders(encoders), on="encoder_id").select(
        "encoder",
        "modality",
        pl.col("scope").replace(titles).alias("family"),
        pl.col("mean").round(4),
        pl.col("sd").round(4),
        "n_tasks",
        "n_missing",
        (pl.col("mean") - pl.col("sd")).round(4).alias("low"),
        (pl.col("mean") + pl.col("sd")).round(4).alias("high"),
    )
    present = [titles[scope] for scope in scopes if titles[scope] in rows["family"]]
    y = alt.Y("encoder:N", title=None, sort=encoder_names(encoders))
    scale = _mean_scale(metric, rows)
    base = alt.Chart().properties(width=190, height=alt.Step(STEP))
    span = base.mark_rule(strokeWidth=2, opacity=0.55, clip=True).encode(
        y=y, x=alt.X("low:Q", title=info.title, scale=scale), x2="high:Q",
        color=colour_by_modality(rows),
    )  # fmt: skip
    point = base.mark_point(filled=True, size=70, opacity=1, clip=True).encode(
        y=y,
        x=alt.X("mean:Q", title=info.title, scale=scale),
        color=colour_by_modality(rows),
        shape=shape_by_modality(),
        tooltip=tooltips("encoder", "family", "mean", "sd", "n_tasks", "n_missing"),
    )
    layers = [span, point]
    left = scale.to_dict().get("domain", [-math.inf])[0]
    hidden = int((rows["mean"] < left).sum())
    if hidden:
        beyond = base.transform_filter(alt.datum.mean < left).mark_text(text="◂", fontSize=16, dx=6)
        layers.append(
            beyond.encode(
                y=y,
                x=alt.XDatum(left, scale=scale, title=info.title),
                color=colour_by_modality(rows),
            )
        )
    if info.chance is not None:
        chance = base.mark_rule(strokeDash=[3, 3], opacity=0.6, color=GREY)
        at_chance = alt.XDatum(info.chance, scale=scale, title=info.title)
        layers.insert(0, chance.encode(x=at_chance))
    chart = (
        alt.layer(*layers, data=rows)
        .facet(
            facet=alt.Facet("family:N", title=None, sort=present),
            columns=3,
        )
        .resolve_scale(y="shared")
    )
    note = "The dashed line is chance. " if info.chance is not None else ""
    if hidden:
        note += f"An arrow marks a mean below {left:g}; the leaderboard gives its value. "
    return Figure(
        f"family_means_{metric}",
        f"{info.title} by family",
        f"Points are means over the tasks of each family, lines their population deviation. "
        f"Overall is the mean of the family means. {note}"
        "Grey diamonds are controls, whose result is known in advance.",
        chart,
    )


def _mean_scale(metric: str, rows: pl.DataFrame) -> alt.Scale:
    info = METRICS[metric]
    if info.low is None:
        # Very low values would compress the scale; they are drawn as arrows at its left end.
        low = max(-1.0, min(0.0, *rows["mean"].to_list()))
        return alt.Scale(domain=[math.floor(low * 10 - 0.5) / 10, 1.02], nice=False)
    if info.high != 1:
        return alt.Scale(zero=False)
    low = min(rows["mean"].to_list())
    # The scale ends at 1.02 so that points at 1 are not clipped.
    return alt.Scale(domain=[max(0.0, math.floor(low * 10 - 0.5) / 10), 1.02], nice=False)

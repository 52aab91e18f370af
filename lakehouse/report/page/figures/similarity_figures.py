"""Draws correlation heat maps of encoders and of tasks, below their dendrograms."""

from collections.abc import Iterator

import altair as alt
import polars as pl

from lakehouse.report.page.figures.figure import (
    CELL,
    GREY,
    Figure,
)
from lakehouse.report.page.figures.similarity import Similarity, correlate_columns

N_TASKS_COMPARED = 120


def draw_similarity_figures(aucs: pl.DataFrame) -> Iterator[Figure]:
    """Draw the similarity of encoders (Fig. S10) and of tasks (Fig. S11).

    Args:
        aucs: task, encoder, modality and mean ROC AUC.
    """
    without_controls = aucs.filter(pl.col("modality") != "control")
    encoders = correlate_columns(aucs.select("encoder", "task", "mean"), "encoder", "task")
    if encoders is not None:
        is_partial = len(encoders.names) < aucs["encoder"].n_unique()
        yield draw_similarity(
            encoders,
            "encoder_similarity",
            "Similarity of encoders",
            f"Spearman correlation of two encoders over the ROC AUC of "
            f"{aucs['task'].n_unique()} tasks, controls included. The tree is an average linkage "
            "on 1 minus correlation."
            + (" Encoders without a score on some task are not drawn." if is_partial else ""),
        )
    shown = (
        without_controls.group_by("task").agg(pl.col("mean").std().fill_null(0).alias("spread"))
        .sort("spread", "task", descending=[True, False]).head(N_TASKS_COMPARED)
    )  # fmt: skip
    n_all = without_controls["task"].n_unique()
    rows = without_controls.join(shown, on="task", how="semi").select("encoder", "task", "mean")
    tasks = correlate_columns(rows, "task", "encoder")
    if tasks is not None:
        n_hidden = n_all - len(tasks.names)
        yield draw_similarity(
            tasks,
            "task_similarity",
            "Similarity of tasks",
            "Spearman correlation of two tasks over the ROC AUC of "
            f"{without_controls['encoder'].n_unique()} encoders without controls, in the order of "
            "the tree above. A task on which all encoders have the same score has correlation 0."
            + (f" {n_hidden} of {n_all} tasks are not drawn." if n_hidden else ""),
        )


def draw_similarity(similarity: Similarity, id_: str, title: str, caption: str) -> Figure:
    """Draw a correlation heat map below its dendrogram (Fig. S10, S11)."""
    n = len(similarity.names)
    step = CELL if n <= 20 else 18 if n <= 40 else 11
    cells = [
        {"a": a, "b": b, "correlation": round(float(similarity.correlation[i, j]), 3)}
        for i, a in enumerate(similarity.names)
        for j, b in enumerate(similarity.names)
    ]
    corners = [
        {"link": number, "corner": corner, "x": x, "height": round(height, 4)}
        for number, link in enumerate(similarity.links)
        for corner, (x, height) in enumerate(link)
    ]
    tree = (
        alt.Chart(pl.DataFrame(corners))
        .mark_line(color=GREY, strokeWidth=1.5, interpolate="linear")
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, n], nice=False)),
            y=alt.Y("height:Q", title="distance", axis=alt.Axis(tickCount=3, grid=False)),
            detail="link:N",
            order="corner:O",
        )
        .properties(width=n * step, height=70)
    )
    base = alt.Chart(pl.DataFrame(cells)).encode(
        x=alt.X("a:N", title=None, sort=similarity.names,
                axis=alt.Axis(labelAngle=-45, labelLimit=200, ticks=False, domain=False)),
        y=alt.Y("b:N", title=None, sort=similarity.names,
                axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
        tooltip=["a:N", "b:N", "correlation:Q"],
    )  # fmt: skip
    heat = base.mark_rect().encode(
        color=alt.Color(
            "correlation:Q",
            title="Spearman correlation",
            scale=alt.Scale(scheme="purpleorange", domain=[-1, 1], reverse=True),
            legend=alt.Legend(orient="bottom", gradientLength=200),
        )
    )
    if step == CELL:
        heat = heat + base.mark_text(fontSize=10).encode(
            text=alt.Text("correlation:Q", format=".2f"),
            color=alt.condition("abs(datum.correlation) > 0.75", alt.value("#ffffff"),
                                alt.value("#101418")),
        )  # fmt: skip
    chart = alt.vconcat(
        tree, heat.properties(width=n * step, height=n * step), spacing=4, bounds="flush"
    )
    return Figure(id_, title, caption, chart)

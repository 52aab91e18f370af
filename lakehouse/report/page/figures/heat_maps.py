"""Draws heat maps of means: tasks by encoders, and the labels of a task by encoders."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.figures.figure import (
    CELL,
    STEP,
    Figure,
    encoder_names,
    name_encoders,
    tooltips,
)

# With more columns than this, cells are small and have no numbers.
TEXT_CELLS = 40


def draw_task_means(rows: pl.DataFrame, encoders: pl.DataFrame, metric: str) -> Figure:
    """Draw the mean over folds of each task by each encoder (Fig. S2).

    Args:
        rows: task, encoder, family_title, mean and sd of one metric.
        encoders: encoder_id, title and is_control, best first.
        metric: The metric.
    """
    info = METRICS[metric]
    order = [title for title in encoder_names(encoders) if title in rows["encoder"]]
    families = [title for title in FAMILY_TITLES.values() if title in rows["family_title"]]
    families += sorted(set(rows["family_title"]) - set(families))
    parts = [
        _heat_map(
            rows.filter(pl.col("family_title") == family).select("task", "encoder", "mean", "sd"),
            x="encoder",
            y="task",
            order=order,
            title=info.title,
            domain=_colour_domain(metric),
            has_names=family == families[0],
        ).properties(
            title=alt.TitleParams(family, anchor="start", frame="group", fontSize=12, offset=4)
        )
        for family in families
    ]
    chart = alt.vconcat(*parts, spacing=26, bounds="flush").resolve_scale(color="shared")
    kinds = "numeric" if metric == MAIN_METRICS["regression"] else "classification"
    lower = " < -99 marks lower means." if info.low is None else ""
    return Figure(
        f"task_means_{metric}",
        f"{info.title} of every task",
        f"Mean over folds of every {kinds} task, encoders from best to worst, without sub-tasks of "
        f"single labels.{lower}",
        chart,
    )


def _colour_domain(metric: str) -> list[float]:
    info = METRICS[metric]
    if metric == "roc_auc":
        return [0.4, 1.0]
    return [0.0, 1.0] if info.high == 1 else [-1.0, 1.0]


def _heat_map(
    rows: pl.DataFrame,
    *,
    x: str,
    y: str,
    order: list[str],
    title: str,
    domain: list[float],
    has_names: bool = True,
) -> Any:
    """Draw a heat map; cells show their numbers if there are at most `TEXT_CELLS` columns.

    Args:
        rows: The columns named by x and y, mean and, optionally, sd.
        x: The column of the horizontal axis.
        y: The column of the vertical axis.
        order: All values of the horizontal axis, so that stacked heat maps are aligned.
        title: The title of the colour scale.
        domain: The lowest and highest value of the colour scale.
        has_names: Whether the columns are named above the heat map.
    """
    names = alt.Axis(orient="top", labelAngle=-45, labelLimit=170, ticks=False, domain=False)
    base = alt.Chart(rows).encode(
        x=alt.X(
            f"{x}:N",
            title=None,
            scale=alt.Scale(domain=order),
            axis=names if has_names else None,
        ),
        y=alt.Y(f"{y}:N", title=None, axis=alt.Axis(labelLimit=260, ticks=False, domain=False)),
    )
    cells = base.mark_rect(stroke="white", strokeOpacity=0.25).encode(
        color=alt.Color(
            "mean:Q",
            title=title,
            scale=alt.Scale(scheme="viridis", domain=domain, clamp=True),
            legend=alt.Legend(orient="bottom", gradientLength=200),
        ),
        tooltip=tooltips(x, y, "mean", *(["sd"] if "sd" in rows.columns else [])),
    )
    if len(order) > TEXT_CELLS:
        return cells.properties(width=alt.Step(14), height=alt.Step(14))
    middle = (domain[0] + domain[1]) / 2
    # A very low R² has more digits than fit into a cell.
    number = "datum.mean < -99.99 ? '< -99' : format(datum.mean, '.2f')"
    numbers = base.transform_calculate(number=number).mark_text(fontSize=10).encode(
        text=alt.Text("number:N"),
        color=alt.condition(alt.datum.mean > middle + 0.05 * (domain[1] - domain[0]),
                            alt.value("#101418"), alt.value("#ffffff")),
    )  # fmt: skip
    return (cells + numbers).properties(width=alt.Step(CELL), height=alt.Step(STEP))


def draw_label_figures(
    contents: Contents, means: pl.DataFrame, series: tuple[str, str]
) -> Iterator[Figure]:
    """Draw one figure per multi-label task (Fig. S3 to S9), from its sub-tasks or its labels."""
    probe, protocol = series
    by_label = contents.labels.filter(
        (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
    ).join(name_encoders(contents.encoders), on="encoder_id")
    subtasks = means.filter(
        pl.col("parent_task_id").is_not_null() & (pl.col("metric") == "roc_auc")
    ).join(contents.tasks.select("task_id", pl.col("label_names").list.last().alias("label")),
           on="task_id")  # fmt: skip
    for row in contents.leaves.filter(pl.col("kind") == "multilabel").iter_rows(named=True):
        of_task = subtasks.filter(pl.col("parent_task_id") == row["task_id"])
        if not of_task.height:
            of_task = by_label.filter(pl.col("task_id") == row["task_id"])
        of_task = of_task.select("label", "encoder", pl.col("mean").round(4))
        if of_task.height:
            yield draw_label_means(of_task, contents.encoders, row["task_id"], row["title"])


def draw_label_means(
    rows: pl.DataFrame, encoders: pl.DataFrame, task_id: str, title: str
) -> Figure:
    """Draw the mean ROC AUC of each label of one multi-label task (Fig. S3 to S9).

    Args:
        rows: label, encoder and mean.
        encoders: encoder_id, title and is_control, best first.
        task_id: The task.
        title: The task's title.
    """
    chart = _heat_map(
        rows,
        x="encoder",
        y="label",
        order=[name for name in encoder_names(encoders) if name in rows["encoder"]],
        title="ROC AUC",
        domain=_colour_domain("roc_auc"),
    )
    return Figure(
        f"label_means_{task_id}",
        f"{title}: ROC AUC of each label",
        "Mean over folds of each label alone: present against absent.",
        chart,
    )

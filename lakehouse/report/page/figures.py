"""The paper's figures, drawn from a release by Vega-Altair.

One function a figure, each from plain frames to a chart; where a figure stands in the paper is
said at the function. Controls are grey diamonds or named in grey, so that none is read as a
competitor.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.report.page.contents import OVERALL_TITLE, Contents
from lakehouse.report.page.similarity import Similarity, compare_columns, correlate_pairs

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = {
    "text": "#0072B2",
    "expression": "#009E73",
    "protein": "#D55E00",
    "dna": "#CC79A7",
    "classical": "#E69F00",
    "control": "#8A8F98",
}
SHAPES = {name: "diamond" if name == "control" else "circle" for name in COLOURS}
N_TASKS_COMPARED = 120
STEP = 18
CELL = 34
TEXT_CELLS = 40
FAMILY_METRICS = ("roc_auc", "f1", "accuracy", "average_precision", "r2")


@dataclass(frozen=True)
class Figure:
    """A chart with its words.

    Attributes:
        id: Slug; the name of its files.
        title: What it shows.
        caption: How to read it, and what is left out.
        chart: The Vega-Altair chart.
    """

    id: str
    title: str
    caption: str
    chart: Any


def draw_figures(contents: Contents) -> Iterator[Figure]:
    """Draw every figure that a release has the numbers for."""
    probe, protocol = contents.series[0]
    means = _named(contents).filter(
        (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
    )
    leaves = means.filter(pl.col("parent_task_id").is_null())
    for metric in FAMILY_METRICS:
        board = contents.board.filter(
            (pl.col("metric") == metric)
            & (pl.col("probe_id") == probe)
            & (pl.col("protocol_id") == protocol)
        )
        if board.height:
            yield draw_family_means(board, contents.encoders, metric)
    for metric in dict.fromkeys(MAIN_METRICS.values()):
        rows = leaves.filter(pl.col("metric") == metric)
        if rows.height:
            yield draw_task_means(rows, contents.encoders, metric)
    yield from _draw_labels(contents, means, (probe, protocol))
    aucs = leaves.filter(pl.col("metric") == "roc_auc")
    yield from _draw_similarities(aucs)
    for other, its_protocol in contents.series[1:]:
        if its_protocol == protocol:
            whole = _named(contents).filter(pl.col("parent_task_id").is_null())
            figure = draw_probe_agreement(whole, probe, other, protocol)
            if figure is not None:
                yield figure


def _named(contents: Contents) -> pl.DataFrame:
    """Means with the titles that people read."""
    tasks = contents.tasks.select("task_id", "title", "parent_task_id").with_columns(
        _distinct("title", "task_id").alias("task")
    )
    return (
        contents.means.join(tasks.drop("title"), on="task_id")
        .join(name_encoders(contents.encoders), on="encoder_id")
        .with_columns(
            pl.col("family").replace(FAMILY_TITLES).alias("family_title"),
            pl.col("mean", "sd").round(4),
        )
    )


def _distinct(title: str, name: str) -> pl.Expr:
    return (
        pl.when(pl.col(title).is_duplicated())
        .then(pl.concat_str(title, pl.lit(" ("), name, pl.lit(")")))
        .otherwise(pl.col(title))
    )


def name_encoders(encoders: pl.DataFrame) -> pl.DataFrame:
    """encoder_id and encoder: the title, with a mark on controls, and the id where titles meet.

    Args:
        encoders: encoder_id, title and is_control.
    """
    mark = pl.when(pl.col("is_control")).then(pl.lit(" (control)")).otherwise(pl.lit(""))
    return encoders.select("encoder_id", (_distinct("title", "encoder_id") + mark).alias("encoder"))


def _order(encoders: pl.DataFrame) -> list[str]:
    """Names of encoders, best first."""
    return name_encoders(encoders)["encoder"].to_list()


def colour_by_modality(rows: pl.DataFrame) -> alt.Color:
    """The colour of what an encoder is made from; the legend names those that occur."""
    present = [name for name in COLOURS if name in rows["modality"]]
    return alt.Color(
        "modality:N",
        title="made from",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="top", values=present, symbolOpacity=1, symbolSize=80),
    )


def shape_by_modality() -> alt.Shape:
    """Controls as diamonds, all else as circles."""
    return alt.Shape(
        "modality:N",
        title="made from",
        scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
    )


def draw_family_means(board: pl.DataFrame, encoders: pl.DataFrame, metric: str) -> Figure:
    """Mean and deviation over the tasks of each family (Fig. 2 by ROC AUC, S1 by F1).

    Args:
        board: Rows of `gold.leaderboard` of one metric, probe and protocol.
        encoders: encoder_id, title, modality and is_control, best first.
        metric: The metric.
    """
    rule = METRICS[metric]
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
    y = alt.Y("encoder:N", title=None, sort=_order(encoders))
    scale = _scale(metric, rows)
    base = alt.Chart().properties(width=190, height=alt.Step(STEP))
    span = base.mark_rule(strokeWidth=2, opacity=0.55, clip=True).encode(
        y=y, x=alt.X("low:Q", title=rule.title, scale=scale), x2="high:Q",
        color=colour_by_modality(rows),
    )  # fmt: skip
    point = base.mark_point(filled=True, size=70, opacity=1, clip=True).encode(
        y=y,
        x=alt.X("mean:Q", title=rule.title, scale=scale),
        color=colour_by_modality(rows),
        shape=shape_by_modality(),
        tooltip=["encoder", "family", "mean", "sd", "n_tasks", "n_missing"],
    )
    layers = [span, point]
    left = scale.to_dict().get("domain", [-math.inf])[0]
    hidden = int((rows["mean"] < left).sum())
    if hidden:
        beyond = base.transform_filter(alt.datum.mean < left).mark_text(text="◂", fontSize=16, dx=6)
        layers.append(
            beyond.encode(
                y=y,
                x=alt.XDatum(left, scale=scale, title=rule.title),
                color=colour_by_modality(rows),
            )
        )
    if rule.chance is not None:
        chance = base.mark_rule(strokeDash=[3, 3], opacity=0.6, color="#8A8F98")
        at_chance = alt.XDatum(rule.chance, scale=scale, title=rule.title)
        layers.insert(0, chance.encode(x=at_chance))
    chart = (
        alt.layer(*layers, data=rows)
        .facet(
            facet=alt.Facet("family:N", title=None, sort=present),
            columns=3,
        )
        .resolve_scale(y="shared")
    )
    note = "The dashed line is chance. " if rule.chance is not None else ""
    if hidden:
        note += f"An arrow stands for a mean below {left:g}, whose number is in the table. "
    return Figure(
        f"family_means_{metric}",
        f"{rule.title} by family",
        f"Mean over the tasks of each family, with the population deviation over them as a line; "
        f"Overall is the mean of the family means. {note}"
        "Grey diamonds are controls, whose result is known beforehand.",
        chart,
    )


def _scale(metric: str, rows: pl.DataFrame) -> alt.Scale:
    rule = METRICS[metric]
    if rule.low is None:
        # One hopeless fit would squeeze all others together; the table has its number.
        low = max(-1.0, min(0.0, *rows["mean"].to_list()))
        return alt.Scale(domain=[math.floor(low * 10 - 0.5) / 10, 1.02], nice=False)
    if rule.high != 1:
        return alt.Scale(zero=False)
    low = min(rows["mean"].to_list())
    # A little room on the right: points at 1 are drawn whole.
    return alt.Scale(domain=[max(0.0, math.floor(low * 10 - 0.5) / 10), 1.02], nice=False)


def draw_task_means(rows: pl.DataFrame, encoders: pl.DataFrame, metric: str) -> Figure:
    """Mean over folds of each task by each encoder (Fig. S2).

    Args:
        rows: task, encoder, family_title, mean and sd of one metric.
        encoders: Best first.
        metric: The metric.
    """
    rule = METRICS[metric]
    order = [title for title in _order(encoders) if title in rows["encoder"]]
    families = [title for title in FAMILY_TITLES.values() if title in rows["family_title"]]
    families += sorted(set(rows["family_title"]) - set(families))
    parts = [
        _heat_map(
            rows.filter(pl.col("family_title") == family).select("task", "encoder", "mean", "sd"),
            x="encoder",
            y="task",
            order=order,
            title=rule.title,
            domain=_colour_domain(metric),
            has_names=family == families[0],
        ).properties(
            title=alt.TitleParams(family, anchor="start", frame="group", fontSize=12, offset=4)
        )
        for family in families
    ]
    chart = alt.vconcat(*parts, spacing=26, bounds="flush").resolve_scale(color="shared")
    kinds = "numeric" if metric == MAIN_METRICS["regression"] else "classification"
    lower = " A cell says < -99 where a mean is lower still." if rule.low is None else ""
    return Figure(
        f"task_means_{metric}",
        f"{rule.title} of every task",
        f"Mean over folds of every {kinds} task, encoders from best to worst; sub-tasks of single "
        f"labels are left out here.{lower}",
        chart,
    )


def _colour_domain(metric: str) -> list[float]:
    rule = METRICS[metric]
    if metric == "roc_auc":
        return [0.4, 1.0]
    return [0.0, 1.0] if rule.high == 1 else [-1.0, 1.0]


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
    """A heat map with its numbers, where there is room for them.

    Its columns are all of `order`, so that maps below one another are aligned; `has_names` says
    whether they are named above.
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
        tooltip=[x, y, "mean", *(["sd"] if "sd" in rows.columns else [])],
    )
    if len(order) > TEXT_CELLS:
        return cells.properties(width=alt.Step(14), height=alt.Step(14))
    middle = (domain[0] + domain[1]) / 2
    # A hopeless R² can have more digits than a cell has room for.
    written = "datum.mean < -99.99 ? '< -99' : format(datum.mean, '.2f')"
    numbers = base.transform_calculate(written=written).mark_text(fontSize=10).encode(
        text=alt.Text("written:N"),
        color=alt.condition(alt.datum.mean > middle + 0.05 * (domain[1] - domain[0]),
                            alt.value("#101418"), alt.value("#ffffff")),
    )  # fmt: skip
    return (cells + numbers).properties(width=alt.Step(CELL), height=alt.Step(STEP))


def _draw_labels(
    contents: Contents, means: pl.DataFrame, series: tuple[str, str]
) -> Iterator[Figure]:
    """One figure for each multi-label task (Fig. S3 to S9), from labels or their sub-tasks."""
    probe, protocol = series
    by_label = contents.labels.filter(
        (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
    ).join(name_encoders(contents.encoders), on="encoder_id")
    subtasks = means.filter(
        pl.col("parent_task_id").is_not_null() & (pl.col("metric") == "roc_auc")
    ).join(contents.tasks.select("task_id", pl.col("label_names").list.last().alias("label")),
           on="task_id")  # fmt: skip
    for row in contents.leaves.filter(pl.col("kind") == "multilabel").iter_rows(named=True):
        mine = subtasks.filter(pl.col("parent_task_id") == row["task_id"])
        if not mine.height:
            mine = by_label.filter(pl.col("task_id") == row["task_id"])
        mine = mine.select("label", "encoder", pl.col("mean").round(4))
        if mine.height:
            yield draw_label_means(mine, contents.encoders, row["task_id"], row["title"])


def draw_label_means(
    rows: pl.DataFrame, encoders: pl.DataFrame, task_id: str, title: str
) -> Figure:
    """Mean ROC AUC of each label of one multi-label task (Fig. S3 to S9).

    Args:
        rows: label, encoder and mean.
        encoders: Best first.
        task_id: The task.
        title: Its title.
    """
    chart = _heat_map(
        rows,
        x="encoder",
        y="label",
        order=[name for name in _order(encoders) if name in rows["encoder"]],
        title="ROC AUC",
        domain=_colour_domain("roc_auc"),
    )
    return Figure(
        f"label_means_{task_id}",
        f"{title}: ROC AUC of each label",
        "Mean over folds of each label by itself, present against absent.",
        chart,
    )


def _draw_similarities(aucs: pl.DataFrame) -> Iterator[Figure]:
    """Similarity of encoders (Fig. S10) and of tasks (Fig. S11)."""
    rivals = aucs.filter(pl.col("modality") != "control")
    encoders = compare_columns(aucs.select("encoder", "task", "mean"), "encoder", "task")
    if encoders is not None:
        is_partial = len(encoders.names) < aucs["encoder"].n_unique()
        yield draw_similarity(
            encoders,
            "encoder_similarity",
            "Which encoders are alike",
            f"Spearman correlation of two encoders over the ROC AUC of "
            f"{aucs['task'].n_unique()} tasks; the tree joins the most alike first (average "
            "linkage on 1 minus correlation). Controls take part"
            + (", but for those that some task has no score of." if is_partial else "."),
        )
    shown = (
        rivals.group_by("task").agg(pl.col("mean").std().fill_null(0).alias("spread"))
        .sort("spread", "task", descending=[True, False]).head(N_TASKS_COMPARED)
    )  # fmt: skip
    n_all = rivals["task"].n_unique()
    rows = rivals.join(shown, on="task", how="semi").select("encoder", "task", "mean")
    tasks = compare_columns(rows, "task", "encoder")
    if tasks is not None:
        left_out = n_all - len(tasks.names)
        yield draw_similarity(
            tasks,
            "task_similarity",
            "Which tasks are alike",
            "Spearman correlation of two tasks over the ROC AUC of "
            f"{rivals['encoder'].n_unique()} encoders, controls left out, in the order of the tree "
            "above; a task with one score for all is like no other."
            + (f" {left_out} of {n_all} tasks are not drawn." if left_out else ""),
        )


def draw_similarity(found: Similarity, id_: str, title: str, caption: str) -> Figure:
    """A correlation heat map below its dendrogram (Fig. S10, S11)."""
    n = len(found.names)
    step = CELL if n <= 20 else 18 if n <= 40 else 11
    cells = [
        {"a": a, "b": b, "correlation": round(float(found.correlation[i, j]), 3)}
        for i, a in enumerate(found.names)
        for j, b in enumerate(found.names)
    ]
    corners = [
        {"link": number, "corner": corner, "x": x, "height": round(height, 4)}
        for number, link in enumerate(found.links)
        for corner, (x, height) in enumerate(link)
    ]
    tree = (
        alt.Chart(pl.DataFrame(corners))
        .mark_line(color="#8A8F98", strokeWidth=1.5, interpolate="linear")
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, n], nice=False)),
            y=alt.Y("height:Q", title="distance", axis=alt.Axis(tickCount=3, grid=False)),
            detail="link:N",
            order="corner:O",
        )
        .properties(width=n * step, height=70)
    )
    base = alt.Chart(pl.DataFrame(cells)).encode(
        x=alt.X("a:N", title=None, sort=found.names,
                axis=alt.Axis(labelAngle=-45, labelLimit=200, ticks=False, domain=False)),
        y=alt.Y("b:N", title=None, sort=found.names,
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


def draw_probe_agreement(
    means: pl.DataFrame, first: str, second: str, protocol: str
) -> Figure | None:
    """One probe against another, a point a task and encoder (Fig. S12, MLP against logistic).

    Args:
        means: task, encoder, modality, probe_id, protocol_id, metric and mean.
        first: The probe on the x axis.
        second: The probe on the y axis.
        protocol: The protocol of both.

    Returns:
        The figure; None where the probes share no task by ROC AUC.
    """
    rows = means.filter((pl.col("metric") == "roc_auc") & (pl.col("protocol_id") == protocol))
    key = ["task", "encoder", "modality"]
    sides = [rows.filter(pl.col("probe_id") == p).select(*key, "mean") for p in (first, second)]
    both = sides[0].join(sides[1], on=key, suffix="_other").sort(key)
    if not both.height:
        return None
    competitors = both.filter(pl.col("modality") != "control")
    r = correlate_pairs(competitors["mean"].to_numpy(), competitors["mean_other"].to_numpy())
    values = both["mean"].to_list() + both["mean_other"].to_list()
    low = math.floor(10 * min(values) - 0.2) / 10
    line = alt.Chart(alt.InlineData(values=[{"v": low}, {"v": 1.0}])).mark_line(
        strokeDash=[3, 3], color="#8A8F98", clip=True
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
    said = f"r = {r:.3f}" if r is not None else "too few for a correlation"
    chart = alt.layer(line.encode(x="v:Q", y="v:Q"), points).properties(width=380, height=380)
    return Figure(
        f"probe_agreement_{second}",
        f"{second} against {first}",
        f"A point is a task and an encoder; on the dashed line both probes are equal. Pearson's "
        f"{said} over {competitors.height:,} points, controls left out; sub-tasks are not drawn.",
        chart,
    )

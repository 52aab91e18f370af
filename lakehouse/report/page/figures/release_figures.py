"""Draws all figures of a release that its scores allow, in the order of the page."""

from collections.abc import Iterator

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.figures.family_means import draw_family_means
from lakehouse.report.page.figures.figure import (
    Figure,
    name_encoders,
    unique_titles,
)
from lakehouse.report.page.figures.heat_maps import draw_label_figures, draw_task_means
from lakehouse.report.page.figures.probe_agreement import draw_probe_agreement
from lakehouse.report.page.figures.similarity_figures import draw_similarity_figures

FAMILY_METRICS = ("roc_auc", "f1", "accuracy", "average_precision", "r2")


def draw_figures(contents: Contents) -> Iterator[Figure]:
    """Draw every figure that the release has scores for, except the rank figures."""
    probe, protocol = contents.series[0]
    means = _means_with_titles(contents).filter(
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
    yield from draw_label_figures(contents, means, (probe, protocol))
    aucs = leaves.filter(pl.col("metric") == "roc_auc")
    yield from draw_similarity_figures(aucs)
    for other, its_protocol in contents.series[1:]:
        if its_protocol == protocol:
            whole = _means_with_titles(contents).filter(pl.col("parent_task_id").is_null())
            figure = draw_probe_agreement(whole, probe, other, protocol)
            if figure is not None:
                yield figure


def _means_with_titles(contents: Contents) -> pl.DataFrame:
    """Add the titles of tasks, families and encoders to the means."""
    tasks = contents.tasks.select("task_id", "title", "parent_task_id").with_columns(
        unique_titles("title", "task_id").alias("task")
    )
    return (
        contents.means.join(tasks.drop("title"), on="task_id")
        .join(name_encoders(contents.encoders), on="encoder_id")
        .with_columns(
            pl.col("family").replace(FAMILY_TITLES).alias("family_title"),
            pl.col("mean", "sd").round(4),
        )
    )

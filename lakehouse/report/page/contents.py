"""What a report shows, read from the lake once: frames, ready for figures and the page."""

from dataclasses import dataclass

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.tasks.declaration import FAMILY_TITLES, is_subtask, parent_task
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.report.imports import imported_means
from lakehouse.report.intervals import board_intervals, read_intervals
from lakehouse.report.leaderboard import leaderboard_rows, stored_leaderboard
from lakehouse.report.page.evidence import Evidence, read_evidence
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.time_travel import Tables

OVERALL_TITLE = "Overall"


@dataclass(frozen=True)
class Contents:
    """A release as its report shows it.

    Attributes:
        release_id: The release.
        items: Rows of `gold.releases`.
        board: Rows of `gold.leaderboard`, with low and high (see `board_intervals`) or null.
        means: family, task_id, kind, encoder_id, modality, probe_id, protocol_id, metric, mean, sd
            (as `statistics.means.task_means`), folds (the values in their order) and the
            interval's low and high, or null.
        labels: task_id, label, encoder_id, probe_id, protocol_id, metric and mean over folds.
        tasks: Rows of `silver.tasks` that the release names, by family, parent and title.
        encoders: encoder_id, title, modality, is_control, best first by the main metric.
        foreign: `imported_means` of every imported release.
        evidence: Comparisons, verdicts and rankings.
    """

    release_id: str
    items: pl.DataFrame
    board: pl.DataFrame
    means: pl.DataFrame
    labels: pl.DataFrame
    tasks: pl.DataFrame
    encoders: pl.DataFrame
    foreign: pl.DataFrame
    evidence: Evidence

    @property
    def leaves(self) -> pl.DataFrame:
        """The tasks that are no sub-task of another."""
        return self.tasks.filter(pl.col("parent_task_id").is_null())

    @property
    def series(self) -> list[tuple[str, str]]:
        """The (probe_id, protocol_id) of the release, the linear probe first."""
        return _series(self.items)


def read_contents(lake: Tables, release: str) -> Contents:
    """Read a release.

    Raises:
        LakeError: It does not exist.
    """
    items = read_release(lake, release)
    board = stored_leaderboard(lake, release)
    if not board.height:
        board = leaderboard_rows(lake, release)
    scores = read_scores(lake, release=release)
    whole = scores.filter(pl.col("label") == "").collect()
    # As `task_means`, with the folds themselves; by the fewest columns, as there may be millions.
    key = ["evaluation_key", "task_id", "encoder_id", "probe_id", "metric"]
    value = pl.col("value")
    means = (
        whole.sort("fold")
        .group_by(key)
        .agg(
            pl.col("family", "kind", "modality", "protocol_id").first(),
            value.mean().alias("mean"),
            value.std(ddof=0).alias("sd"),
            pl.when(pl.col("metric").is_in(list(MAIN_METRICS.values())))
            .then(value)
            .implode()
            .alias("folds"),
        )
        .join(read_intervals(lake, items), on=["evaluation_key", "metric"], how="left")
        .drop("evaluation_key")
    )
    scope = ["scope", "encoder_id", "probe_id", "protocol_id", "metric"]
    board = board.join(board_intervals(items, means), on=scope, how="left", maintain_order="left")
    by_label = ["task_id", "label", "encoder_id", "probe_id", "protocol_id", "metric"]
    labels = (
        scores.filter((pl.col("label") != "") & (pl.col("metric") == "roc_auc"))
        .group_by(by_label)
        .agg(pl.col("value").mean().alias("mean"))
        .sort(by_label)
        .collect()
    )
    tasks = _tasks(lake, items)
    encoders = _encoders(lake, items, board)
    foreign = lake.table("gold.foreign_scores").collect()
    evidence = read_evidence(lake, release, _series(items))
    published = imported_means(foreign)
    return Contents(release, items, board, means, labels, tasks, encoders, published, evidence)


def _series(items: pl.DataFrame) -> list[tuple[str, str]]:
    found = items.select("probe_id", "protocol_id").unique().rows()
    return sorted(found, key=lambda one: (one[0] != "linear", one))


def _tasks(lake: Tables, items: pl.DataFrame) -> pl.DataFrame:
    named = items.select("task_id", "family", "kind").unique("task_id")
    known = lake.table("silver.tasks").drop("family", "kind").collect()
    # A task that has left the lake is still a sub-task by its name.
    parent = pl.when(is_subtask()).then(parent_task())
    tasks = named.join(known, on="task_id", how="left").with_columns(
        pl.coalesce("title", "task_id").alias("title"), parent.alias("parent_task_id")
    )
    order = {family: number for number, family in enumerate(FAMILY_TITLES)}
    return tasks.sort(
        pl.col("family").replace_strict(order, default=len(order)),
        "family",
        pl.coalesce("parent_task_id", "task_id"),
        pl.col("parent_task_id").is_not_null(),
        "title",
    )


def _encoders(lake: Tables, items: pl.DataFrame, board: pl.DataFrame) -> pl.DataFrame:
    first = min(items["probe_id"].unique(), key=lambda probe: (probe != "linear", probe))
    ranks = (
        board.filter((pl.col("scope") == OVERALL) & (pl.col("probe_id") == first))
        .sort(pl.col("metric") != "roc_auc", pl.col("metric") != "r2", "metric", "rank")
        .unique("encoder_id", keep="first", maintain_order=True)
        .with_row_index("place")
        .select("encoder_id", "place")
    )
    known = list_encoders(lake).select("encoder_id", "title", "is_control")
    return (
        items.select("encoder_id", "modality")
        .unique("encoder_id")
        .join(known, on="encoder_id", how="left")
        .join(ranks, on="encoder_id", how="left")
        .with_columns(
            pl.coalesce("title", "encoder_id").alias("title"),
            pl.coalesce(pl.col("is_control"), pl.col("modality") == "control").alias("is_control"),
        )
        .sort("place", "encoder_id", nulls_last=True)
        .select("encoder_id", "title", "modality", "is_control")
    )

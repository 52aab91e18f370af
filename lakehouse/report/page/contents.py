"""Reads everything that a report shows of a release, as frames for the figures and the page."""

from dataclasses import dataclass

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.statistics.means import OVERALL
from genebench.registry.loading import load_registry, profile_ids
from genebench.registry.registry import Registry
from genebench.tasks.declaration import FAMILY_TITLES, is_subtask, parent_task_expr
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.report.imports import imported_means
from lakehouse.report.intervals import mean_intervals, read_intervals
from lakehouse.report.leaderboard import leaderboard_rows, stored_leaderboard
from lakehouse.report.page.significance_results import SignificanceResults, read_significance
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.time_travel import Tables

OVERALL_TITLE = "Overall"
MAX_TITLE = 200


@dataclass(frozen=True)
class Contents:
    """The frames of one release's report.

    Attributes:
        release_id: The release.
        items: Rows of `gold.releases`.
        board: Rows of `gold.leaderboard`, with low and high (see `mean_intervals`) or null.
        means: family, task_id, kind, encoder_id, modality, probe_id, protocol_id, metric, mean, sd
            (as `statistics.means.task_means`), folds (the values in their order) and the
            interval's low and high, or null.
        labels: task_id, label, encoder_id, probe_id, protocol_id, metric and mean over folds.
        tasks: Rows of `silver.tasks` that the release names, by family, parent and title.
        encoders: encoder_id, title, modality, is_control, best first by the main metric.
        imported: `imported_means` of every imported release.
        significance: Comparisons, verdicts and rankings.
    """

    release_id: str
    items: pl.DataFrame
    board: pl.DataFrame
    means: pl.DataFrame
    labels: pl.DataFrame
    tasks: pl.DataFrame
    encoders: pl.DataFrame
    imported: pl.DataFrame
    significance: SignificanceResults

    @property
    def leaves(self) -> pl.DataFrame:
        """The whole tasks, without sub-tasks."""
        return self.tasks.filter(pl.col("parent_task_id").is_null())

    @property
    def registry(self) -> Registry | None:
        """The declarations of the profile of the tasks; None if it is not declared now."""
        profiles = self.tasks["profile_id"].drop_nulls().unique().sort().to_list()
        return load_registry(profiles[0]) if set(profiles[:1]) & set(profile_ids()) else None

    @property
    def series(self) -> list[tuple[str, str]]:
        """The (probe_id, protocol_id) of the release, the linear probe first."""
        return _series(self.items)


def read_contents(tables: Tables, release: str) -> Contents:
    """Read the contents of a release's report.

    Raises:
        LakeError: The release does not exist.
    """
    items = read_release(tables, release)
    board = stored_leaderboard(tables, release)
    if not board.height:
        board = leaderboard_rows(tables, release)
    scores = read_scores(tables, release=release)
    whole = scores.filter(pl.col("label") == "").collect()
    # Like `task_means`, plus the folds. Groups by few columns: there may be millions of rows.
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
        .join(read_intervals(tables, items), on=["evaluation_key", "metric"], how="left")
        .drop("evaluation_key")
    )
    scope = ["scope", "encoder_id", "probe_id", "protocol_id", "metric"]
    board = board.join(mean_intervals(items, means), on=scope, how="left", maintain_order="left")
    by_label = ["task_id", "label", "encoder_id", "probe_id", "protocol_id", "metric"]
    labels = (
        scores.filter((pl.col("label") != "") & (pl.col("metric") == "roc_auc"))
        .group_by(by_label)
        .agg(pl.col("value").mean().alias("mean"))
        .sort(by_label)
        .collect()
    )
    tasks = _tasks(tables, items)
    encoders = _encoders(tables, items, board)
    imported = imported_means(tables.table("gold.foreign_scores").collect())
    significance = read_significance(tables, release, _series(items))
    return Contents(release, items, board, means, labels, tasks, encoders, imported, significance)


def _series(items: pl.DataFrame) -> list[tuple[str, str]]:
    found = items.select("probe_id", "protocol_id").unique().rows()
    return sorted(found, key=lambda one: (one[0] != "linear", one))


def _tasks(tables: Tables, items: pl.DataFrame) -> pl.DataFrame:
    named = items.select("task_id", "family", "kind").unique("task_id")
    known = tables.table("silver.tasks").drop("family", "kind").collect()
    # A task that is no longer in the lake is recognised as a sub-task by its id.
    parent = pl.when(is_subtask()).then(parent_task_expr())
    tasks = named.join(known, on="task_id", how="left").with_columns(
        _shown_title("task_id"), parent.alias("parent_task_id")
    )
    order = {family: number for number, family in enumerate(FAMILY_TITLES)}
    return tasks.sort(
        pl.col("family").replace_strict(order, default=len(order)),
        "family",
        pl.coalesce("parent_task_id", "task_id"),
        pl.col("parent_task_id").is_not_null(),
        "title",
    )


def _shown_title(id_column: str) -> pl.Expr:
    """The title, or the id, as one line of at most `MAX_TITLE` characters.

    The library that draws the figures (vl-convert 1.9) ends the process at a NUL character or a
    text of 100,000 characters. Titles of sub-tasks have labels in them, which come from the data.
    """
    text = pl.coalesce("title", id_column).str.replace_all(r"\p{Cc}", " ")
    cut = pl.concat_str(text.str.head(MAX_TITLE - 1), pl.lit("…"))
    return pl.when(text.str.len_chars() > MAX_TITLE).then(cut).otherwise(text).alias("title")


def _encoders(tables: Tables, items: pl.DataFrame, board: pl.DataFrame) -> pl.DataFrame:
    first = min(items["probe_id"].unique(), key=lambda probe: (probe != "linear", probe))
    ranks = (
        board.filter((pl.col("scope") == OVERALL) & (pl.col("probe_id") == first))
        .sort(pl.col("metric") != "roc_auc", pl.col("metric") != "r2", "metric", "rank")
        .unique("encoder_id", keep="first", maintain_order=True)
        .with_row_index("place")
        .select("encoder_id", "place")
    )
    known = list_encoders(tables).select("encoder_id", "title", "is_control")
    return (
        items.select("encoder_id", "modality")
        .unique("encoder_id")
        .join(known, on="encoder_id", how="left")
        .join(ranks, on="encoder_id", how="left")
        .with_columns(
            _shown_title("encoder_id"),
            pl.coalesce(pl.col("is_control"), pl.col("modality") == "control").alias("is_control"),
        )
        .sort("place", "encoder_id", nulls_last=True)
        .select("encoder_id", "title", "modality", "is_control")
    )

"""Imports published results: matches their names and makes rows of `gold.foreign_scores`.

An imported release keeps its own name and is never mixed with the releases that genebench scores.
The file formats are in `lakehouse.report.import_formats`.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from genebench.digest import digest_bytes
from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from genebench.registry.published_names import read_published_names
from genebench.tasks.declaration import Task, parent_task_id, subtask_id
from lakehouse.report.import_formats import (
    FOLD,
    GENEBENCH,
    MEAN,
    SD,
    read_csv_text,
    read_results_file,
)
from lakehouse.score.plan import require_release_name
from lakehouse.score.scores import list_releases
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

SIZES_FILE = "evaluated_sizes.csv"


def read_imported(
    path: Path, name: str, tasks: Mapping[str, Task], run_id: str, sizes: Path | None = None
) -> pl.DataFrame:
    """Read a file of published results.

    Args:
        path: A CSV file in one of the formats of `lakehouse.report.import_formats`.
        name: The name of the imported release.
        tasks: The declared tasks. Published task names are matched to them (a file in the
            `genebench` format already has task ids), and model names to the published names and
            the ids of the declared encoders.
        run_id: The flow run.
        sizes: A CSV file with the columns `task` and `n_evaluated`; by default
            `evaluated_sizes.csv` in the folder of `path`, if it exists.

    Returns:
        Rows of `gold.foreign_scores`; task_id or encoder_id is null where a name has no match.

    Raises:
        LakeError: The file is missing, empty or in no known format, or the name is not a valid
            release name.
    """
    require_release_name(name)
    file_format, scores = read_results_file(path)
    default = path.with_name(SIZES_FILE)
    sizes_path = sizes or (default if default.is_file() and default != path else None)
    if sizes_path is not None:
        scores = _add_sizes(scores, sizes_path)
    names = scores.select("task_name", "label").unique().sort("task_name", "label")
    rows = [
        (
            task,
            label,
            _match_task_id(task, tasks)
            if file_format == GENEBENCH
            else _match_published_name(task, label, tasks),
        )
        for task, label in names.iter_rows()
    ]
    schema = dict.fromkeys(("task_name", "label", "task_id"), pl.String)
    matched = pl.DataFrame(rows, schema=schema, orient="row")
    return _to_table_rows(scores, matched, path, name, run_id)


def _add_sizes(scores: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Fill missing `n_samples` from a CSV file of tasks and their evaluated sizes."""
    listed = read_csv_text(path)
    if not {"task", "n_evaluated"} <= set(listed.columns):
        raise LakeError(f"{path} must have the columns task and n_evaluated")
    known = listed.select(
        pl.col("task").alias("task_name"), pl.col("n_evaluated").cast(pl.Int64, strict=False)
    ).unique("task_name")
    return scores.join(known, on="task_name", how="left").with_columns(
        pl.coalesce("n_samples", "n_evaluated").alias("n_samples")
    )


def _match_task_id(task_id: str, tasks: Mapping[str, Task]) -> str | None:
    """Return a task id if the task, or the parent of the sub-task, is declared."""
    return task_id if parent_task_id(task_id) in tasks else None


def _match_published_name(name: str, label: str, tasks: Mapping[str, Task]) -> str | None:
    """Return the task that a published name means; with a label, the label's sub-task."""
    parent, _, label_in_name = name.partition(";")
    task_id = read_published_names().task_of(parent, tasks)
    wanted = label or label_in_name
    return subtask_id(task_id, wanted) if task_id and wanted else task_id


def _to_table_rows(
    scores: pl.DataFrame, matched: pl.DataFrame, path: Path, name: str, run_id: str
) -> pl.DataFrame:
    published = read_published_names()
    declared_encoders = load_registry().encoders
    encoders = {
        one: published.encoder_of(one) or (one if one in declared_encoders else None)
        for one in scores["encoder_name"].unique()
    }
    key = ["task_name", "label", "encoder_name", "probe_name", "metric", "statistic", "fold"]
    if n_duplicates := scores.height - scores.unique(key).height:
        example = scores.filter(scores.select(key).is_duplicated()).row(0)[:4]
        raise LakeError(
            f"{path} has {n_duplicates:,} duplicate rows, such as {example}. The published package "
            "appends each run to its report: delete all runs but one"
        )
    declared = table("gold.foreign_scores")
    return (
        scores.join(matched, on=["task_name", "label"])
        .with_columns(
            pl.lit(name).alias("release_id"),
            pl.col("encoder_name")
            .replace_strict(encoders, return_dtype=pl.String)
            .alias("encoder_id"),
            pl.lit(path.name).alias("file_name"),
            pl.lit(digest_bytes(path.read_bytes())).alias("file_digest"),
            pl.lit(run_id).alias("run_id"),
            pl.lit(dt.datetime.now(dt.UTC)).alias("imported_at"),
        )
        .select([pl.col(column).cast(dtype) for column, dtype in declared.schema.items()])
        .sort(key)
    )


def imported_means(rows: pl.DataFrame) -> pl.DataFrame:
    """Compute means and deviations of imported scores.

    Args:
        rows: Rows of `gold.foreign_scores`.

    Returns:
        release_id, task_name, label, task_id, encoder_name, encoder_id, probe_name, metric, mean,
        sd (population deviation over folds; null where not published), n_folds and n_samples. A
        published mean or deviation takes precedence over one computed from published folds.
    """
    key = ["release_id", "task_name", "label", "task_id", "encoder_name", "encoder_id"]
    key += ["probe_name", "metric"]
    value, statistic = pl.col("value"), pl.col("statistic")
    folds = value.filter(statistic == FOLD)
    return (
        rows.group_by(key)
        .agg(
            pl.coalesce(value.filter(statistic == MEAN).first(), folds.mean()).alias("mean"),
            pl.coalesce(
                value.filter(statistic == SD).first(),
                pl.when(folds.len() > 1).then(folds.std(ddof=0)),
            ).alias("sd"),
            folds.len().alias("n_folds"),
            pl.col("n_samples").max(),
        )
        .sort(key)
    )


def require_free_name(tables: Tables, name: str) -> None:
    """Refuse an import under the name of a release that genebench scored.

    Raises:
        LakeError: The name is taken, or it is one that `genebench score` may write.
    """
    require_release_name(name)
    known = list_releases(tables)
    if name in known.filter(~pl.col("is_foreign"))["release_id"]:
        raise LakeError(
            f"{name!r} is a release that genebench scored, and imported results never mix with it; "
            f"choose another name, such as {name}_published"
        )

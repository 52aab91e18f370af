"""Exports a release: as CSV in three formats, or as a parquet file with a data card."""

from pathlib import Path

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from genebench.tasks.declaration import is_subtask
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.report.future_marks import mark_of, read_marks
from lakehouse.report.leaderboard import stored_leaderboard
from lakehouse.score.evidence import read_evaluations
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.catalogue import table
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables

LONG_COLUMNS = [
    "release_id", "family", "task_id", "kind", "encoder_id", "modality", "probe_id", "protocol_id",
    "label", "metric", "fold", "value", "n_train", "n_test", "evaluation_key", "mark",
]  # fmt: skip

# The published package names its scorers after scikit-learn, by kind of task.
_SCORERS = {
    ("roc_auc", "multiclass"): ("roc_auc_ovr_weighted", 1.0),
    ("roc_auc", "multilabel"): ("roc_auc_weighted", 1.0),
    ("rmse", "regression"): ("neg_root_mean_squared_error", -1.0),
    ("mae", "regression"): ("neg_mean_absolute_error", -1.0),
    **{
        (metric, kind): (f"{metric}_weighted", 1.0)
        for metric in ("precision", "recall", "f1")
        for kind in ("multiclass", "multilabel")
    },
}
_COLUMN_NOTES = {
    "value": "in the metric's unit, a proportion or coefficient; rmse and mae have the unit of the "
    "predicted numbers: the label's, or standard deviations where the protocol replaces numbers by "
    "normal scores of their ranks, as `standard` does and `paper` does not",
    "fold": "number of the held-out fold, from 0",
    "n_train": "number of training samples",
    "n_test": "number of held-out samples",
    "label": "one label or class; empty for the whole task",
    "mark": "of temporal tasks: † the encoder reads texts, which may have been written after the "
    "label; ‡ its model was trained on newer data than the known labels; else empty",
    "evaluation_key": "digest of labels, vectors, probe and protocol: equal keys are equal "
    "evaluations",
}

CSV_FORMATS = ("long", "report", "leaderboard")


def csv_rows(tables: Tables, release: str, form: str) -> pl.DataFrame:
    """Return the rows of a CSV export of a release.

    Args:
        tables: The tables of the lake.
        release: The release.
        form: `long` (see `long_rows`), `report` (see `report_rows`) or `leaderboard` (rows of
            `gold.leaderboard`).

    Raises:
        LakeError: The release or the format does not exist.
    """
    require_known(form, CSV_FORMATS, "CSV format")
    if form == "report":
        return report_rows(tables, release)
    return long_rows(tables, release) if form == "long" else stored_leaderboard(tables, release)


def long_rows(tables: Tables, release: str) -> pl.DataFrame:
    """Return every score of a release, one row for each fold, label and metric.

    Raises:
        LakeError: The release does not exist.
    """
    marks = read_marks(tables)
    rows = read_scores(tables, release=release).with_columns(
        pl.lit(release).alias("release_id"),
        (mark_of(marks) if marks else pl.lit("")).alias("mark"),
    )
    return (
        rows.select(LONG_COLUMNS)
        .sort("family", "task_id", "encoder_id", "probe_id", "label", "metric", "fold")
        .collect()
    )


def report_rows(tables: Tables, release: str) -> pl.DataFrame:
    """Return a release in the report format of the published package.

    Returns:
        One row for each encoder, probe and task: task_name, sub_task, base_prediction_model,
        sample_size, encoder_model_name, model_name, then for each scorer `test_<scorer>` (folds
        joined by commas), `mean_<scorer>` and `sd_<scorer>` (population deviation). Scorers have
        scikit-learn's names; errors are negative, as in scikit-learn.

    Raises:
        LakeError: The release does not exist.
    """
    tasks = tables.table("silver.tasks").select("task_id", "title", "parent_task_id", "label_names")
    parents = tasks.select(pl.col("task_id").alias("parent_task_id"), pl.col("title").alias("of"))
    named = (
        tasks.join(parents, on="parent_task_id", how="left")
        .select(
            "task_id",
            pl.coalesce("of", "title", "task_id").alias("task_name"),
            pl.when(pl.col("of").is_not_null())
            .then(pl.col("label_names").list.last())
            .otherwise(pl.lit(""))
            .alias("sub_task"),
        )
        .collect()
    )
    titles = dict(list_encoders(tables).select("encoder_id", "title").iter_rows())
    sizes = read_evaluations(tables).filter(pl.col("status") == "ok")
    scorer = {key: name for key, (name, _) in _SCORERS.items()}
    scores = read_scores(tables, release=release, label="").collect()
    kinds = scores.select("metric", "kind").unique().iter_rows()
    names = pl.DataFrame(
        [(m, k, scorer.get((m, k), m), _SCORERS.get((m, k), ("", 1.0))[1]) for m, k in kinds],
        schema={"metric": pl.String, "kind": pl.String, "scorer": pl.String, "sign": pl.Float64},
        orient="row",
    )
    value = (pl.col("value") * pl.col("sign")).sort_by("fold")
    cells = (
        scores.join(names, on=["metric", "kind"])
        .group_by("evaluation_key", "task_id", "encoder_id", "probe_id", "scorer")
        .agg(
            value.cast(pl.String).str.join(",").alias("test"),
            value.mean().alias("mean"),
            value.std(ddof=0).alias("sd"),
        )
    )
    index = ["evaluation_key", "task_id", "encoder_id", "probe_id"]
    wide = cells.pivot(on="scorer", index=index, values=["test", "mean", "sd"])
    scorers = sorted(cells["scorer"].unique())
    counted = sizes.select("evaluation_key", "n_samples").unique("evaluation_key").collect()
    return (
        wide.join(named, on="task_id", how="left")
        .join(counted, on="evaluation_key", how="left")
        .select(
            pl.coalesce("task_name", "task_id").alias("task_name"),
            pl.col("sub_task").fill_null(""),
            pl.col("probe_id").alias("base_prediction_model"),
            pl.col("n_samples").alias("sample_size"),
            pl.col("encoder_id").alias("encoder_model_name"),
            pl.col("encoder_id").replace(titles).alias("model_name"),
            *(f"{part}_{name}" for name in scorers for part in ("test", "mean", "sd")),
        )
        .sort("task_name", "sub_task", "encoder_model_name", "base_prediction_model")
    )


def export_release(tables: Tables, release: str, folder: Path, code: str) -> list[Path]:
    """Write a release as one parquet file and a Markdown data card.

    Args:
        tables: The tables of the lake.
        release: The release.
        folder: The target folder; created if missing.
        code: The genebench version, for the card.

    Returns:
        The paths of `<release>.parquet` (the columns of `long_rows`) and `<release>.md`.

    Raises:
        LakeError: The release does not exist, or the folder cannot be written.
    """
    rows = long_rows(tables, release)
    path, card = folder / f"{release}.parquet", folder / f"{release}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(path, compression="zstd")
        card.write_text(data_card(tables, release, rows, path.name, code), encoding="utf-8")
    except OSError as error:
        raise LakeError(f"release {release!r} cannot be written to {folder}: {error}") from error
    return [path, card]


def data_card(tables: Tables, release: str, rows: pl.DataFrame, file_name: str, code: str) -> str:
    """Write the data card of an exported release: columns, metrics, sources and missing scores.

    Args:
        tables: The tables of the lake.
        release: The release.
        rows: The exported rows, from `long_rows`.
        file_name: The parquet file's name.
        code: The genebench version.

    Returns:
        Markdown.
    """
    items = read_release(tables, release)
    unscored = (
        items.lazy()
        .join(
            read_evaluations(tables).select("evaluation_key", "status", "reason"),
            on="evaluation_key",
            how="left",
        )
        .filter(pl.col("status").fill_null("pending") != "ok")
        .unique("evaluation_key", keep="last")
        .collect()
    )
    sources = used_snapshots(tables)
    counts = {
        "scores": rows.height,
        "evaluations": rows["evaluation_key"].n_unique(),
        "tasks": rows.filter(~is_subtask())["task_id"].n_unique(),
        "sub-tasks (one label of a multi-label task each)": (
            rows.filter(is_subtask())["task_id"].n_unique()
        ),
        "encoders": rows["encoder_id"].n_unique(),
    }
    about = table("gold.scores").columns
    lines = [
        f"# Release {release} of genebench",
        "",
        f"`{file_name}` holds every score of the release, one row for each fold, label and metric: "
        + ", ".join(f"{n:,} {name}" for name, n in counts.items())
        + f". Written by genebench {code}. It contains scores and keys, no source data.",
        "",
        "```python",
        "import polars as pl",
        f'pl.read_parquet("{file_name}").filter(metric="roc_auc", label="")',
        "```",
        "",
        "## Columns",
        "",
        "| column | type | |",
        "|---|---|---|",
    ]
    for name in rows.columns:
        kind = about[name].type if name in about else "str"
        lines.append(f"| {name} | {kind} | {_COLUMN_NOTES.get(name, '')} |")
    lines += ["", "## Metrics", "", "| metric | range | better | definition |", "|---|---|---|---|"]
    for name in sorted(rows["metric"].unique()):
        one = METRICS[name]
        low, high = ("−∞" if one.low is None else one.low, "∞" if one.high is None else one.high)
        better = "higher" if one.is_greater_better else "lower"
        lines.append(f"| {name} | {low} to {high} | {better} | {one.title}; {one.note} |")
    controls = sorted(rows.filter(pl.col("modality") == "control")["encoder_id"].unique())
    lines += [
        "",
        "## Controls",
        "",
        "Encoders whose result is known in advance; they do not compete: "
        + (", ".join(controls) or "none in this release")
        + ".",
        "",
        "## Sources of the labels",
        "",
        "The versions in the lake at export. A frozen release may use earlier versions.",
        "",
        "| source | file | version | sha256 | retrieved | licence |",
        "|---|---|---|---|---|---|",
    ]
    for row in sources.iter_rows(named=True):
        lines.append(
            f"| {row['source']} | {row['file']} | {row['version']} | `{row['sha256'][:16]}…` "
            f"| {row['retrieved_at']:%Y-%m-%d} | {row['license']} |"
        )
    lines += ["", "## Not scored", ""]
    lines += [
        f"- {row['task_id']} × {row['encoder_id']} ({row['probe_id']}): "
        f"{row['status'] or 'pending'}{': ' + row['reason'] if row['reason'] else ''}"
        for row in unscored.iter_rows(named=True)
    ] or ["All evaluations of the release have scores."]
    return "\n".join(lines) + "\n"


def used_snapshots(tables: Tables) -> pl.DataFrame:
    """Return the rows of `bronze.snapshots` that the tasks, entities and inputs were built from.

    A snapshot that was retrieved more than once appears once, as retrieved last.
    """
    tasks = tables.table("silver.tasks").select(pl.col("snapshot_id").str.split(",").explode())
    entities = tables.table("silver.entities").select("snapshot_id")
    inputs = tables.table("silver.inputs").select("snapshot_id")
    used = pl.concat([frame.unique().collect() for frame in (tasks, entities, inputs)]).unique()
    retrieved = tables.table("bronze.snapshots").collect().sort("retrieved_at")
    snapshots = retrieved.unique("snapshot_id", keep="last")
    return snapshots.join(used, on="snapshot_id", how="semi").sort("source", "file", "version")

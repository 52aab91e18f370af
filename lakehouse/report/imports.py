"""Results of others: read from their files, kept under their own name, never mixed into ours.

Three forms are understood, by their columns: the long form (task_name, model_name, fold, metric,
score), the report of the published package (task_name, `test_…`, `mean_…`, `sd_…`), and a summary
(task, model, metric, value, with `…_sd` metrics). So is our own long form (task_id, encoder_id,
label, fold, metric, value), of which the rows of single labels are left out.
"""

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from genebench.digest import digest_bytes
from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from genebench.registry.published_names import metric_of, read_published
from genebench.tasks.declaration import Task, subtask_id, whole_task
from lakehouse.score.scores import list_releases
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

FOLD, MEAN, SD = "fold", "mean", "sd"
OURS = "ours"
SIZES = "evaluated_sizes.csv"

_FORMS = {
    "long": ("task_name", "model_name", "fold", "metric", "score"),
    "report": ("task_name",),
    "summary": ("task", "model", "metric", "value"),
}
_OUR_LONG = ("task_id", "encoder_id", "label", "fold", "metric", "value")
_PROBE = "base_prediction_model"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_DRAFT = {
    "task_name": pl.String,
    "label": pl.String,
    "encoder_name": pl.String,
    "probe_name": pl.String,
    "metric": pl.String,
    "statistic": pl.String,
    "fold": pl.Int8,
    "value": pl.Float64,
    "n_samples": pl.Int64,
}


def read_imported(
    path: Path, name: str, tasks: Mapping[str, Task], run_id: str, sizes: Path | None = None
) -> pl.DataFrame:
    """Read a file of published results.

    Args:
        path: A CSV file in one of the three forms, or in our own long form.
        name: What the release is to be called here.
        tasks: The declared tasks, which published names are matched to; models are matched to the
            published names of encoders and to the ids of declared ones. In our own long form a
            task_id means itself.
        run_id: The flow run.
        sizes: A CSV file of `task` and `n_evaluated`; `evaluated_sizes.csv` beside the file if
            that is there.

    Returns:
        Rows of `gold.foreign_scores`. A name that means nothing here keeps its rows, with task_id
        or encoder_id null.

    Raises:
        LakeError: The file is missing, empty, of no known form, or the name is no slug.
    """
    if not _NAME.fullmatch(name):
        raise LakeError(
            f"{name!r} cannot name a release: lower case letters, digits and . _ - are allowed"
        )
    frame = _read_csv(path)
    form = _form_of(frame, path)
    draft = _DRAFTS[form](frame, path)
    if not draft.height:
        raise LakeError(f"{path} has no score by a metric that is known here")
    beside = path.with_name(SIZES)
    found = sizes or (beside if beside.is_file() and beside != path else None)
    if found is not None:
        listed = _read_csv(found)
        if not {"task", "n_evaluated"} <= set(listed.columns):
            raise LakeError(f"{found} must have the columns task and n_evaluated")
        known = listed.select(
            pl.col("task").alias("task_name"), pl.col("n_evaluated").cast(pl.Int64, strict=False)
        ).unique("task_name")
        draft = draft.join(known, on="task_name", how="left").with_columns(
            pl.coalesce("n_samples", "n_evaluated").alias("n_samples")
        )
    names = draft.select("task_name", "label").unique().sort("task_name", "label")
    rows = [
        (task, label, _own_task(task, tasks) if form == OURS else _their_task(task, label, tasks))
        for task, label in names.iter_rows()
    ]
    schema = dict.fromkeys(("task_name", "label", "task_id"), pl.String)
    matched = pl.DataFrame(rows, schema=schema, orient="row")
    return _finish(draft, matched, path, name, run_id)


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise LakeError(f"there is no file {path}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeError(f"{path} is no readable CSV file: {error}") from error


def _form_of(frame: pl.DataFrame, path: Path) -> str:
    columns = set(frame.columns)
    if set(_OUR_LONG) <= columns:
        return OURS
    for form in ("long", "summary"):
        if set(_FORMS[form]) <= columns:
            return form
    if "task_name" in columns and any(name.startswith("mean_") for name in columns):
        return "report"
    wanted = "; ".join(f"{form}: {', '.join(names)}" for form, names in _FORMS.items())
    raise LakeError(
        f"{path} is in no form that is known ({wanted}, test_…, mean_…, sd_…); its columns are "
        + ", ".join(frame.columns[:12])
    )


def _draft_long(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    label = pl.col("sub_task") if "sub_task" in frame.columns else pl.lit("")
    model = "Model" if "Model" in frame.columns else "model_name"
    return _metrics(
        frame.select(
            "task_name",
            label.fill_null("").alias("label"),
            pl.col(model).alias("encoder_name"),
            pl.lit("").alias("probe_name"),
            pl.col("metric").alias("scorer"),
            pl.lit(FOLD).alias("statistic"),
            _number("fold", pl.Int8, frame, path),
            _number("score", pl.Float64, frame, path).alias("value"),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _draft_ours(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    # A label of ours is a part of its task, that of others a task of its own: left out.
    whole = frame.filter(pl.col("label").fill_null("") == "")
    return _metrics(
        whole.select(
            pl.col("task_id").alias("task_name"),
            pl.lit("").alias("label"),
            pl.col("encoder_id").alias("encoder_name"),
            (pl.col("probe_id") if "probe_id" in frame.columns else pl.lit("")).alias("probe_name"),
            pl.col("metric").alias("scorer"),
            pl.lit(FOLD).alias("statistic"),
            _number("fold", pl.Int8, whole, path),
            _number("value", pl.Float64, whole, path),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _draft_summary(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    return _metrics(
        frame.select(
            pl.col("task").alias("task_name"),
            pl.lit("").alias("label"),
            pl.col("model").alias("encoder_name"),
            pl.lit("").alias("probe_name"),
            pl.col("metric").str.strip_suffix("_sd").alias("scorer"),
            pl.when(pl.col("metric").str.ends_with("_sd"))
            .then(pl.lit(SD))
            .otherwise(pl.lit(MEAN))
            .alias("statistic"),
            pl.lit(0, pl.Int8).alias("fold"),
            _number("value", pl.Float64, frame, path),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _draft_report(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """One row a model and task, folds joined by commas in `test_<scorer>`."""
    model = next(
        (name for name in ("model_name", "encoder_model_name") if name in frame.columns), None
    )
    if model is None:
        raise LakeError(f"{path} names no model: it has no column model_name")
    label = pl.col("sub_task") if "sub_task" in frame.columns else pl.lit("")
    size = (
        pl.col("sample_size").cast(pl.Float64, strict=False).cast(pl.Int64)
        if "sample_size" in frame.columns
        else pl.lit(None, pl.Int64)
    )
    base = frame.with_columns(
        label.fill_null("").alias("label"),
        pl.col(model).alias("encoder_name"),
        (pl.col(_PROBE) if _PROBE in frame.columns else pl.lit("")).alias("probe_name"),
        size.alias("n_samples"),
    )
    parts = []
    for column in frame.columns:
        statistic, _, scorer = column.partition("_")
        if statistic not in ("test", MEAN, SD) or metric_of(scorer) is None:
            continue
        cells = base.select(
            "task_name",
            "label",
            "encoder_name",
            "probe_name",
            pl.lit(scorer).alias("scorer"),
            pl.lit(FOLD if statistic == "test" else statistic).alias("statistic"),
            pl.col(column).str.strip_chars("[] ").str.split(",").alias("value"),
            "n_samples",
        ).with_row_index("row")
        parts.append(
            cells.explode("value")
            .drop_nulls("value")
            .with_columns(pl.int_range(pl.len()).over("row").cast(pl.Int8).alias("fold"))
            .with_columns(_number("value", pl.Float64, cells.explode("value"), path))
            .drop("row")
        )
    return _metrics(pl.concat(parts)) if parts else pl.DataFrame(schema=_DRAFT)


_DRAFTS = {
    "long": _draft_long,
    OURS: _draft_ours,
    "summary": _draft_summary,
    "report": _draft_report,
}


def _number(name: str, dtype: type[pl.DataType], frame: pl.DataFrame, path: Path) -> pl.Expr:
    """A column of text as numbers.

    Raises:
        LakeError: A cell is none; shows the first.
    """
    cells = frame[name].str.strip_chars().drop_nulls()
    wrong = cells.filter(cells.cast(dtype, strict=False).is_null())
    if wrong.len():
        raise LakeError(
            f"{path}: {name} has {wrong.len():,} cells that are no numbers: {wrong[0]!r}"
        )
    return pl.col(name).str.strip_chars().cast(dtype)


def _metrics(draft: pl.DataFrame) -> pl.DataFrame:
    """Scorers under our metrics' names; those unknown here are left out, empty cells too."""
    known = {scorer: found for scorer in draft["scorer"].unique() if (found := metric_of(scorer))}
    if not known:
        return pl.DataFrame(schema=_DRAFT)
    metric = {scorer: found[0] for scorer, found in known.items()}
    sign = {scorer: found[1] for scorer, found in known.items()}
    rows = draft.filter(pl.col("scorer").is_in(list(known)) & pl.col("value").is_finite())
    return rows.with_columns(
        pl.col("scorer").replace_strict(metric, return_dtype=pl.String).alias("metric"),
        pl.when(pl.col("statistic") == SD)
        .then(pl.col("value"))
        .otherwise(pl.col("value") * pl.col("scorer").replace_strict(sign, return_dtype=pl.Float64))
        .alias("value"),
    ).select([pl.col(name).cast(dtype) for name, dtype in _DRAFT.items()])


def _own_task(task_id: str, tasks: Mapping[str, Task]) -> str | None:
    """A task_id of ours as it stands, if its task, or that of which it is a part, is declared."""
    return task_id if whole_task(task_id) in tasks else None


def _their_task(name: str, label: str, tasks: Mapping[str, Task]) -> str | None:
    """The task that a published name means; with a label, the sub-task that asks for it."""
    parent, _, part = name.partition(";")
    task_id = read_published().task_of(parent, tasks)
    asked = label or part
    return subtask_id(task_id, asked) if task_id and asked else task_id


def _finish(
    draft: pl.DataFrame, matched: pl.DataFrame, path: Path, name: str, run_id: str
) -> pl.DataFrame:
    published = read_published()
    declared_encoders = load_registry().encoders
    encoders = {
        one: published.encoder_of(one) or (one if one in declared_encoders else None)
        for one in draft["encoder_name"].unique()
    }
    key = ["task_name", "label", "encoder_name", "probe_name", "metric", "statistic", "fold"]
    if twice := draft.height - draft.unique(key).height:
        example = draft.filter(draft.select(key).is_duplicated()).row(0)[:4]
        raise LakeError(
            f"{path} has {twice:,} rows twice, such as {example}; the published package appends to "
            "its report: keep one run"
        )
    declared = table("gold.foreign_scores")
    return (
        draft.join(matched, on=["task_name", "label"])
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
    """Means and deviations of imported scores.

    Args:
        rows: Rows of `gold.foreign_scores`.

    Returns:
        release_id, task_name, label, task_id, encoder_name, encoder_id, probe_name, metric, mean,
        sd (population deviation over folds; null where not published), n_folds and n_samples. The
        published mean and deviation go before those computed from published folds.
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


def require_free_name(lake: Tables, name: str) -> None:
    """Refuse a name for imported results that one of our own releases has.

    Raises:
        LakeError: It is taken.
    """
    known = list_releases(lake)
    if name in known.filter(~pl.col("is_foreign"))["release_id"]:
        raise LakeError(
            f"{name!r} is a release of ours, and imported results never mix with those; choose "
            f"another name, such as {name}_published"
        )

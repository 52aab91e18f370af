"""Reads published results from CSV files in four formats, recognised by their columns.

| format | one row is | columns |
|---|---|---|
| `long` | a fold | task_name, model_name, fold, metric, score |
| `report` | a model and task | task_name, model_name, `test_…`, `mean_…`, `sd_…` for each scorer |
| `summary` | a mean or deviation | task, model, metric (deviations end in `_sd`), value |
| `genebench` | a fold | task_id, encoder_id, label, fold, metric, value |

`report` is the format of the published package. `genebench` is written by
`genebench report --csv`; its rows of single labels are skipped.
"""

from pathlib import Path

import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from genebench.registry.published_names import metric_of

FOLD, MEAN, SD = "fold", "mean", "sd"
GENEBENCH = "genebench"

_COLUMNS = {
    "long": ("task_name", "model_name", "fold", "metric", "score"),
    "summary": ("task", "model", "metric", "value"),
    GENEBENCH: ("task_id", "encoder_id", "label", "fold", "metric", "value"),
}
_PROBE_COLUMN = "base_prediction_model"
_SCHEMA = {
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


def read_results_file(path: Path) -> tuple[str, pl.DataFrame]:
    """Read a CSV file of published results.

    Returns:
        The name of the file's format, and one row for each fold, mean or deviation: task_name,
        label, encoder_name, probe_name, metric (genebench's name), statistic (fold, mean or sd),
        fold (i8, from 0), value (f64, in the metric's unit) and n_samples (i64 or null). Scores of
        metrics that genebench does not have, and empty cells, are skipped.

    Raises:
        LakeError: The file is missing, is not CSV, has none of the formats, has a cell that should
            be a number and is not, or holds no score of a known metric.
    """
    frame = read_csv_text(path)
    name = _detect_format(frame, path)
    rows = _READERS[name](frame, path)
    if not rows.height:
        raise LakeError(
            f"{path} holds no score of a known metric; the known ones are {', '.join(METRICS)}"
        )
    return name, rows


def read_csv_text(path: Path) -> pl.DataFrame:
    """Read a CSV file with all columns as text.

    Raises:
        LakeError: The file is missing or is not CSV.
    """
    try:
        return pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise LakeError(f"there is no file {path}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeError(f"{path} cannot be read as CSV: {error}") from error


def _detect_format(frame: pl.DataFrame, path: Path) -> str:
    columns = set(frame.columns)
    for name in (GENEBENCH, "long", "summary"):
        if set(_COLUMNS[name]) <= columns:
            return name
    if "task_name" in columns and any(name.startswith("mean_") for name in columns):
        return "report"
    formats = [f"{name}: {', '.join(needed)}" for name, needed in _COLUMNS.items()]
    formats.append("report: task_name, model_name, test_…, mean_…, sd_…")
    raise LakeError(
        f"{path} has the columns of no known format ({'; '.join(formats)}); its columns are "
        + ", ".join(frame.columns[:12])
    )


def _read_long(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    label = pl.col("sub_task") if "sub_task" in frame.columns else pl.lit("")
    model = "Model" if "Model" in frame.columns else "model_name"
    return _to_known_metrics(
        frame.select(
            "task_name",
            label.fill_null("").alias("label"),
            pl.col(model).alias("encoder_name"),
            pl.lit("").alias("probe_name"),
            pl.col("metric").alias("scorer"),
            pl.lit(FOLD).alias("statistic"),
            _parse_numbers("fold", pl.Int8, frame, path),
            _parse_numbers("score", pl.Float64, frame, path).alias("value"),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _read_genebench(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    # Published results name a label's score as a sub-task, which is its own task here; scores of
    # single labels of a whole task have no published counterpart.
    whole = frame.filter(pl.col("label").fill_null("") == "")
    return _to_known_metrics(
        whole.select(
            pl.col("task_id").alias("task_name"),
            pl.lit("").alias("label"),
            pl.col("encoder_id").alias("encoder_name"),
            (pl.col("probe_id") if "probe_id" in frame.columns else pl.lit("")).alias("probe_name"),
            pl.col("metric").alias("scorer"),
            pl.lit(FOLD).alias("statistic"),
            _parse_numbers("fold", pl.Int8, whole, path),
            _parse_numbers("value", pl.Float64, whole, path),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _read_summary(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    return _to_known_metrics(
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
            _parse_numbers("value", pl.Float64, frame, path),
            pl.lit(None, pl.Int64).alias("n_samples"),
        )
    )


def _read_report(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Read one row for each model and task; `test_<scorer>` joins the folds by commas."""
    model = next(
        (name for name in ("model_name", "encoder_model_name") if name in frame.columns), None
    )
    if model is None:
        raise LakeError(f"{path} has no column model_name or encoder_model_name; add one of them")
    label = pl.col("sub_task") if "sub_task" in frame.columns else pl.lit("")
    size = (
        pl.col("sample_size").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
        if "sample_size" in frame.columns
        else pl.lit(None, pl.Int64)
    )
    base = frame.with_columns(
        label.fill_null("").alias("label"),
        pl.col(model).alias("encoder_name"),
        (pl.col(_PROBE_COLUMN) if _PROBE_COLUMN in frame.columns else pl.lit("")).alias(
            "probe_name"
        ),
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
            .with_columns(_parse_numbers("value", pl.Float64, cells.explode("value"), path))
            .drop("row")
        )
    return _to_known_metrics(pl.concat(parts)) if parts else pl.DataFrame(schema=_SCHEMA)


_READERS = {
    "long": _read_long,
    GENEBENCH: _read_genebench,
    "summary": _read_summary,
    "report": _read_report,
}


def _parse_numbers(name: str, dtype: type[pl.DataType], frame: pl.DataFrame, path: Path) -> pl.Expr:
    """Convert a column of text to numbers.

    Raises:
        LakeError: A cell is not a number; shows the first such cell.
    """
    cells = frame[name].str.strip_chars().drop_nulls()
    wrong = cells.filter(cells.cast(dtype, strict=False).is_null())
    if wrong.len():
        raise LakeError(
            f"{path}: column {name} has {wrong.len():,} cells that are not numbers, "
            f"the first is {wrong[0]!r}"
        )
    return pl.col(name).str.strip_chars().cast(dtype)


def _to_known_metrics(scores: pl.DataFrame) -> pl.DataFrame:
    """Rename scorers to genebench's metrics and flip negated errors.

    Skips unknown scorers and empty cells.
    """
    known = {
        scorer: found
        for scorer in scores["scorer"].drop_nulls().unique()
        if (found := metric_of(scorer))
    }
    if not known:
        return pl.DataFrame(schema=_SCHEMA)
    metric = {scorer: found[0] for scorer, found in known.items()}
    sign = {scorer: found[1] for scorer, found in known.items()}
    rows = scores.filter(pl.col("scorer").is_in(list(known)) & pl.col("value").is_finite())
    return rows.with_columns(
        pl.col("scorer").replace_strict(metric, return_dtype=pl.String).alias("metric"),
        pl.when(pl.col("statistic") == SD)
        .then(pl.col("value"))
        .otherwise(pl.col("value") * pl.col("scorer").replace_strict(sign, return_dtype=pl.Float64))
        .alias("value"),
    ).select([pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()])

"""Published scores of the models of the paper, to be shown beside those of new vectors."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from genebench.registry.published_names import metric_of, read_published_names
from genebench.registry.registry import Registry

# The protocol that repeats the published computation.
PUBLISHED_PROTOCOL = "paper"
MARK = "(published)"
UNPAIRED = (
    "published scores are of the rows and folds of their own run, so no difference to them is "
    "tested; means are over the tasks that have published scores"
)
# Modality of models that are not declared as encoders (GEARS: single-cell RNA sequencing).
_UNDECLARED = "expression"


def published_file() -> Path:
    """The CSV file of the published fold scores, which `genebench import` reads too."""
    folder = Path(str(resources.files("genebench.reference") / "published"))
    return folder / "fold_scores.csv.gz"


def published_scores(registry: Registry, kinds: Mapping[str, str]) -> pl.DataFrame:
    """Means over folds of the published scores, by the main metric of each task.

    Source: the table of fold scores that the authors of the paper publish (June 2024).

    Args:
        registry: The declarations of the profile `paper`.
        kinds: Task id to its kind, for the tasks of interest.

    Returns:
        task_id, encoder_id (with the mark `(published)`), modality and value.
    """
    names = read_published_names()
    rows = pl.read_csv(published_file())
    tasks = {name: names.task_of(name, registry.tasks) for name in rows["task_name"].unique()}
    encoders = {name: names.encoder_of(name) or name for name in rows["model_name"].unique()}
    modalities = {
        encoder: registry.encoders[encoder].modality
        if encoder in registry.encoders
        else _UNDECLARED
        for encoder in encoders.values()
    }
    metrics = {name: found[0] for name in rows["metric"].unique() if (found := metric_of(name))}
    main = {task: MAIN_METRICS[kind] for task, kind in kinds.items()}
    text = pl.String()
    encoder = pl.col("model_name").replace_strict(encoders, return_dtype=text)
    return (
        rows.with_columns(
            pl.col("task_name").replace_strict(tasks, return_dtype=text).alias("task_id"),
            pl.col("metric").replace_strict(metrics, default=None, return_dtype=text),
            encoder.alias("encoder_id"),
        )
        .filter(
            pl.col("metric")
            == pl.col("task_id").replace_strict(main, default=None, return_dtype=text)
        )
        .group_by("task_id", "encoder_id")
        .agg(pl.col("score").mean().alias("value"))
        .select(
            "task_id",
            pl.format("{} {}", "encoder_id", pl.lit(MARK)).alias("encoder_id"),
            pl.col("encoder_id").replace_strict(modalities, return_dtype=text).alias("modality"),
            "value",
        )
        .sort("task_id", "encoder_id")
    )

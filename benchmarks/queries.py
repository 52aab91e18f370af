"""Benchmarks queries and the report page of a lake with two million score rows.

Generates a synthetic lake from a seed, runs typical queries, builds the page, and prints times and
sizes.

    python -m benchmarks.queries [--rows 2000000] [--lake FOLDER] [--page FOLDER]
"""

import argparse
import datetime as dt
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genebench.digest import digest_json
from genebench.evaluation.metrics import METRICS
from genebench.evaluation.statistics.means import task_group
from lakehouse.query.lake import Lake
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta

FAMILIES = ("biological", "genomic", "localization", "protein", "regulatory")
MODALITIES = ("text", "text", "expression", "protein", "dna", "classical")
N_FOLDS = 5
N_ENTITIES = 3000
N_LABELS = 29
PROBES = ("linear", "mlp")
LABEL_METRICS = ("roc_auc", "average_precision", "f1")
# The paper's tasks: how many of each kind.
N_TASKS = {"binary": 12, "multiclass": 42, "multilabel": 10, "regression": 10}
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
COMMIT = Commit("synthetic", "synthetic")
N_TIMES = 7


def make_lake(root: Path, n_rows: int, seed: int = 0) -> int:
    """Write a synthetic lake of about `n_rows` score rows; returns how many there are."""
    generator = np.random.default_rng(seed)
    tasks = _tasks(generator)
    n_encoders = max(4, round(n_rows / (len(PROBES) * _rows_of_one(tasks))))
    encoders = _encoders(n_encoders)
    delta = Delta(root)
    _write_silver(delta, tasks, encoders, generator)
    releases, scores, evaluations = _results(tasks, encoders, generator)
    delta.append("gold.scores", scores, COMMIT)
    delta.append("gold.evaluations", evaluations, COMMIT)
    delta.replace("gold.releases", releases, COMMIT, {"release_id": "current"})
    board = leaderboard_rows(Lake(root), "current")
    delta.replace("gold.leaderboard", board, COMMIT, {"release_id": "current"})
    return scores.height


def _tasks(generator: np.random.Generator) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    kinds = [kind for kind, n in N_TASKS.items() for _ in range(n)]
    for number, kind in enumerate(kinds):
        names = {
            "binary": ["absent", "present"],
            "multiclass": [f"class {n}" for n in range(6)],
            "multilabel": [f"label {n}" for n in range(N_LABELS)],
            "regression": ["value"],
        }[kind]
        task_id = f"task_{number}"
        task = _task(task_id, FAMILIES[number % len(FAMILIES)], kind, names, generator)
        tasks.append(task)
        if kind == "multilabel":
            tasks += [
                _task(f"{task_id}__{name.replace(' ', '_')}", task["family"], "binary",
                      [f"not {name}", name], generator, parent=task)
                for name in names
            ]  # fmt: skip
    return tasks


def _task(
    task_id: str,
    family: str,
    kind: str,
    names: list[str],
    generator: np.random.Generator,
    parent: dict[str, Any] | None = None,
) -> dict[str, Any]:
    n = parent["n_samples"] if parent else int(generator.integers(200, N_ENTITIES))
    return {
        "task_id": task_id,
        "profile_id": "synthetic",
        "family": family,
        "title": task_id.replace("__", ": ").replace("_", " ").capitalize(),
        "kind": kind,
        "entity_types": "gene",
        "source": "synthetic.table",
        "snapshot_id": "synthetic_1_table_00000000",
        "recipe": "column",
        "parent_task_id": parent["task_id"] if parent else None,
        "label_names": names,
        "positive": names[1] if kind == "binary" else None,
        "n_samples": n,
        "n_entities": n,
        "n_labels": len(names),
        "label_density": 0.3,
        "n_smallest_class": n // 10,
        "counts": json.dumps({"source rows": n, "rows": n}),
        "label_digest": digest_json([task_id]),
        "description": "Drawn from a seeded generator.",
        "superseded_by": None,
    }


def _encoders(n: int) -> pl.DataFrame:
    rows = []
    for number in range(n):
        is_control = number >= n - 3
        encoder_id = ("random", "shuffled", "oracle")[number - n] if is_control else f"e{number}"
        modality = "control" if is_control else MODALITIES[number % len(MODALITIES)]
        title = encoder_id.capitalize() if is_control else f"Encoder {number}"
        declaration = {"id": encoder_id, "title": title, "modality": modality, "loader": "control"}
        rows.append(
            {
                "encoder_id": encoder_id,
                "title": title,
                "modality": modality,
                "is_control": is_control,
                "encoder_digest": digest_json([encoder_id]),
                "declaration": json.dumps(declaration),
                "wanted_digest": digest_json([encoder_id]),
                "n_wanted": N_ENTITIES,
                "n_entities": N_ENTITIES,
                "dimension": 2,
                "is_complete": True,
                "run_id": "synthetic",
                "embedded_at": NOW,
                "weights": None,
                "weights_revision": None,
            }
        )
    return pl.DataFrame(rows)


def _metrics_of(kind: str) -> list[str]:
    return [name for name, metric in METRICS.items() if kind in metric.kinds]


def _rows_of_one(tasks: list[dict[str, Any]]) -> int:
    """Score rows of one encoder by one probe."""
    whole = sum(len(_metrics_of(task["kind"])) for task in tasks)
    labels = N_TASKS["multilabel"] * N_LABELS * len(LABEL_METRICS)
    return N_FOLDS * (whole + labels)


def _write_silver(
    delta: Delta,
    tasks: list[dict[str, Any]],
    encoders: pl.DataFrame,
    generator: np.random.Generator,
) -> None:
    ids = [f"synthetic:{number}" for number in range(N_ENTITIES)]
    samples, labels = [], []
    for task in tasks:
        if task["parent_task_id"]:
            continue
        n = task["n_samples"]
        base = {"family": [task["family"]] * n, "task_id": [task["task_id"]] * n}
        samples.append(pl.DataFrame({**base, "sample_id": ids[:n]}))
        values = generator.normal(size=n) if task["kind"] == "regression" else np.ones(n)
        names = generator.choice(task["label_names"], n)
        labels.append(pl.DataFrame({**base, "sample_id": ids[:n], "label": names, "value": values}))
    delta.replace("silver.tasks", pl.DataFrame(tasks, schema=table("silver.tasks").schema), COMMIT)
    delta.replace(
        "silver.samples",
        pl.concat(samples).with_columns(
            pl.lit(0, pl.Int8).alias("position"),
            pl.lit("gene").alias("entity_type"),
            pl.col("sample_id").alias("entity_id"),
        ),
        COMMIT,
        {},
    )
    delta.replace(
        "silver.labels", pl.concat(labels).with_columns(status=pl.lit(None, pl.String)), COMMIT, {}
    )
    delta.replace("silver.encoders", encoders, COMMIT, {})
    entities = pl.DataFrame({"entity_id": ids})
    delta.replace(
        "silver.embeddings",
        encoders.select("encoder_id", "encoder_digest", "run_id", "embedded_at")
        .join(entities, how="cross")
        .with_columns(
            pl.lit("gene").alias("entity_type"),
            pl.lit([0.0, 1.0], pl.List(pl.Float32)).alias("vector"),
            pl.lit(2, pl.Int32).alias("dimension"),
            pl.lit("0" * 32).alias("vector_digest"),
            pl.lit("0" * 32).alias("input_digest"),
            pl.lit(1, pl.Int32).alias("n_parts"),
        ),
        COMMIT,
        {},
    )


def _results(
    tasks: list[dict[str, Any]], encoders: pl.DataFrame, generator: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows of `gold.releases`, `gold.scores` and `gold.evaluations`."""
    frame = pl.DataFrame(tasks, schema=table("silver.tasks").schema)
    items = (
        frame.select("family", "task_id", "kind", "label_digest", "n_samples", task_group())
        .join(encoders.select("encoder_id", "modality"), how="cross")
        .join(pl.DataFrame({"probe_id": PROBES}), how="cross")
        .with_columns(
            pl.lit("current").alias("release_id"),
            pl.lit("standard").alias("protocol_id"),
            pl.lit("0" * 32).alias("feature_digest"),
            pl.lit("0" * 32).alias("probe_digest"),
            pl.lit("synthetic").alias("run_id"),
            pl.concat_str("task_id", "encoder_id", "probe_id", separator=" ")
            .map_elements(lambda name: digest_json([name]), return_dtype=pl.String)
            .alias("evaluation_key"),
        )
    )
    whole = pl.DataFrame(
        [(kind, name, "") for kind in N_TASKS for name in _metrics_of(kind)]
        + [("multilabel", m, f"label {n}") for m in LABEL_METRICS for n in range(N_LABELS)],
        schema=["kind", "metric", "label"],
        orient="row",
    )
    scores = (
        items.join(whole, on="kind")
        .join(pl.DataFrame({"fold": range(N_FOLDS)}, schema={"fold": pl.Int8}), how="cross")
        .with_columns(
            pl.lit(2400, pl.Int32).alias("n_train"),
            pl.lit(600, pl.Int32).alias("n_test"),
            pl.lit("synthetic").alias("run_id"),
            pl.lit(NOW).alias("evaluated_at"),
            pl.lit(None, pl.String).alias("batch_id"),
        )
    )
    skills = generator.uniform(0.55, 0.85, encoders.height)
    skill = dict(zip(encoders["encoder_id"], skills, strict=True))
    skill |= {"random": 0.5, "shuffled": 0.5, "oracle": 0.99}
    ease = dict(zip(frame["task_id"], generator.normal(0, 0.08, frame.height), strict=True))
    value = (
        scores["encoder_id"].replace_strict(skill, return_dtype=pl.Float64)
        + scores["task_id"].replace_strict(ease, return_dtype=pl.Float64)
        + pl.Series(generator.normal(0, 0.03, scores.height))
    ).clip(0.01, 1.0)
    evaluations = items.with_columns(
        pl.lit("ok").alias("status"),
        pl.lit(None, pl.String).alias("reason"),
        pl.lit(2, pl.Int32).alias("n_features"),
        pl.lit(1, pl.Int32).alias("n_labels"),
        pl.lit("synthetic").alias("solver"),
        pl.lit(1e-7).alias("gradient_norm"),
        pl.lit(0.1).alias("seconds"),
        pl.lit(1, pl.Int32).alias("revision"),
        pl.lit("synthetic").alias("packages"),
        pl.lit("synthetic").alias("run_id"),
        pl.lit(NOW).alias("evaluated_at"),
        pl.lit(None, pl.String).alias("batch_id"),
    )
    names = {name: table(f"gold.{name}").columns for name in ("releases", "scores", "evaluations")}
    return (
        items.select(list(names["releases"])),
        scores.with_columns(value.alias("value")).select(list(names["scores"])),
        evaluations.select(list(names["evaluations"])),
    )


def measure(question: Callable[[], object]) -> float:
    """Median milliseconds of several askings, after one that warms the file cache."""
    question()
    seconds = []
    for _ in range(N_TIMES):
        start = time.perf_counter()
        question()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def ask(root: Path) -> dict[str, float]:
    """Milliseconds of each question, each asked of an opened lake."""
    lake = Lake(root)
    sql = "select encoder_id, avg(value) from scores where task_id = 'task_3' group by encoder_id"
    questions: dict[str, Callable[[], object]] = {
        "leaderboard()": lake.leaderboard,
        "leaderboard(metric='f1')": lambda: lake.leaderboard(metric="f1"),
        "scores(task='task_3')": lambda: lake.scores(task="task_3").collect(),
        "scores(task='task_3', encoder='e1')": lambda: lake.scores("task_3", "e1").collect(),
        "scores(task='task_60', metric='roc_auc')": lambda: lake.scores(
            "task_60", metric="roc_auc"
        ).collect(),
        "query(one task by encoder)": lambda: lake.query(sql),
        "task('task_3')": lambda: lake.task("task_3"),
        "compare('e0', 'e1')": lambda: lake.compare("e0", "e1"),
        "releases()": lake.releases,
    }
    return {name: measure(question) for name, question in questions.items()}


def build(root: Path, folder: Path) -> dict[str, float]:
    """Seconds that the page takes, and its megabytes."""
    from lakehouse.report.page.write import write_report

    start = time.perf_counter()
    path = write_report(Lake(root), "current", folder, with_files=False)
    seconds = time.perf_counter() - start
    return {"page_seconds": seconds, "page_megabytes": path.stat().st_size / 1e6}


def main() -> None:
    """Make the lake where it is not there yet, ask it, build its page, print all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.lake or Path(scratch, "lake")
        found: dict[str, Any] = {}
        if not (root / "gold").is_dir():
            start = time.perf_counter()
            found["score_rows"] = make_lake(root, given.rows)
            found["make_seconds"] = time.perf_counter() - start
        found["milliseconds"] = ask(root)
        found |= build(root, given.page or Path(scratch, "report"))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""Tests the significance of a release's scores: pairs of encoders, verdicts on tasks, and ranks.

All results are computed from `gold.scores` and `gold.intervals`. The oracle reads the labels; it
is an upper bound and takes no part.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.bootstrap import LEVEL
from genebench.evaluation.statistics.means import task_weights
from genebench.evaluation.statistics.paired_tests import (
    adjust_holm,
    corrected_t_test,
    paired_bootstrap_test,
)
from genebench.evaluation.statistics.ranking import Ranking
from genebench.evaluation.statistics.ranking import rank_over_tasks as rank_scores
from genebench.tasks.declaration import is_in_overall, is_subtask
from lakehouse.score.evidence import read_evaluations, read_evidence
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

UPPER_BOUND_LOADERS = ("oracle",)
_TASK = ["family", "task_id", "kind", "probe_id", "protocol_id", "metric"]


def comparison_rows(tables: Tables, release: str, level: float = LEVEL) -> pl.DataFrame:
    """Compute the rows of `gold.comparisons`: all pairs of encoders on all whole tasks.

    Args:
        tables: The tables of the lake.
        release: The release; its evaluations need intervals (`uncertainty` of the protocol).
        level: Coverage of the intervals; the significance level of the tests is 1 - level.

    Returns:
        One row for each pair, task, probe and protocol. `encoder_a` sorts before `encoder_b`;
        `difference` is a minus b by the task's main metric. Two encoders are a pair only if they
        were scored on the same samples (not so with `--universe full`) and have equally many
        bootstrap replicates. `p_adjusted` is `p_rows` after Holm's correction over all pairs of
        encoders and tasks of a probe and protocol.

    Raises:
        LakeError: The release does not exist.
    """
    rows = list(_compare_all_pairs(_read_main_scores(tables, release), level))
    schema = table("gold.comparisons").schema
    if not rows:
        return table("gold.comparisons").empty()
    found = pl.DataFrame(rows).with_columns(pl.lit(release).alias("release_id"))
    parts = []
    for part in found.partition_by("probe_id", "protocol_id"):
        adjusted = pl.Series("p_adjusted", adjust_holm(part["p_rows"].to_list()))
        is_established = (adjusted < 1 - level) & (part["p_folds"] < 1 - level)
        parts.append(part.with_columns(adjusted, is_established.alias("is_established")))
    whole = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    return whole.sort(table("gold.comparisons").key)


def verdict_rows(tables: Tables, release: str, comparisons: pl.DataFrame) -> pl.DataFrame:
    """Compute the rows of `gold.verdicts`: whether each whole task distinguishes encoders.

    A control solves a task if its mean is at least that of every other encoder and its interval is
    wholly better than the metric's chance level. If its interval includes chance, the verdict is
    `at chance`. `noise` is the median half-width of the encoders' intervals without controls,
    `spread` the distance from the best to the worst of these encoders.

    Args:
        tables: The tables of the lake.
        release: The release.
        comparisons: The release's rows of `gold.comparisons`.

    Raises:
        LakeError: The release does not exist.
    """
    scores = _read_main_scores(tables, release)
    counts = (
        comparisons.filter(~_is_control(tables, "encoder_a") & ~_is_control(tables, "encoder_b"))
        .group_by(_TASK)
        .agg(pl.len().alias("n_pairs"), pl.col("is_established").sum().alias("n_established"))
    )
    counted = {row[:6]: row[6:] for row in counts.select(*_TASK, "n_pairs", "n_established").rows()}
    rows = []
    for key, part in scores.partition_by(_TASK, as_dict=True).items():
        n_pairs, n_established = counted.get(key, (0, 0))
        rows.append(
            {
                **dict(zip(_TASK, key, strict=True)),
                "release_id": release,
                "n_pairs": n_pairs,
                "n_established": n_established,
                **_task_verdict(part, n_pairs, n_established),
            }
        )
    schema = table("gold.verdicts").schema
    return pl.DataFrame(rows, schema=schema).sort(table("gold.verdicts").key)


def stored_rows(tables: Tables, name: str, release: str) -> pl.DataFrame:
    """Read a release's rows of a gold table, sorted by the table's key."""
    rows = tables.table(name).filter(pl.col("release_id") == release)
    return rows.sort(table(name).key).collect()


def describe_verdicts(tables: Tables, release: str) -> dict[str, str]:
    """Return the verdict of each task as text, by the linear probe if it was used.

    Returns:
        Task to verdict; a solved task names the control (`solved by degree`). Empty if
        `genebench report` has not run on the release.
    """
    first = pl.col("probe_id") != "linear"
    rows = tables.table("gold.verdicts").filter(pl.col("release_id") == release)
    found = rows.select("task_id", "probe_id", "solved_by", "verdict").collect()
    kept = found.sort(first, "probe_id").unique("task_id", keep="first")
    return {
        row["task_id"]: f"solved by {row['solved_by']}" if row["solved_by"] else row["verdict"]
        for row in kept.iter_rows(named=True)
    }


def rank_release(
    tables: Tables,
    release: str,
    metric: str = "roc_auc",
    probe: str = "linear",
    level: float = LEVEL,
) -> tuple[list[str], Ranking]:
    """Rank the encoders of a release, without controls, over its whole tasks.

    Near-duplicate tasks share the weight of one task; temporal tasks are left out.

    Args:
        tables: The tables of the lake.
        release: The release.
        metric: The metric; only tasks whose main metric it is are used.
        probe: The probe.
        level: The significance level of the critical difference is 1 - level.

    Returns:
        The encoders in the order of the ranking's arrays, and the ranking.

    Raises:
        LakeError: There are fewer than two encoders, or fewer than two tasks that all of them
            were scored on.
    """
    scores = _read_main_scores(tables, release).filter(
        (pl.col("metric") == metric) & (pl.col("probe_id") == probe) & ~pl.col("is_control")
    )
    scores = scores.filter(is_in_overall())
    wide = scores.pivot(on="encoder_id", index="task_id", values="value").drop_nulls()
    encoders = sorted(set(wide.columns) - {"task_id"})
    if len(encoders) < 2 or wide.height < 2:
        raise LakeError(
            f"release {release!r} has {len(encoders)} encoders with {wide.height} common tasks "
            f"by {metric} and probe {probe!r}; a ranking needs two of each"
        )
    weights = dict(task_weights(read_release(tables, release)).iter_rows())
    sign = 1.0 if METRICS[metric].is_greater_better else -1.0
    values = sign * wide.select(encoders).to_numpy()
    weighted = np.array([weights[task_id] for task_id in wide["task_id"]])
    return encoders, rank_scores(values, level, weighted)


def _read_main_scores(tables: Tables, release: str) -> pl.DataFrame:
    """Read the main-metric scores of a release's whole tasks: interval, replicates and folds."""
    leaves = read_release(tables, release).filter(~is_subtask())
    folds = (
        read_scores(tables, release=release, label="")
        .filter(pl.col("metric") == pl.col("kind").replace_strict(dict(MAIN_METRICS)))
        .join(leaves.lazy().select("task_id").unique(), on="task_id", how="semi")
        .join(leaves.lazy().select("evaluation_key", "label_digest").unique(), on="evaluation_key")
        .collect()
    )
    index = [*_TASK, "encoder_id", "evaluation_key", "label_digest"]
    by_fold = (
        folds.sort("fold")
        .group_by(index, maintain_order=True)
        .agg(
            pl.col("value").alias("folds"),
            pl.col("n_train", "n_test").mean(),
            (pl.col("n_train") + pl.col("n_test")).mean().alias("n_used"),
        )
    )
    intervals = (
        read_evidence(tables, "gold.intervals", leaves)
        .select("evaluation_key", "metric", "low", "high", "replicates")
        .collect()
    )
    sizes = (
        read_evaluations(tables)
        .filter(pl.col("status") == "ok")
        .select("evaluation_key", "n_samples")
        .collect()
    )
    # If folds of pairs hold out entities, pairs across the two parts are unused. The sizes of the
    # parts are then counted in entities, which grow with the square root of the pairs.
    is_by_entity = pl.col("n_used") < pl.col("n_samples")
    parts = (
        pl.when(is_by_entity).then(pl.col(name).sqrt()).otherwise(name).alias(name)
        for name in ("n_train", "n_test")
    )
    return (
        by_fold.join(sizes, on="evaluation_key", how="left")
        .with_columns(pl.col("folds").list.mean().alias("value"), *parts)
        .join(intervals, on=["evaluation_key", "metric"], how="left")
        .filter(~pl.col("encoder_id").is_in(_upper_bound_encoders(tables)))
        .with_columns(_is_control(tables, "encoder_id").alias("is_control"))
        .sort(*_TASK, "encoder_id")
    )


def _upper_bound_encoders(tables: Tables) -> list[str]:
    """Return the encoders that read the labels."""
    encoders = tables.table("silver.encoders").select("encoder_id", "declaration").collect()
    return [
        name
        for name, text in encoders.iter_rows()
        if json.loads(text)["loader"] in UPPER_BOUND_LOADERS
    ]


def _is_control(tables: Tables, column: str) -> pl.Expr:
    encoders = tables.table("silver.encoders").filter(pl.col("is_control")).collect()
    return pl.col(column).is_in(encoders["encoder_id"].to_list())


def _compare_all_pairs(scores: pl.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    # Folds and replicates are paired by number; equal numbers are equal folds and replicates only
    # for the same samples and the same number of replicates.
    comparable = scores.with_columns(pl.col("replicates").list.len().alias("n_replicates"))
    for key, part in comparable.partition_by(
        *_TASK, "label_digest", "n_replicates", as_dict=True
    ).items():
        known = [row for row in part.iter_rows(named=True) if row["replicates"]]
        replicates = {
            row["encoder_id"]: np.array(row["replicates"], dtype=np.float64) for row in known
        }
        for first, second in itertools.combinations(known, 2):
            yield {
                **dict(zip(_TASK, key, strict=False)),
                "encoder_a": first["encoder_id"],
                "encoder_b": second["encoder_id"],
                **_compare_pair(first, second, replicates, level),
            }


def _compare_pair(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    replicates: Mapping[str, npt.NDArray[np.float64]],
    level: float,
) -> dict[str, float]:
    value = first["value"] - second["value"]
    pair = replicates[first["encoder_id"]], replicates[second["encoder_id"]]
    by_rows = paired_bootstrap_test(value, *pair, level)
    differences = np.array(first["folds"]) - np.array(second["folds"])
    by_folds = corrected_t_test(differences, first["n_train"], first["n_test"], level)
    return {
        "difference": value,
        "low": by_rows.low,
        "high": by_rows.high,
        "p_rows": by_rows.p_value,
        "p_folds": by_folds.p_value,
    }


def _task_verdict(part: pl.DataFrame, n_pairs: int, n_established: int) -> dict[str, Any]:
    """Return the best encoder, the best control and the verdict of one task."""
    metric = METRICS[part["metric"][0]]
    ordered = part.sort("value", "encoder_id", descending=[metric.is_greater_better, False])
    encoders, controls = ordered.filter(~pl.col("is_control")), ordered.filter(pl.col("is_control"))
    found: dict[str, Any] = dict.fromkeys(
        ("best_encoder_id", "best_value", "control_id", "control_value", "noise", "spread")
    )
    found["solved_by"] = None
    if controls.height:
        found |= {"control_id": controls["encoder_id"][0], "control_value": controls["value"][0]}
    if not encoders.height:
        return {**found, "verdict": "no encoder"}
    found |= {
        "best_encoder_id": encoders["encoder_id"][0],
        "best_value": encoders["value"][0],
        "noise": ((encoders["high"] - encoders["low"]) / 2).median(),
        "spread": abs(encoders["value"][0] - encoders["value"][-1]),
    }
    sign = 1.0 if metric.is_greater_better else -1.0
    if controls.height and sign * (controls["value"][0] - encoders["value"][0]) >= 0:
        worst = controls["low" if metric.is_greater_better else "high"][0]
        chance = metric.chance
        if chance is not None and worst is not None and sign * (worst - chance) <= 0:
            return {**found, "verdict": "at chance"}
        return {**found, "solved_by": controls["encoder_id"][0], "verdict": "solved by a control"}
    if encoders.height == 1:
        return {**found, "verdict": "one encoder"}
    if not n_pairs:
        return {**found, "verdict": "not compared"}
    return {**found, "verdict": "encoders differ" if n_established else "encoders tie"}

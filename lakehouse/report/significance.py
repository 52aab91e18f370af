"""What the numbers of a release can bear: pairs of encoders, controls, noise, and ranks over tasks.

Everything is computed from `gold.scores` and `gold.intervals`; the oracle, which reads the labels,
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
from genebench.evaluation.statistics.means import weigh_tasks
from genebench.evaluation.statistics.paired_tests import (
    adjust_holm,
    compare_folds,
    compare_replicates,
)
from genebench.evaluation.statistics.ranking import Ranking
from genebench.evaluation.statistics.ranking import rank_over_tasks as rank_scores
from genebench.tasks.declaration import is_subtask
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.catalogue import table
from lakehouse.tables.time_travel import Tables

CEILINGS = ("oracle",)
_TASK = ["family", "task_id", "kind", "probe_id", "protocol_id", "metric"]


def comparison_rows(lake: Tables, release: str, level: float = LEVEL) -> pl.DataFrame:
    """Rows of `gold.comparisons` of a release: all pairs of encoders on all leaf tasks.

    Args:
        lake: The lake.
        release: The release; its evaluations need intervals (`uncertainty` of the protocol).
        level: One less the level of the tests, and the coverage of the intervals.

    Returns:
        One row a pair, `encoder_a` before `encoder_b` by name, `difference` the first less the
        second by the task's main metric. Two encoders that were scored on other samples of a task
        (`--universe full`) or with other numbers of draws are no pair. `p_adjusted` is `p_rows`
        after Holm over all pairs of encoders and tasks of a probe.

    Raises:
        LakeError: The release does not exist.
    """
    rows = list(_compare_all(_read(lake, release), level))
    schema = table("gold.comparisons").schema
    if not rows:
        return table("gold.comparisons").empty()
    found = pl.DataFrame(rows).with_columns(pl.lit(release).alias("release_id"))
    parts = []
    for part in found.partition_by("probe_id", "protocol_id"):
        adjusted = pl.Series("p_adjusted", adjust_holm(part["p_rows"].to_list()))
        is_found = (adjusted < 1 - level) & (part["p_folds"] < 1 - level)
        parts.append(part.with_columns(adjusted, is_found.alias("is_established")))
    whole = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    return whole.sort(table("gold.comparisons").key)


def verdict_rows(lake: Tables, release: str, comparisons: pl.DataFrame) -> pl.DataFrame:
    """Rows of `gold.verdicts` of a release: what each leaf task can tell.

    A task is solved by a control whose mean is at least that of every real encoder and whose
    interval is wholly better than the metric's chance level; else nothing is above chance. `noise`
    is the median half-width of the real encoders' intervals, `spread` the distance from the best
    real encoder to the worst.

    Args:
        lake: The lake.
        release: The release.
        comparisons: Its rows of `gold.comparisons`.
    """
    scores = _read(lake, release)
    counts = (
        comparisons.filter(~_controlled(lake, "encoder_a") & ~_controlled(lake, "encoder_b"))
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
                **_judge(part, n_pairs, n_established),
            }
        )
    schema = table("gold.verdicts").schema
    return pl.DataFrame(rows, schema=schema).sort(table("gold.verdicts").key)


def stored_rows(lake: Tables, name: str, release: str) -> pl.DataFrame:
    """The rows of a release in one of these tables, in the order of its key."""
    rows = lake.table(name).filter(pl.col("release_id") == release)
    return rows.sort(table(name).key).collect()


def verdict_words(lake: Tables, release: str) -> dict[str, str]:
    """What each judged task of a release can tell, by the linear probe where there is one.

    Returns:
        Task to a verdict, with the control's id where one solves it (`solved by degree`); empty
        where `genebench report` has not judged the release.
    """
    first = pl.col("probe_id") != "linear"
    rows = lake.table("gold.verdicts").filter(pl.col("release_id") == release)
    found = rows.select("task_id", "probe_id", "solved_by", "verdict").collect()
    kept = found.sort(first, "probe_id").unique("task_id", keep="first")
    return {
        row["task_id"]: f"solved by {row['solved_by']}" if row["solved_by"] else row["verdict"]
        for row in kept.iter_rows(named=True)
    }


def rank_release(
    lake: Tables, release: str, metric: str = "roc_auc", probe: str = "linear", level: float = LEVEL
) -> tuple[list[str], Ranking]:
    """Rank the real encoders of a release over its leaf tasks, near-duplicates sharing a weight.

    Returns:
        The encoders in the order of the ranking's arrays, and the ranking.

    Raises:
        LakeError: Fewer than two encoders, or tasks that all of them were scored on.
    """
    scores = _read(lake, release).filter(
        (pl.col("metric") == metric) & (pl.col("probe_id") == probe) & ~pl.col("is_control")
    )
    wide = scores.pivot(on="encoder_id", index="task_id", values="value").drop_nulls()
    encoders = sorted(set(wide.columns) - {"task_id"})
    if len(encoders) < 2 or wide.height < 2:
        raise LakeError(
            f"release {release!r} has {len(encoders)} encoders with {wide.height} tasks in common "
            f"by {metric} and probe {probe!r}; a ranking needs two of each"
        )
    weights = dict(weigh_tasks(read_release(lake, release)).iter_rows())
    sign = 1.0 if METRICS[metric].is_greater_better else -1.0
    values = sign * wide.select(encoders).to_numpy()
    weighted = np.array([weights[task_id] for task_id in wide["task_id"]])
    return encoders, rank_scores(values, level, weighted)


def _read(lake: Tables, release: str) -> pl.DataFrame:
    """Main-metric scores of a release's leaf tasks with interval, replicates and folds."""
    leaves = read_release(lake, release).filter(~is_subtask())
    folds = (
        read_scores(lake, release=release, label="")
        .filter(pl.col("metric") == pl.col("kind").replace_strict(dict(MAIN_METRICS)))
        .join(leaves.lazy().select("task_id").unique(), on="task_id", how="semi")
        .join(leaves.lazy().select("evaluation_key", "label_digest").unique(), on="evaluation_key")
        .collect()
    )
    who = [*_TASK, "encoder_id", "evaluation_key", "label_digest"]
    by_fold = (
        folds.sort("fold")
        .group_by(who, maintain_order=True)
        .agg(
            pl.col("value").alias("folds"),
            pl.col("n_train", "n_test").mean(),
            (pl.col("n_train") + pl.col("n_test")).mean().alias("n_used"),
        )
    )
    intervals = (
        lake.table("gold.intervals")
        .filter(pl.col("evaluation_key").is_in(leaves["evaluation_key"].unique().implode()))
        .select("evaluation_key", "metric", "low", "high", "replicates")
        .unique(["evaluation_key", "metric"])
        .collect()
    )
    sizes = (
        lake.table("gold.evaluations")
        .filter(pl.col("status") == "ok")
        .select("evaluation_key", "n_samples")
        .unique("evaluation_key")
        .collect()
    )
    # Where entities of pairs are held out, a pair of one in each part is in neither. What counts
    # of the parts is then how many entities they hold, which goes with the root of their pairs.
    is_by_entity = pl.col("n_used") < pl.col("n_samples")
    parts = (
        pl.when(is_by_entity).then(pl.col(name).sqrt()).otherwise(name).alias(name)
        for name in ("n_train", "n_test")
    )
    return (
        by_fold.join(sizes, on="evaluation_key", how="left")
        .with_columns(pl.col("folds").list.mean().alias("value"), *parts)
        .join(intervals, on=["evaluation_key", "metric"], how="left")
        .filter(~pl.col("encoder_id").is_in(_ceilings(lake)))
        .with_columns(_controlled(lake, "encoder_id").alias("is_control"))
        .sort(*_TASK, "encoder_id")
    )


def _ceilings(lake: Tables) -> list[str]:
    """Encoders that read the labels."""
    encoders = lake.table("silver.encoders").select("encoder_id", "declaration").collect()
    return [name for name, text in encoders.iter_rows() if json.loads(text)["loader"] in CEILINGS]


def _controlled(lake: Tables, column: str) -> pl.Expr:
    encoders = lake.table("silver.encoders").filter(pl.col("is_control")).collect()
    return pl.col(column).is_in(encoders["encoder_id"].to_list())


def _compare_all(scores: pl.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    # Folds and draws are paired by their number, which means the same on the same samples and
    # among as many draws only.
    alike = scores.with_columns(pl.col("replicates").list.len().alias("n_draws"))
    for key, part in alike.partition_by(*_TASK, "label_digest", "n_draws", as_dict=True).items():
        known = [row for row in part.iter_rows(named=True) if row["replicates"]]
        drawn = {row["encoder_id"]: np.array(row["replicates"], dtype=np.float64) for row in known}
        for first, second in itertools.combinations(known, 2):
            yield {
                **dict(zip(_TASK, key, strict=False)),
                "encoder_a": first["encoder_id"],
                "encoder_b": second["encoder_id"],
                **_compare(first, second, drawn, level),
            }


def _compare(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    drawn: Mapping[str, npt.NDArray[np.float64]],
    level: float,
) -> dict[str, float]:
    value = first["value"] - second["value"]
    pair = drawn[first["encoder_id"]], drawn[second["encoder_id"]]
    by_rows = compare_replicates(value, *pair, level)
    differences = np.array(first["folds"]) - np.array(second["folds"])
    by_folds = compare_folds(differences, first["n_train"], first["n_test"], level)
    return {
        "difference": value,
        "low": by_rows.low,
        "high": by_rows.high,
        "p_rows": by_rows.p_value,
        "p_folds": by_folds.p_value,
    }


def _judge(part: pl.DataFrame, n_pairs: int, n_established: int) -> dict[str, Any]:
    """Best encoder, best control and the verdict of one task."""
    metric = METRICS[part["metric"][0]]
    ordered = part.sort("value", "encoder_id", descending=[metric.is_greater_better, False])
    real, controls = ordered.filter(~pl.col("is_control")), ordered.filter(pl.col("is_control"))
    found: dict[str, Any] = dict.fromkeys(
        ("best_encoder_id", "best_value", "control_id", "control_value", "noise", "spread")
    )
    found["solved_by"] = None
    if controls.height:
        found |= {"control_id": controls["encoder_id"][0], "control_value": controls["value"][0]}
    if not real.height:
        return {**found, "verdict": "no encoder"}
    found |= {
        "best_encoder_id": real["encoder_id"][0],
        "best_value": real["value"][0],
        "noise": ((real["high"] - real["low"]) / 2).median(),
        "spread": abs(real["value"][0] - real["value"][-1]),
    }
    sign = 1.0 if metric.is_greater_better else -1.0
    if controls.height and sign * (controls["value"][0] - real["value"][0]) >= 0:
        worst = controls["low" if metric.is_greater_better else "high"][0]
        chance = metric.chance
        if chance is not None and worst is not None and sign * (worst - chance) <= 0:
            return {**found, "verdict": "at chance"}
        return {**found, "solved_by": controls["encoder_id"][0], "verdict": "solved by a control"}
    if real.height == 1:
        return {**found, "verdict": "one encoder"}
    if not n_pairs:
        return {**found, "verdict": "not compared"}
    return {**found, "verdict": "encoders differ" if n_established else "encoders tie"}

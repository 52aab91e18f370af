"""The scoring of a lake by the engine and by scikit-learn: the same rows, labels and folds.

The baseline is what one would write: for each label and fold a LogisticRegression, or under a
protocol that chooses C a StandardScaler and a LogisticRegressionCV over the same path and as many
inner folds. It runs a process a core, one thread each, on some labels and folds of each task, and
its time is scaled up. It only fits; ours computes metrics and intervals too.

    python -m benchmarks.road --lake lake --encoder minilm --protocol standard
"""

import argparse
import contextlib
import os
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

import genebench.protocols
from benchmarks.__main__ import keep
from benchmarks.baseline import one_thread
from benchmarks.engine import load_linear
from genebench.errors import DegenerateTask
from genebench.evaluate import evaluate
from genebench.probes import TRAIN, Problem
from genebench.probes.sklearn import join_vectors
from genebench.protocols import Protocol
from lakehouse import open_lake
from lakehouse.materials import read_vectors
from lakehouse.universes import prepare_task

# Fits of each task that the baseline runs.
SAMPLE = 2

_held: dict[str, Any] = {}


def read_problems(
    folder: str, encoder_id: str, protocol: Protocol
) -> tuple[npt.NDArray[np.float32], list[Problem]]:
    """Vectors of an encoder, and every task that can be scored on them."""
    lake = open_lake(folder)
    vectors = read_vectors(lake.delta, encoder_id, "gene")
    universe = pl.Series(vectors.entity_ids)
    problems = []
    for row in lake.table("silver.tasks").collect().iter_rows(named=True):
        if row["superseded_by"] is not None or row["entity_types"] != "gene":
            continue
        with contextlib.suppress(DegenerateTask):
            prepared = prepare_task(lake, row, universe, protocol)
            problems.append(prepared.problem(row["task_id"], protocol))
    return vectors.matrix, problems


def sample_fits(problem: Problem) -> list[tuple[int, int]]:
    """(label, fold) of fits spread over those that can be fitted."""
    labels = range(problem.n_columns if problem.kind == "multilabel" else 1)
    fits = [(label, fold) for label in labels for fold in range(problem.n_folds)]
    fits = [fit for fit in fits if len(np.unique(_targets(problem, *fit))) > 1]
    step = max(len(fits) / SAMPLE, 1.0)
    return [fits[int(i * step)] for i in range(min(SAMPLE, len(fits)))]


def _targets(problem: Problem, label: int, fold: int) -> npt.NDArray[Any]:
    targets: npt.NDArray[Any] = problem.targets[problem.split[:, fold] == TRAIN]
    return targets[:, label] if problem.kind == "multilabel" else targets


def _start(path: str, protocol: Protocol) -> None:
    from sklearn.linear_model import LogisticRegression

    _held.update(vectors=np.load(path, mmap_mode="r"), protocol=protocol)
    LogisticRegression().fit(np.eye(4, dtype=np.float32), [0, 1, 0, 1])


def _fit(problem: Problem, label: int, fold: int) -> None:
    from sklearn.linear_model import (
        LinearRegression,
        LogisticRegression,
        LogisticRegressionCV,
        RidgeCV,
    )
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    protocol: Protocol = _held["protocol"]
    path, is_number = protocol.penalty.c, problem.kind == "regression"
    if len(path) > 1:
        inner = LogisticRegressionCV(
            Cs=path, cv=protocol.penalty.inner, scoring="neg_log_loss", max_iter=5000,
            l1_ratios=(0,), use_legacy_attributes=False,
        )  # fmt: skip
        model = make_pipeline(
            StandardScaler(), RidgeCV(alphas=[1 / c for c in path]) if is_number else inner
        )
    else:
        model = LinearRegression() if is_number else LogisticRegression(C=path[0], max_iter=5000)
    rows = problem.rows[problem.split[:, fold] == TRAIN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            join_vectors(_held["vectors"], rows, protocol.pair_join), _targets(problem, label, fold)
        )


def time_baseline(
    vectors: npt.NDArray[np.float32], problems: list[Problem], protocol: Protocol
) -> tuple[float, int, int]:
    """Seconds scaled up to all fits, fits run, and all fits."""
    total, n_run, n_all = 0.0, 0, 0
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vectors.npy")
        np.save(path, vectors)
        with ProcessPoolExecutor(
            os.cpu_count(), get_context("spawn"), initializer=_start, initargs=(path, protocol)
        ) as pool:
            list(pool.map(abs, range(8)))
            for problem in problems:
                fits = sample_fits(problem)
                labels = problem.n_columns if problem.kind == "multilabel" else 1
                started = time.perf_counter()
                list(pool.map(_fit, [problem] * len(fits), *zip(*fits, strict=True)))
                total += (time.perf_counter() - started) * labels * problem.n_folds / len(fits)
                n_run, n_all = n_run + len(fits), n_all + labels * problem.n_folds
    return total, n_run, n_all


def main() -> None:
    """Time both and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", default="lake", help="of a run of `genebench benchmark`")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--protocol", default="standard", choices=["paper", "standard"])
    given = parser.parse_args()
    file = Path(genebench.protocols.__file__).with_name(f"{given.protocol}.yaml")
    protocol = Protocol.model_validate(yaml.safe_load(file.read_text()))
    vectors, problems = read_problems(given.lake, given.encoder, protocol)
    probe, _ = load_linear()
    load_before, started = os.getloadavg()[0], time.perf_counter()
    evaluations = list(evaluate(vectors, problems, probe, protocol, intervals=True))
    seconds = time.perf_counter() - started
    statuses = {evaluation.problem_id: evaluation.status for evaluation in evaluations}
    fitted = [problem for problem in problems if statuses[problem.id] == "ok"]
    baseline, n_run, n_all = time_baseline(vectors, fitted, protocol)
    result = {
        "name": f"scoring of a lake, {given.protocol} protocol",
        "case": f"{len(problems)} tasks and sub-tasks, {given.encoder}, "
        f"{vectors.shape[0]} x {vectors.shape[1]}",
        "ours_s": seconds,
        "statuses": dict(Counter(statuses.values())),
        "baseline": "scikit-learn, fits alone, one thread a process, a process a core",
        "baseline_s": baseline,
        "ratio": baseline / seconds,
        "baseline_fits": n_run,
        "all_fits": n_all,
        "is_extrapolated": True,
        "load_before": load_before,
        "n_cores": os.cpu_count(),
    }
    for key, value in result.items():
        print(f"{key:16} {value}")
    keep([result])


if __name__ == "__main__":
    main()

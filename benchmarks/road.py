"""Benchmarks scoring of a lake against scikit-learn, on the same rows, labels and folds.

The baseline fits a LogisticRegression for each label and fold; under a protocol that chooses C, a
StandardScaler and a LogisticRegressionCV over the same path and number of inner folds. It runs on a
sample of labels and folds of each task, and its time is scaled up. It only fits and predicts; our
time includes metrics and intervals.

    python -m benchmarks.road --lake lake --encoder minilm --protocol standard
"""

import argparse
import os
import time
from collections import Counter

import yaml

from benchmarks.__main__ import keep, show
from benchmarks.baseline import Solver, count_fits, run_baseline, sample_fits
from benchmarks.engine import load_linear
from genebench.evaluation.evaluate import evaluate
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import declarations_folder
from lakehouse import open_lake
from lakehouse.score.encoder_evaluation import read_universe_matrix
from lakehouse.score.plan_inputs import read_plan_inputs

# Fits of each task that the baseline runs.
SAMPLE = 4


def main() -> None:
    """Time both and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", default="lake", help="lake of a run of `genebench benchmark`")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--protocol", default="standard", choices=["paper", "standard"])
    given = parser.parse_args()
    file = declarations_folder("protocols") / f"{given.protocol}.yaml"
    protocol = Protocol.model_validate(yaml.safe_load(file.read_text()))
    delta = open_lake(given.lake).delta
    inputs = read_plan_inputs(delta, protocol, "shared", frozenset(), {})
    universe = next(one for one in inputs.universes if given.encoder in one.encoder_ids)
    vectors = read_universe_matrix(delta, given.encoder, universe.entity_ids)
    problems = [task.problem(name, protocol) for name, task in universe.prepared.items()]
    probe, _ = load_linear()
    load_before, started = os.getloadavg()[0], time.perf_counter()
    evaluations = list(evaluate(vectors, problems, probe, protocol, intervals=True))
    seconds = time.perf_counter() - started
    statuses = {evaluation.problem_id: evaluation.status for evaluation in evaluations}
    penalty = protocol.penalty
    chooses = len(penalty.c) > 1
    solver = Solver(
        given.protocol,
        {"max_iter": 5000} | ({} if chooses else {"C": penalty.c[0]}),
        tuple(penalty.c) if chooses else (),
        penalty.inner,
    )
    baseline, n_run, n_all = 0.0, 0, 0
    for problem in problems:
        if statuses[problem.id] != "ok":
            continue
        fits, n_fits = sample_fits(problem, SAMPLE), count_fits(problem)
        wall, _ = run_baseline(vectors, problem, protocol.pair_join, solver, fits)
        baseline, n_run, n_all = (
            baseline + wall * n_fits / len(fits),
            n_run + len(fits),
            n_all + n_fits,
        )
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
        "is_extrapolated": n_run < n_all,
        "load_before": load_before,
        "n_cores": os.cpu_count(),
    }
    keep([result])
    show([result])


if __name__ == "__main__":
    main()

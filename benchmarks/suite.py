"""Benchmarks one embedding on all tasks and sub-tasks of the paper, including metrics."""

import csv
import os
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from benchmarks.data import draw_signals, draw_vectors, threshold
from benchmarks.engine import compare_with_peak, count_products, load_linear
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.folds import assign_folds, make_split
from genebench.probes.declaration import Kind, Probe, Problem
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import declarations_folder

N_GENES = 19_000
# Minutes allowed by width, for all tasks on two cores.
FLOORS = {200: 2.0, 1024: 6.0, 4096: 45.0}
# Wider suites take long enough once.
COUNTED = 1024
KINDS: dict[str, Kind] = {
    "binary": "binary",
    "derived binary": "binary",
    "multiclass": "multiclass",
    "multi-label": "multilabel",
    "regression": "regression",
}
# Class counts are not published; these are of the columns' own vocabularies.
N_CLASSES = {"Chromosome": 25, "expression cluster": 70, "prognostics": 3, "Secretome": 10}
N_OTHER_CLASSES = 5


def draw_suite(
    table: Path, d: int, protocol: Protocol, seed: int = 0
) -> tuple[npt.NDArray[np.float32], list[Problem]]:
    """An embedding, and problems of the sizes and shapes of a table of tasks."""
    rng = np.random.default_rng(seed)
    vectors, coordinates = draw_vectors(rng, N_GENES, d, 1.0)
    genes = np.array([f"hgnc:{i}" for i in range(N_GENES)])
    with table.open(encoding="utf-8") as handle:
        tasks = list(csv.DictReader(handle))
    problems: list[Problem] = []
    rows_of: dict[str, npt.NDArray[np.int64]] = {}
    for number, task in enumerate(tasks):
        pair = "(" in task["type"]
        kind = KINDS[task["type"].split(" (")[0]]
        rows = rows_of.get(task["parent"])
        if rows is None:
            size = int(task["n_evaluated_2024_06"] or task["paper_size"].split(" ")[0])
            if pair:
                rows = rng.integers(0, 12_000, (size, 2))
            else:
                rows = np.sort(rng.permutation(N_GENES)[:size])[:, None]
        rows_of.setdefault(task["task"], rows)
        n_labels = int(task["n_labels"] or 18)
        if kind == "multiclass":
            n_labels = next((n for k, n in N_CLASSES.items() if k in task["task"]), N_OTHER_CLASSES)
        columns = n_labels if kind in {"multiclass", "multilabel"} else 1
        signals = draw_signals(rng, coordinates, columns)[rows].sum(axis=1)
        targets, labels = _outcome(rng, kind, signals)
        entities = genes[rows]
        ids = [f"{'|'.join(slots)}#{i}" for i, slots in enumerate(entities)]
        split = make_split(assign_folds(kind, ids, entities, targets, protocol))
        problems.append(Problem(f"task_{number}", kind, rows, targets, labels, split))
    return vectors, problems


def _outcome(
    rng: np.random.Generator, kind: Kind, signals: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    names = tuple(f"label_{k}" for k in range(signals.shape[1]))
    match kind:
        case "binary":
            return threshold(rng, signals)[:, 0], ("yes",)
        case "multilabel":
            return threshold(rng, signals), names
        case "multiclass":
            return signals.argmax(axis=1).astype(np.int64), names
        case "regression":
            return signals[:, 0].astype(np.float64), ("value",)


def _count(
    vectors: npt.NDArray[np.float32],
    problems: list[Problem],
    probe: Probe,
    protocol: Protocol,
    seconds: float,
) -> dict[str, float]:
    """How near the peak it was, counted in a second run on one thread, the one the counter sees."""
    found: Counter[torch.dtype] = Counter()
    with count_products(found):
        list(evaluate(vectors, problems, probe, protocol, threads=1))
    shares = compare_with_peak(found, seconds)
    return shares | {"share_outside_products": max(0.0, 1 - shares["share_of_peak"])}


def run_suite(table: Path, d: int, protocol_id: str) -> dict[str, Any]:
    """Evaluate the suite once, and count the arithmetic in it."""
    path = declarations_folder("protocols") / f"{protocol_id}.yaml"
    protocol = Protocol.model_validate(yaml.safe_load(path.read_text()))
    probe, _ = load_linear()
    vectors, problems = draw_suite(table, d, protocol)
    load_before, statuses = os.getloadavg()[0], []
    started, cpu = time.perf_counter(), time.process_time()
    by_kind: dict[str, float] = {}
    kinds = {p.id: p.kind + (" pairs" if p.rows.shape[1] > 1 else "") for p in problems}
    for evaluation in evaluate(vectors, problems, probe, protocol):
        statuses.append(evaluation.status)
        kind = kinds[evaluation.problem_id]
        by_kind[kind] = by_kind.get(kind, 0.0) + evaluation.seconds
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {
        "name": f"whole suite, {protocol_id} protocol",
        "case": f"{len(problems)} tasks and sub-tasks, {N_GENES} genes x {d}",
        "ours_s": seconds,
        "ours_cpu_s": cpu_seconds,
        "baseline": "the stated limit",
        "baseline_s": 60 * FLOORS[d],
        "ratio": 60 * FLOORS[d] / seconds,
        "floor": 1.0,
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "seconds_by_kind": by_kind,
        **(_count(vectors, problems, probe, protocol, seconds) if d <= COUNTED else {}),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "n_cores": os.cpu_count(),
    }

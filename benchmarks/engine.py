"""Benchmarks the linear engine against scikit-learn: time, optimum, memory, share of peak speed."""

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baseline import SOLVERS, Fitted, count_fits, run_baseline, sample_fits
from benchmarks.data import Case, draw_case
from benchmarks.optimum import fit_by_engine, measure
from genebench.evaluation.ranks import rank_columns
from genebench.matmul import fastest_matmul
from genebench.probes.declaration import TEST, HeldOut, Probe, Problem
from genebench.probes.linear import SolverSettings
from genebench.probes.linear.adapter import solve_problems
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import declarations_folder
from genebench.threads import limit_threads

# Floors of the ratio by kind, baseline and length of the vectors, for the shapes of CASES.
FLOORS = {
    ("multilabel", "default", 1.0): 10.0,
    ("multilabel", "default", 30.0): 40.0,
    ("multilabel", "tight", 1.0): 25.0,
    ("multilabel", "tight", 30.0): 100.0,
    ("multiclass", "default", 1.0): 4.0,
    ("multiclass", "default", 30.0): 15.0,
    ("pairs", "default", 1.0): 30.0,
}
# Baseline fits run of each case: all where they are quick, else this many, named in the result.
SAMPLE = {"default": 24, "tight": 24, "cholesky": 4}

CASES = [
    Case("binary", 500, 200, 1, 1.0),
    Case("multilabel", 4000, 384, 40, 1.0),
    Case("multilabel", 16_000, 1024, 100, 1.0),
    Case("multilabel", 16_000, 1024, 100, 30.0),
    Case("multilabel", 20_000, 4096, 100, 1.0),
    Case("multiclass", 12_000, 512, 10, 1.0),
    Case("multiclass", 12_000, 512, 10, 30.0),
    Case("multiclass", 16_000, 1024, 80, 1.0),
    Case("multiclass", 16_000, 1024, 80, 30.0, baseline_fits=2),
    Case("regression", 8000, 1024, 1, 1.0),
    Case("pairs", 250_000, 512, 1, 1.0, 12_000),
    Case("pairs", 250_000, 512, 1, 1.0, 12_000, "mean"),
    Case("pairs", 250_000, 512, 1, 30.0, 12_000),
]
QUICK = [
    Case("binary", 500, 200, 1, 1.0),
    Case("multilabel", 2000, 128, 10, 1.0),
    Case("multilabel", 2000, 128, 10, 30.0),
    Case("multiclass", 2000, 128, 10, 1.0),
    Case("regression", 2000, 128, 1, 1.0),
    Case("pairs", 10_000, 128, 1, 1.0, 1500),
    Case("pairs", 10_000, 128, 1, 1.0, 1500, "mean"),
]


def load_linear() -> tuple[Probe, Protocol]:
    """The linear probe under the paper's protocol."""
    probe = declarations_folder("probes") / "linear.yaml"
    protocol = declarations_folder("protocols") / "paper.yaml"
    return (
        Probe.model_validate(yaml.safe_load(probe.read_text())),
        Protocol.model_validate(yaml.safe_load(protocol.read_text())),
    )


def measure_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product on this machine, best of fifty: shared machines waver."""
    left, right = torch.ones(4096, 1024, dtype=dtype), torch.ones(1024, 512, dtype=dtype)
    times = []
    with fastest_matmul():
        for _ in range(51):
            start = time.perf_counter()
            float((left @ right)[0, 0])
            times.append(time.perf_counter() - start)
    return float(2 * 4096 * 1024 * 512 / min(times[1:]) / 1e9)


@contextmanager
def count_products(found: Counter[torch.dtype]) -> Iterator[None]:
    """Adds the floating point operations of all matrix products to `found`, by type of number.

    Raises:
        RuntimeError: torch counts products by an operator that is not told apart here.
    """

    def count(left: torch.Tensor, right: torch.Tensor, *_: object, **__: object) -> int:
        done = 2 * left.numel() * right.shape[-1]
        found[left.dtype] += done
        return done

    def count_added(_sums: torch.Tensor, *parts: Any, **named: object) -> int:
        return count(*parts, **named)

    for counter in (count, count_added):
        # Else it is given shapes alone.
        counter._get_raw = True  # type: ignore[attr-defined]
    operators = torch.ops.aten
    counts: dict[Any, Any] = {
        operators.mm: count,
        operators.bmm: count,
        operators.addmm: count_added,
        operators.addmm_: count_added,
        operators.baddbmm: count_added,
    }
    with FlopCounterMode(display=False, custom_mapping=counts) as counter:
        yield
    if counter.get_total_flops() != found.total():
        raise RuntimeError(
            f"{counter.get_total_flops() - found.total()} operations are of operators that are "
            f"not counted by type: {counter.get_flop_counts()['Global']}; add them to this function"
        )


def compare_with_peak(found: Counter[torch.dtype], seconds: float) -> dict[str, float]:
    """What part of a run's time its products would take at the machine's peak.

    Args:
        found: Floating point operations of a run.
        seconds: The run took.
    """
    peaks = {dtype: measure_peak(dtype) for dtype in {torch.float32, *found}}
    return {
        "gflops": found.total() / 1e9 / seconds,
        "share_of_peak": sum(n / 1e9 / peaks[dtype] for dtype, n in found.items()) / seconds,
    } | {f"peak_gflops_{str(dtype).removeprefix('torch.')}": x for dtype, x in peaks.items()}


def run_case(case: Case, baselines: list[str]) -> list[dict[str, Any]]:
    """One result for each baseline; the same engine run stands in all of them."""
    vectors, problem = draw_case(case)
    probe, paper = load_linear()
    protocol = paper.model_copy(update={"pair_join": case.join})
    settings = SolverSettings()
    load_before = os.getloadavg()[0]
    times = []
    # The second run finds the memory allocator warm, as the tasks after a first one do.
    for _ in range(2):
        started, cpu = time.perf_counter(), time.process_time()
        (output,) = solve_problems(vectors, [problem], probe, protocol, settings)
        times.append((time.perf_counter() - started, time.process_time() - cpu))
    seconds, cpu_seconds = min(times)
    peak_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # The counter sees its own thread only, so this run is on one.
    found: Counter[torch.dtype] = Counter()
    with limit_threads(1), count_products(found):
        list(solve_problems(vectors, [problem], probe, protocol, settings))
    norms = np.concatenate([fold.gradient_norm for fold in output.folds])
    shared = {
        "case": case.name,
        "ours_s": seconds,
        "ours_cpu_s": cpu_seconds,
        "solver": output.solver,
        "gradient_norm": float(norms.max()),
        **compare_with_peak(found, seconds),
        "peak_memory_gib": peak_memory,
        "n_cores": os.cpu_count(),
    }
    results = []
    for key in baselines:
        solver = SOLVERS[key]
        fits = sample_fits(problem, case.baseline_fits or SAMPLE[key])
        total = count_fits(problem)
        wall, fitted = run_baseline(vectors, problem, case.join, solver, fits)
        baseline_seconds = wall * total / len(fits)
        is_regression = problem.kind == "regression"
        name = "LinearRegression" if is_regression else solver.name
        results.append(
            {"name": f"{case.kind} against {name}"}
            | shared
            | {
                "baseline": f"scikit-learn {name}, float32, one thread a process, a process a core",
                "baseline_s": baseline_seconds,
                "ratio": baseline_seconds / seconds,
                "floor": FLOORS.get((case.kind, key, case.norm)) if case.n >= 16_000 else None,
                "baseline_fits": len(fits),
                "all_fits": total,
                "is_extrapolated": len(fits) < total,
                "load_before": load_before,
                "load_after": os.getloadavg()[0],
            }
            | _compare(problem, output, fitted)
        )
        if problem.kind in {"multilabel", "binary"} and case.kind != "pairs":
            ours = fit_by_engine(vectors, problem, fits, settings)
            mine = np.array([measure(vectors, problem, item) for item in ours])
            theirs = np.array([measure(vectors, problem, item) for item in fitted])
            results[-1] |= {
                "ours_gradient": float(mine[:, 1].max()),
                "baseline_gradient": float(theirs[:, 1].max()),
                "objective_excess": float((mine[:, 0] - theirs[:, 0]).max()),
            }
    return results


def _compare(problem: Problem, output: HeldOut, fitted: list[Fitted]) -> dict[str, float]:
    """Greatest difference of a held-out metric, and of a score relative to their spread."""
    metrics, scores = [0.0], [0.0]
    for item in fitted:
        label, fold = item.fit
        truth = problem.targets[problem.split[:, fold] == TEST]
        ours = output.folds[fold].scores
        if problem.kind == "regression":
            squares = [((part - truth) ** 2).mean() for part in (ours[:, 0], item.scores)]
            metrics.append(abs(squares[0] - squares[1]) / truth.var())
            scores.append(float(np.abs(ours[:, 0] - item.scores).max() / item.scores.std()))
            continue
        if problem.kind == "multiclass":
            hits = [(part.argmax(axis=1) == truth).mean() for part in (ours, item.scores)]
            metrics.append(abs(hits[0] - hits[1]))
            mine, theirs = (part - part.mean(axis=1, keepdims=True) for part in (ours, item.scores))
            scores.append(float(np.abs(mine - theirs).max() / theirs.std()))
            continue
        truth = (truth[:, label] if truth.ndim == 2 else truth).astype(bool)
        if truth.all() or not truth.any():
            continue
        both = np.stack([ours[:, label], item.scores], axis=1)
        areas, _ = rank_columns(np.stack([truth, truth], axis=1), both)
        metrics.append(abs(float(areas[0] - areas[1])))
        scores.append(float(np.abs(both[:, 0] - both[:, 1]).max() / both[:, 1].std()))
    return {"metric_difference": float(max(metrics)), "score_difference": max(scores)}

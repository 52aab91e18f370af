"""Times the linear engine with each mechanism switched off in turn.

Usage:
    python -m benchmarks.ablation                    every mechanism on the suite, `standard`
    python -m benchmarks.ablation --on paper         under another protocol
    python -m benchmarks.ablation --on 3 --off warm_up,coupling    on case 3 of `benchmarks.engine`

Each run is a process on one thread, and its CPU time is compared, which other load distorts least.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import draw_case
from benchmarks.engine import CASES, load_linear
from benchmarks.suite import draw_suite
from genebench import matmul
from genebench.probes.linear import (
    SolverSettings,
    feature_transform,
    group_solver,
    groups,
    lbfgs,
    preconditioner,
    regularization_path,
)
from genebench.probes.linear.adapter import solve_problems
from genebench.registry.loading import load_registry


def without_pairs() -> None:
    """One pair of step and change of the gradient."""
    lbfgs.N_PAIRS.update(dict.fromkeys(lbfgs.N_PAIRS, 1))


def without_segments() -> None:
    """All products over all rows."""
    groups.MIN_SEGMENT_ROWS = 1 << 60


def _without(n_classes: Callable[[int], bool]) -> None:
    build = lbfgs.build_preconditioner

    def build_apart(batch: Any, parameters: Any) -> Any:
        built = build(batch, parameters)
        if not n_classes(batch.n_classes):
            return built
        name = "weighted_mean" if batch.n_classes == 1 else "class_means"
        return built._replace(**{name: torch.zeros_like(getattr(built, name))})

    lbfgs.build_preconditioner = build_apart


def without_coupling() -> None:
    """Intercepts of single columns apart from the coefficients in the preconditioner."""
    _without(lambda n_classes: n_classes == 1)


def without_class_coupling() -> None:
    """Intercepts of classes apart from the coefficients in the preconditioner."""
    _without(lambda n_classes: n_classes > 1)


def without_contrasts() -> None:
    """Multinomial classes as independent columns in the preconditioner."""

    def build(batch: Any, laplacian: torch.Tensor, sums: torch.Tensor) -> Any:
        # Completes the diagonal of the Laplacian.
        built = build_for_classes(batch, laplacian, sums)
        size, n_subproblems = batch.n_classes, batch.n_subproblems
        own = laplacian.diagonal(dim1=1, dim2=2).to(sums.dtype)[:, None, :]
        spectrum = (batch.design.spectrum / batch.design.n_rows)[:, None]
        penalty = preconditioner._by_subproblem(batch.penalty_diagonal(), n_subproblems, size)
        return built._replace(
            second=spectrum * own + penalty,
            weight_sum=own.clamp_min(preconditioner.MIN_WEIGHT * batch.design.n_rows),
            contrasts=torch.eye(size, dtype=sums.dtype).repeat(n_subproblems, 1, 1),
            class_means=torch.zeros_like(built.class_means),
        )

    build_for_classes = preconditioner._build_for_classes
    preconditioner._build_for_classes = build


def without_shared_inner_folds() -> None:
    """Each outer fold has inner folds of its own."""
    regularization_path._partners = lambda test, *_, **__: [[] for _ in test.T]


def without_onednn() -> None:
    """Float32 by MKL."""
    matmul._prefer_onednn = lambda: False  # type: ignore[assignment]


def without_groups() -> None:
    """Each problem alone."""
    group = group_solver.group_problems
    group_solver.group_problems = lambda problems, rows: (
        part for problem in problems for part in group([problem], rows)
    )


def without_axes() -> None:
    """No rotation to principal axes."""
    feature_transform.MAX_AXES = 0


MECHANISMS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "pairs": without_pairs,
    "axes": without_axes,
    "segments": without_segments,
    "coupling": without_coupling,
    "class_coupling": without_class_coupling,
    "contrasts": without_contrasts,
    "shared_inner_folds": without_shared_inner_folds,
    "onednn": without_onednn,
    "groups": without_groups,
}


def time_run(mechanism: str, on: str, width: int, kinds: str) -> dict[str, Any]:
    """Solve a case, or the suite under a protocol, with a mechanism off."""
    MECHANISMS[mechanism]()
    torch.set_num_threads(1)
    probe, protocol = load_linear()
    if on.isdigit():
        vectors, problem = draw_case(CASES[int(on)])
        problems = [problem]
        protocol = protocol.model_copy(update={"pair_join": CASES[int(on)].join})
    else:
        protocol = load_registry("embedded").protocols[on]
        shared = Path(os.environ.get("GENEBENCH_SHARED", "../shared"))
        vectors, problems = draw_suite(shared / "tasks.csv", width, protocol)
    if kinds:
        problems = [problem for problem in problems if problem.kind in kinds.split(",")]
    cpu, wall = time.process_time(), time.perf_counter()
    outputs = list(solve_problems(vectors, problems, probe, protocol, SolverSettings()))
    return {
        "off": mechanism,
        "on": CASES[int(on)].name if on.isdigit() else f"{on}, width {width}",
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "not_fitted": sum(int((~fold.fitted).sum()) for out in outputs for fold in out.folds),
    }


def main() -> None:
    """Run each mechanism in a process of its own and print one line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--on", default="standard", help="a protocol, or the number of a case")
    parser.add_argument("--off", default=",".join(MECHANISMS), help="mechanisms, comma separated")
    parser.add_argument("--width", type=int, default=1024, help="features of the suite")
    parser.add_argument("--kinds", default="", help="kinds of task, comma separated; all if empty")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for mechanism in given.off.split(","):
        if given.apart:
            print(json.dumps(time_run(mechanism, given.on, given.width, given.kinds)), flush=True)
            continue
        rest = ["--on", given.on, "--width", str(given.width), "--kinds", given.kinds]
        command = [sys.executable, "-m", "benchmarks.ablation", "--apart", "--off", mechanism]
        subprocess.run([*command, *rest], check=True)


if __name__ == "__main__":
    main()

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import draw_case
from benchmarks.engine import CASES, load_linear
from benchmarks.suite import draw_suite
from genebench import matmul
from genebench.probes.linear import (
    SolverSettings,
    feature_transform,
    fold_fits,
    group_solver,
    newton_cg,
    preconditioner,
    regularization_path,
    solve_problems,
    steps,
)
from genebench.registry.loading import load_registry


def _replace_preconditioner(build: Callable[..., Any]) -> None:
    for module in (newton_cg, steps):
        module.build_preconditioner = build


def without_low_precision() -> None:
    """Hessian products in float32."""
    feature_transform.to_low_precision = lambda *_: None


def without_warm_up() -> None:
    """Newton-CG from the start."""
    newton_cg.warm_up = lambda *_: None


def without_segments() -> None:
    """All products over all rows."""
    fold_fits.MIN_SEGMENTED_SIZE = 1 << 60


def without_coupling() -> None:
    """Intercepts apart from the coefficients in the preconditioner."""
    build = preconditioner.build_preconditioner

    def build_apart(batch: Any, *rest: Any) -> Any:
        built = build(batch, *rest)
        name = "weighted_mean" if batch.n_classes == 1 else "class_means"
        return replace(built, **{name: torch.zeros_like(getattr(built, name))})

    _replace_preconditioner(build_apart)


def without_contrasts() -> None:
    """Multinomial classes as independent columns in the preconditioner."""

    def build(batch: Any, weights: Any, operator: Any) -> Any:
        totals = operator.zeros(batch.n_columns)
        for block in batch.blocks():
            own = weights[block.rows, block.columns]
            own = own * (1 - own) if batch.n_classes > 1 else own.clone()
            operator.collect(totals, block.rows, own, block.columns)
        sums, weight_sum = operator.finish(totals)
        second = batch.design.spectrum[:, None] * (weight_sum / batch.design.n_rows)
        weight_sum = weight_sum.clamp_min(preconditioner.MIN_WEIGHT * batch.design.n_rows)
        mean = sums / weight_sum
        second = preconditioner._center(second, mean.square() * weight_sum)
        return preconditioner.ColumnPreconditioner(
            second + batch.penalty_diagonal(), weight_sum, mean
        )

    _replace_preconditioner(build)


def without_line_search() -> None:
    """Steps are halved until the objective falls."""

    def search(
        batch: Any, point: Any, change: Any, start: Tensor, start_slope: Tensor, _: Tensor, by: Any
    ) -> Any:
        length, is_open = torch.ones_like(start), torch.ones_like(start, dtype=torch.bool)
        noise = 8 * torch.finfo(batch.design.dtype).eps * start.abs()
        for _ in range(30):
            length = torch.where(is_open, length / 2, length)
            at = steps._evaluate(batch, point, change, length, batch.empty(), by)
            most = start + steps.SUFFICIENT_DECREASE * length * start_slope + noise
            is_open = is_open & ~(at.objective <= most)
        length = torch.where(is_open, 0.0, length)
        return length, steps._evaluate(batch, point, change, length, batch.empty(), by)

    steps.search = search


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


MECHANISMS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "low_precision": without_low_precision,
    "warm_up": without_warm_up,
    "segments": without_segments,
    "coupling": without_coupling,
    "contrasts": without_contrasts,
    "line_search": without_line_search,
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

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
from torch import Tensor

from benchmarks.data import draw_case
from benchmarks.engine import CASES, load_linear
from benchmarks.suite import draw_suite
from genebench import matmul
from genebench.probes.linear import (
    SolverSettings,
    fold_fits,
    low_precision,
    newton_cg,
    operators,
    preconditioner,
    problem_groups,
    solve_problems,
    warm_up,
)
from genebench.probes.linear.line_search import SUFFICIENT_DECREASE, LineSearch
from genebench.probes.linear.objective import Adjoint
from genebench.registry.loading import load_registry


def _replace_preconditioner(build: Callable[..., Any]) -> None:
    for module in (newton_cg, warm_up):
        module.build_preconditioner = build


def without_low_precision() -> None:
    """Hessian products in float32."""
    low_precision.to_low_precision = lambda *_: None
    from genebench.probes.linear import feature_transform

    feature_transform.to_low_precision = lambda *_: None


def without_warm_up() -> None:
    """Newton-CG from the start."""
    newton_cg.warm_up = lambda *_: None


def without_segments() -> None:
    """All products over all rows."""
    fold_fits.MIN_SEGMENTED_SIZE = 1 << 60


def without_coupling() -> None:
    """Intercepts apart from the coefficients in the preconditioner."""

    class WithoutMeans(Adjoint):
        def finish(self) -> tuple[Tensor, Tensor]:
            sums, over_rows = super().finish()
            return sums.zero_(), over_rows

    preconditioner.Adjoint = WithoutMeans


def without_contrasts() -> None:
    """Multinomial classes as independent columns in the preconditioner."""

    def build(batch: Any, weights: Any, operator: Any) -> Any:
        adjoint = Adjoint(batch, operator)
        for block in batch.blocks():
            own = weights[block]
            adjoint.collect(block, own * (1 - own) if batch.n_classes > 1 else own.clone())
        sums, weight_sum = adjoint.finish()
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

    def search(self: LineSearch, _slope: Tensor) -> Tensor:
        length, is_open = torch.ones_like(self.slope), torch.ones_like(self.slope, dtype=torch.bool)
        noise = 8 * torch.finfo(self.batch.dtype).eps * self.objective.abs()
        for _ in range(30):
            length = torch.where(is_open, length / 2, length)
            objective, _ = self._phi(length)
            most = self.objective + SUFFICIENT_DECREASE * length * self.slope + noise
            is_open = is_open & ~(objective <= most)
        return torch.where(is_open, 0.0, length)

    LineSearch.search = search  # type: ignore[method-assign]


def without_shared_inner_folds() -> None:
    """Each outer fold has inner folds of its own."""
    problem_groups._partners = lambda *_, **__: []


def without_onednn() -> None:
    """Float32 by MKL."""
    matmul._prefer_onednn = lambda: False  # type: ignore[assignment]


def without_pair_lists() -> None:
    """Adjoint products of pairs add each pair to its entity."""

    def finish(self: operators.PairMatrix, sums: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        parts = []
        for position, table in enumerate(self.tables):
            summed = table.new_zeros(len(table), sums[0].shape[1])
            for column in self.index if self.is_mean else [self.index[position]]:
                summed.index_add_(0, column, sums[0])
            parts.append(summed.T @ table)
        whole = torch.cat(parts, dim=1).T.contiguous()
        return whole / len(self.index) if self.is_mean else whole, sums[1].to(self.dtype)

    operators.PairMatrix.finish = finish  # type: ignore[method-assign]


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
    "pair_lists": without_pair_lists,
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

"""Races the linear engine against other libraries and plain methods, on the same rows in one run.

Usage:
    python -m benchmarks.rivals                  100 labels x 5 folds, 16,000 x 1,024, norm 1 and 30
    python -m benchmarks.rivals --quick          a small case, in two minutes, without saving
    python -m benchmarks.rivals --only ridge     rivals whose name contains this text

Each rival runs at its best setting; where a library has two (a process for each core, or one with
all threads), both are run on a few fits. Libraries are installed in environments of their own, in
`build/rivals`. A rival that fits one column at a time does so for some labels, in every fold, and
the time is scaled to all; the difference in the held-out ROC AUC is over what it fitted.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.__main__ import keep, show
from benchmarks.baseline import THREAD_VARIABLES
from benchmarks.data import Case, draw_case
from genebench.evaluation.ranks import rank_columns
from genebench.probes.linear import fit_columns
from genebench.probes.linear.batch import LossName
from genebench.probes.problem import TEST

BUILD = Path(__file__).resolve().parents[1] / "build" / "rivals"
WORKER = Path(__file__).with_name("rival_fits.py")
N_CORES = os.cpu_count() or 1

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rival:
    """A way to fit all columns.

    Attributes:
        name: As `rival_fits` knows it.
        packages: What its environment needs; none for the environment of this process.
        one_by_one: Whether it fits one column at a time, so that a few labels tell its time.
        settings: (processes, threads of each) to choose from.
    """

    name: str
    packages: tuple[str, ...] = ()
    one_by_one: bool = True
    settings: tuple[tuple[int, int], ...] = ((N_CORES, 1), (1, N_CORES))


LOGISTIC = (
    Rival("scikit-learn"),
    Rival("scikit-learn on tensors"),
    Rival("scikit-learn-intelex", ("scikit-learn-intelex", "scikit-learn")),
    Rival(
        "liblinear-multicore",
        ("liblinear-multicore", "scipy"),
        settings=((N_CORES, N_CORES), (1, 1)),
    ),
    Rival("plain batched L-BFGS", one_by_one=False, settings=((N_CORES, N_CORES),)),
    Rival("plain batched Newton-CG", one_by_one=False, settings=((N_CORES, N_CORES),)),
)
RIDGE = (
    Rival("scikit-learn ridge", one_by_one=False, settings=((1, N_CORES),)),
    Rival("himalaya ridge", ("himalaya", "scikit-learn", "packaging"), False, ((1, N_CORES),)),
)


def find_python(rival: Rival) -> str:
    """The interpreter of a rival's environment, which is made if it is not there."""
    if not rival.packages:
        return sys.executable
    home = BUILD / rival.packages[0]
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [str(python), "-I", "-m", "pip", "install", "--quiet", *rival.packages, "numpy"]
        subprocess.run(install, check=True)
    return str(python)


def run_rival(
    rival: Rival, arrays: dict[str, Array], setting: tuple[int, int], limit: float
) -> tuple[float, Array] | None:
    """Seconds and held-out scores; None if it takes longer than the limit."""
    processes, threads = setting
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    environment["SCIPY_ARRAY_API"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data.npz", Path(folder) / "out.npz"
        np.savez(data, **arrays)
        given = [rival.name, str(data), str(out), str(processes)]
        command = [find_python(rival), str(WORKER), *given]
        try:
            subprocess.run(command, check=True, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        with np.load(out) as found:
            return float(found["seconds"]), found["scores"]


def find_areas(targets: Array, scores: Array, split: Array) -> Array:
    """(folds, columns) ROC AUC, or R² of numbers, of held-out scores."""
    areas = []
    for fold in split.T:
        y, values = targets[fold == TEST], scores[fold == TEST]
        if targets.dtype.kind == "f":
            total = np.square(y - y.mean(axis=0)).sum(axis=0)
            areas.append(1 - np.square(y - values).sum(axis=0) / total)
        else:
            areas.append(rank_columns(y, values)[0])
    return np.array(areas)


def race(
    case: Case, rivals: tuple[Rival, ...], n_labels: int, limit: float
) -> list[dict[str, Any]]:
    """Run the engine and its rivals on one case; a row for each."""
    vectors, problem = draw_case(case)
    x, split = vectors[problem.rows[:, 0]], problem.split
    targets, is_ridge = problem.targets, rivals[0] in RIDGE
    if is_ridge:
        weights = np.random.default_rng(0).normal(size=(x.shape[1], case.columns))
        targets = (x @ weights + 0.1 * targets).astype(np.float32)
    loss: LossName = "squared" if is_ridge else "logistic"
    # The first fit of a process pays for the choice of kernels, as those of rivals for imports.
    fit_columns(x[:500, :20], targets[:500, :1], split[:500], loss=loss)
    started = time.perf_counter()
    fits = fit_columns(x, targets, split, loss=loss)
    ours_s = time.perf_counter() - started
    scores = np.empty(targets.shape)
    for rows, values in zip(fits.held_out, fits.decision, strict=True):
        scores[rows] = values
    ours, rows_ = find_areas(targets, scores, split), []
    fold = (split == TEST).argmax(axis=1)
    for rival in rivals:
        some = np.linspace(0, case.columns - 1, n_labels).astype(int)
        labels = some if rival.one_by_one else np.arange(case.columns)
        setting = rival.settings[0]
        if len(rival.settings) > 1:
            few = {"X": x, "Y": targets[:, some[:1]], "fold": fold}
            timed = {one: run_rival(rival, few, one, limit) for one in rival.settings}
            known = {one: found[0] for one, found in timed.items() if found}
            setting = min(known, key=lambda one: known[one]) if known else setting
        found = run_rival(rival, {"X": x, "Y": targets[:, labels], "fold": fold}, setting, limit)
        row: dict[str, Any] = {
            "name": f"rival: {rival.name}",
            "case": case.name.replace("multilabel", "ridge") if is_ridge else case.name,
            "ours_s": ours_s,
            "processes_and_threads": list(setting),
            "is_extrapolated": len(labels) < case.columns,
        }
        if found is None:
            row |= {"baseline_s": limit, "ratio": limit / ours_s, "is_stopped": True}
        else:
            seconds = found[0] * case.columns / len(labels)
            difference = ours[:, labels] - find_areas(targets[:, labels], found[1], split)
            row |= {
                "baseline_s": seconds,
                "ratio": seconds / ours_s,
                "metric_difference": float(np.abs(difference).max()),
                "mean_difference": float(difference.mean()),
            }
        rows_.append(row)
    return rows_


def main() -> None:
    """Parse the command line and race."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small case, without saving results")
    parser.add_argument("--only", default="", help="rivals whose name contains this text")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one rival")
    parser.add_argument(
        "--labels", type=int, default=4, help="labels of rivals that fit one by one"
    )
    given = parser.parse_args()
    shape = (2000, 128, 10) if given.quick else (16_000, 1024, 100)
    cases = [Case("multilabel", *shape, norm) for norm in (1.0, 30.0)]
    for case, all_rivals in [(cases[0], RIDGE), (cases[0], LOGISTIC), (cases[1], LOGISTIC)]:
        rivals = tuple(rival for rival in all_rivals if given.only in rival.name)
        rows = race(case, rivals, given.labels, given.limit) if rivals else []
        show(rows)
        if not given.quick:
            keep(rows)


if __name__ == "__main__":
    main()

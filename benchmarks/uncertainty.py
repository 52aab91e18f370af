"""Simulates the coverage of intervals and the level of paired tests.

Uses simulated embeddings with known ROC AUC, a linear discriminant and five folds. Settings range
from a few columns, where fitted probes hardly differ, to as many columns as rows of a class.
`python -m benchmarks.uncertainty` saves rows in `results.json` under the name `uncertainty`.
"""

import argparse
import time
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.__main__ import keep
from benchmarks.simulations import N_FOLDS, simulate
from genebench.evaluation.statistics.bootstrap import confidence_interval, replicate_scores
from genebench.evaluation.statistics.paired_tests import corrected_t_test, paired_bootstrap_test
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import declarations_folder

# Rows, columns, distance of the classes in standard deviations.
SETTINGS = (
    (600, 3, 1.0),
    (600, 16, 1.5),
    (600, 32, 1.5),
    (600, 64, 1.5),
    (600, 128, 1.5),
    (100, 4, 1.5),
    (100, 16, 1.5),
    (300, 64, 1.5),
    (300, 128, 2.0),
    (1500, 64, 1.0),
)
SHOWN = (
    "area", "covers_known", "covers_expected_fixed", "covers_expected",
    "level_fixed", "level", "level_folds",
)  # fmt: skip


def measure(n: int, d: int, shift: float, runs: int, seed: int = 0) -> dict[str, Any]:
    """Coverage of intervals and level of tests in one setting, two equal encoders a run."""
    path = declarations_folder("protocols") / "paper.yaml"
    fields = yaml.safe_load(path.read_text()) | {"uncertainty": {"draws": 300}}
    protocol, rng = Protocol.model_validate(fields), np.random.default_rng(seed)
    usable = [np.ones(1, bool)] * N_FOLDS
    started = time.perf_counter()
    drawn = []
    for _ in range(runs):
        problem, encoders = simulate(rng, n, d, shift)
        drawn.append(
            [
                [
                    replicate_scores(problem, one, usable, protocol, ["roc_auc"], n_features=many)[
                        "roc_auc"
                    ]
                    for many in (0, d)
                ]
                + rest
                for one, *rest in encoders
            ]
        )
    expected = float(np.mean([known for run in drawn for _, _, known, _ in run]))
    hits: dict[str, list[bool]] = {name: [] for name in SHOWN[1:]}
    for run in drawn:
        for fixed, whole, known, found in run:
            for name, truth, replicates in (
                ("covers_known", known, fixed),
                ("covers_expected_fixed", expected, fixed),
                ("covers_expected", expected, whole),
            ):
                ends = confidence_interval("roc_auc", found.mean(), replicates)
                hits[name].append(ends.low <= truth <= ends.high)
        (*first, _, left), (*second, _, right) = run
        value = float(left.mean() - right.mean())
        for place, name in enumerate(("level_fixed", "level")):
            test = paired_bootstrap_test(value, first[place], second[place])
            hits[name].append(test.p_value < 0.05)
        hits["level_folds"].append(corrected_t_test(left - right, 4.0, 1.0).p_value < 0.05)
    return {
        "name": "uncertainty",
        "case": f"{n} rows x {d} columns, shift {shift:g}, {runs} runs",
        "area": expected,
        **{name: float(np.mean(found)) for name, found in hits.items()},
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Measure every setting, print and keep the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uncertainty", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    table = Table("case", *SHOWN)
    rows = []
    for setting in SETTINGS:
        rows.append(measure(*setting, runs))
        table.add_row(rows[-1]["case"], *(f"{rows[-1][name]:.3f}" for name in SHOWN))
    keep(rows)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()

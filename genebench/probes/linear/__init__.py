"""Linear probes: logistic, multinomial and least-squares fits of all labels and folds together.

- `columns`: `fit_columns`, the public function on arrays.
- `adapter`: `solve_problems`, the same for tasks under a protocol.
- `groups`, `group_solver`, `fold_fits`: what is solved together, in which folds.
- `operators`, `sparse_operator`, `pairs`: design matrices as operators.
- `feature_transform`: centring, scaling and rotation to principal axes.
- `batch`, `objective`: subproblems, losses and gradients.
- `preconditioner`, `lbfgs`: the solver.
- `regularization_path`: the choice of C.
- `least_squares`: least squares without a penalty.

`docs/solver.md` has the mathematics.
"""

from importlib import import_module
from typing import Any

from genebench.probes.linear.columns import ColumnFits, fit_columns
from genebench.probes.linear.solver_settings import SolverSettings

__all__ = ["ColumnFits", "SolverSettings", "fit_columns", "solve_problems"]


def __getattr__(name: str) -> Any:
    """Import `solve_problems` when it is used: it needs pydantic, for protocols and probes."""
    if name != "solve_problems":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("genebench.probes.linear.adapter").solve_problems

"""Linear probes: logistic, multinomial and least-squares fits of all labels and folds together.

- `columns`: `fit_columns`, the public function on arrays.
- `adapter`: `solve_problems`, the same for tasks under a protocol; it needs pydantic.
- `groups`, `group_solver`, `fold_fits`: what is solved together, in which folds.
- `operators`, `sparse_operator`, `pairs`: design matrices as operators.
- `feature_transform`: centring, scaling and rotation to principal axes.
- `batch`, `objective`: subproblems, losses and gradients.
- `preconditioner`, `lbfgs`: the solver.
- `regularization_path`: the choice of C.
- `least_squares`: least squares without a penalty.

`docs/solver.md` has the mathematics.
"""

from genebench.probes.linear.columns import ColumnFits, fit_columns
from genebench.probes.linear.solver_settings import SolverSettings

__all__ = ["ColumnFits", "SolverSettings", "fit_columns"]

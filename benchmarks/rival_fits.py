"""Fits many columns by another library, or by a plain batched method, in a process of its own.

`benchmarks.rivals` runs it in the environment of a library: it imports numpy and that library only.

Usage: python rival_fits.py NAME DATA.npz OUT.npz PROCESSES

PROCESSES is the number of processes, or of threads where all columns are fitted in one process.
DATA.npz has X (n, features) float32, Y (n, columns) of 0 and 1 or numbers, and fold (n,), the fold
that holds each row out. OUT.npz gets `seconds`, and `scores` (n, columns): those of each row by the
model that was fitted without its fold.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Plain batched methods: the largest derivative of the mean loss at convergence, the most steps, the
# most products of one Newton step, and pairs of L-BFGS.
TOLERANCE, MAX_STEPS, MAX_PRODUCTS, N_PAIRS = 1e-5, 2000, 200, 10
DATA: dict[str, Array] = {}


def load(path: str) -> None:
    """Read the arrays once in a process."""
    if not DATA:
        DATA.update(np.load(path))


def scikit_learn() -> Any:
    """scikit-learn's estimator."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000)


def intelex() -> Any:
    """The same of scikit-learn-intelex."""
    from sklearnex.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000)


def fit_one(path: str, name: str, column: int, fold: int) -> Array:
    """Held-out decision values of one scikit-learn model."""
    load(path)
    train = DATA["fold"] != fold
    model = {"scikit-learn": scikit_learn, "scikit-learn-intelex": intelex}[name]()
    model.fit(DATA["X"][train], DATA["Y"][train, column])
    return np.asarray(model.decision_function(DATA["X"][~train]), dtype=np.float64)


def fit_on_tensors(path: str, _: str, column: int, fold: int) -> Array:
    """The same on torch tensors, by scikit-learn's array API."""
    import torch
    from sklearn import config_context

    load(path)
    train = DATA["fold"] != fold
    known, new, y = (
        torch.from_numpy(part)
        for part in (DATA["X"][train], DATA["X"][~train], DATA["Y"][train, column].astype(np.int64))
    )
    with config_context(array_api_dispatch=True):
        model = scikit_learn().fit(known, y)
        return model.decision_function(new).double().numpy()


def fit_in_processes(fit: Callable[..., Array], name: str, path: str, processes: int) -> float:
    """Each column of each fold, in some processes; wall seconds without their start."""
    folds = range(int(DATA["fold"].max()) + 1)
    fits = [(path, name, column, fold) for column in range(DATA["Y"].shape[1]) for fold in folds]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # The first fit of a process pays for imports and reads the data.
        list(pool.map(fit, *zip(*fits[: 2 * processes], strict=True)))
        started = time.perf_counter()
        found = list(pool.map(fit, *zip(*fits, strict=True)))
        seconds = time.perf_counter() - started
    for (_, _, column, fold), values in zip(fits, found, strict=True):
        DATA["scores"][DATA["fold"] == fold, column] = values
    return seconds


def liblinear(n_threads: int) -> None:
    """One column after the other, each on all threads; the intercept is penalised as a feature."""
    from ctypes import c_double

    from liblinear.liblinearutil import parameter, problem, train
    from scipy.sparse import csr_matrix

    x, y = DATA["X"].astype(np.float64), np.where(DATA["Y"] > 0, 1.0, -1.0)
    options = parameter(f"-s 0 -c 1 -e 0.001 -B 1 -m {n_threads} -q")
    for fold in range(int(DATA["fold"].max()) + 1):
        known = DATA["fold"] != fold
        prepared = problem(y[known, 0], csr_matrix(x[known]), bias=1)
        for column, targets in enumerate(y[known].T):
            prepared.y = (c_double * len(targets))(*targets)
            model = train(prepared, options)
            weights, shift = model.get_decfun(label_idx=0)
            sign = model.get_labels()[0]
            DATA["scores"][~known, column] = sign * (x[~known] @ np.array(weights) + shift)


def ridge(library: str) -> None:
    """All columns of a fold together; alpha is 1."""
    if library == "himalaya":
        from himalaya.ridge import Ridge

        model = Ridge(alpha=1.0, fit_intercept=True)
    else:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1.0, solver="cholesky")
    for fold in range(int(DATA["fold"].max()) + 1):
        known = DATA["fold"] != fold
        model.fit(DATA["X"][known], DATA["Y"][known].astype(np.float32))
        DATA["scores"][~known] = model.predict(DATA["X"][~known])


class Columns:
    """Every column of every fold, as columns of products; none is rotated or preconditioned."""

    def __init__(self) -> None:
        import torch

        self.x = torch.from_numpy(DATA["X"])
        n_folds, y = int(DATA["fold"].max()) + 1, torch.from_numpy(DATA["Y"].astype(np.float32))
        fold = torch.from_numpy(DATA["fold"])
        self.y = y.repeat_interleave(n_folds, dim=1)
        self.mask = (fold[:, None] != torch.arange(n_folds)).float().repeat(1, y.shape[1])
        self.n_train = self.mask.sum(dim=0)

    def keep(self, stays: Any) -> None:
        """Drop the columns that have converged."""
        self.y, self.mask, self.n_train = self.y[:, stays], self.mask[:, stays], self.n_train[stays]

    def look(self, w: Any) -> tuple[Any, Any, Any]:
        """(columns,) objectives, (features + 1, columns) gradients, (n, columns) curvatures."""
        import torch

        z = torch.addmm(w[-1], self.x, w[:-1])
        losses = torch.nn.functional.softplus(z).sub_(self.y * z).mul_(self.mask)
        shares = z.sigmoid_()
        curvature = shares * (1 - shares) * self.mask
        residuals = shares.sub_(self.y).mul_(self.mask)
        objective = losses.sum(dim=0, dtype=torch.float64) + w[:-1].square().sum(dim=0) / 2
        gradient = torch.cat([self.x.T @ residuals + w[:-1], residuals.sum(dim=0)[None]])
        return objective, gradient, curvature

    def multiply(self, curvature: Any, v: Any) -> Any:
        """Products of the Hessians and (features + 1, columns) vectors."""
        import torch

        z = torch.addmm(v[-1], self.x, v[:-1]).mul_(curvature)
        return torch.cat([self.x.T @ z + v[:-1], z.sum(dim=0)[None]])


def minimise(columns: Columns, find_step: Callable[..., Iterator[Any]]) -> None:
    """Take steps of halved length until each column's gradient is small; then predict."""
    import torch

    size = columns.x.shape[1] + 1, columns.y.shape[1]
    solution, own = torch.zeros(size), torch.arange(size[1])
    w, memory = torch.zeros(size), []
    at = columns.look(w)
    for _ in range(MAX_STEPS):
        open_ = at[1].abs().amax(dim=0) > TOLERANCE * columns.n_train
        if not open_.any():
            break
        if open_.float().mean() < 0.7:
            solution[:, own] = w
            own, w = own[open_], w[:, open_]
            at = tuple(part[..., open_] for part in at)
            memory = [tuple(part[..., open_] for part in pair) for pair in memory]
            columns.keep(open_)
        step = find_step(columns, at, memory)
        slope = (at[1] * step).sum(dim=0)
        length, ahead = torch.ones_like(slope), w
        for _ in range(30):
            ahead = w + length * step
            end = columns.look(ahead)
            bad = end[0] > at[0] + 1e-4 * length * slope + 1e-6 * at[0]
            if not bad.any():
                break
            length = torch.where(bad, length / 2, length)
        memory[:] = [*memory, (ahead - w, end[1] - at[1])][-N_PAIRS:]
        w, at = ahead, end
    solution[:, own] = w
    n_folds = int(DATA["fold"].max()) + 1
    for fold in range(n_folds):
        held = DATA["fold"] == fold
        mine = solution[:, fold::n_folds]
        DATA["scores"][held] = torch.addmm(mine[-1], columns.x[held], mine[:-1]).numpy()


def lbfgs_step(_: Columns, at: tuple[Any, ...], memory: list[tuple[Any, Any]]) -> Any:
    """The two loops (Nocedal and Wright 2006, algorithm 7.4)."""
    left, weights = at[1].clone(), []
    inverse = [1 / (s * y).sum(dim=0).clamp_min(1e-20) for s, y in memory]
    for (s, y), rho in zip(reversed(memory), reversed(inverse), strict=True):
        weights.append(rho * (s * left).sum(dim=0))
        left -= weights[-1] * y
    if memory:
        s, y = memory[-1]
        left *= (s * y).sum(dim=0) / (y * y).sum(dim=0).clamp_min(1e-20)
    else:
        left /= at[1].norm(dim=0).clamp_min(1e-20)
    for (s, y), rho, weight in zip(memory, inverse, reversed(weights), strict=True):
        left += (weight - rho * (y * left).sum(dim=0)) * s
    return -left


def newton_step(columns: Columns, at: tuple[Any, ...], _: list[tuple[Any, Any]]) -> Any:
    """Conjugate gradients on the Newton system (Nocedal and Wright 2006, algorithm 7.1)."""
    import torch

    gradient, curvature = at[1:]
    step, left = torch.zeros_like(gradient), -gradient
    direction, square = left.clone(), left.square().sum(dim=0)
    norm = square.sqrt()
    goal = (norm * torch.minimum((norm / columns.n_train).sqrt(), torch.tensor(0.5))).square()
    for _ in range(MAX_PRODUCTS):
        is_open = square > goal
        if not is_open.any():
            break
        product = columns.multiply(curvature, direction)
        size = torch.where(is_open, square / (direction * product).sum(dim=0), 0.0)
        step += size * direction
        left -= size * product
        before, square = square, left.square().sum(dim=0)
        direction = left + square / before.clamp_min(1e-30) * direction
    return step


def main() -> None:
    """Fit, and write the result."""
    name, path, out, processes = *sys.argv[1:4], int(sys.argv[4])
    load(path)
    DATA["scores"] = np.full(DATA["Y"].shape, np.nan)
    if name in ("scikit-learn", "scikit-learn-intelex"):
        seconds = fit_in_processes(fit_one, name, path, processes)
    elif name == "scikit-learn on tensors":
        seconds = fit_in_processes(fit_on_tensors, name, path, processes)
    else:
        run: dict[str, Callable[[], None]] = {
            "liblinear-multicore": lambda: liblinear(processes),
            "himalaya ridge": lambda: ridge("himalaya"),
            "scikit-learn ridge": lambda: ridge("scikit-learn"),
            "plain batched L-BFGS": lambda: minimise(Columns(), lbfgs_step),
            "plain batched Newton-CG": lambda: minimise(Columns(), newton_step),
        }
        started = time.perf_counter()
        run[name]()
        seconds = time.perf_counter() - started
    np.savez(out, scores=DATA["scores"], seconds=seconds)


if __name__ == "__main__":
    main()

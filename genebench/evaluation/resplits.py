"""Problems laid out to ask another question: with fewer training rows, or of what came later."""

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, UNUSED, Problem


def thin_training(problem: Problem, share: float, seed: int = 0) -> Problem:
    """Train on a share of each fold's training rows, and test on the same rows as before.

    The rows of a smaller share are among those of a larger one, so that a learning curve is of one
    growing sample. Classes keep their shares in binary and multiclass tasks.

    Args:
        problem: Any problem.
        share: Above 0, at most 1.
        seed: Of the order in which rows are taken.

    Raises:
        ValueError: The share is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of training rows is above 0 and at most 1, not {share}")
    order = np.random.default_rng(seed).permutation(problem.n_samples)
    has_classes = problem.kind in ("binary", "multiclass")
    strata = problem.targets if has_classes else np.zeros(problem.n_samples, np.int64)
    split = problem.split.copy()
    for fold in range(problem.n_folds):
        for stratum in np.unique(strata):
            wanted = (split[:, fold] == TRAIN) & (strata == stratum)
            rows = order[wanted[order]]
            split[rows[max(1, round(share * len(rows))) :], fold] = UNUSED
    return Problem(problem.id, problem.kind, problem.rows, problem.targets, problem.labels, split)


def ask_later(
    problem_id: str,
    rows: npt.NDArray[np.int64],
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    split: npt.NDArray[np.int8],
    label: str,
) -> Problem:
    """Train on what was known at one time, test on what was learned of the rest until another.

    In each fold the probe sees the earlier labels of the training rows; of the held-out rows only
    those without the label at the earlier time are tested, for whether they have it later. Each
    sample stands twice, once with either label.

    Args:
        problem_id: Id of the problem.
        rows: (n, positions), as `Problem.rows`.
        before: (n,) of 0 and 1, the label at the earlier time.
        after: (n,) of 0 and 1, at the later one.
        split: (n, folds), as `Problem.split`.
        label: Name of the label.
    """
    trained = np.where(split == TRAIN, TRAIN, UNUSED)
    is_open = (before == 0)[:, None]
    tested = np.where((split == TEST) & is_open, TEST, UNUSED)
    return Problem(
        problem_id,
        "binary",
        np.concatenate([rows, rows]),
        np.concatenate([before, after]).astype(np.uint8),
        (label,),
        np.concatenate([trained, tested]).astype(np.int8),
    )

"""Other splits of a problem: fewer training rows (learning curve), or labels of a later time."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from genebench.probes.declaration import TEST, TRAIN, UNUSED, Problem


def subsample_training(problem: Problem, share: float, seed: int = 0) -> Problem:
    """Keep a share of each fold's training rows; the test rows stay the same.

    Subsamples are nested: a smaller share keeps a subset of the rows of a larger one. They are
    stratified by class in binary and multiclass tasks.

    Args:
        problem: The problem.
        share: Share of the training rows to keep, above 0 and at most 1.
        seed: Seed of the random order in which rows are taken.

    Raises:
        ValueError: The share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of training rows must be above 0 and at most 1, not {share}")
    order = np.random.default_rng(seed).permutation(problem.n_samples)
    has_classes = problem.kind in ("binary", "multiclass")
    strata = problem.targets if has_classes else np.zeros(problem.n_samples, np.int64)
    split = problem.split.copy()
    for fold in range(problem.n_folds):
        for stratum in np.unique(strata):
            wanted = (split[:, fold] == TRAIN) & (strata == stratum)
            rows = order[wanted[order]]
            split[rows[max(1, round(share * len(rows))) :], fold] = UNUSED
    return replace(problem, split=split)


def make_temporal_problem(
    problem_id: str,
    rows: npt.NDArray[np.int64],
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    split: npt.NDArray[np.int8],
    label: str,
) -> Problem:
    """Make a temporal hold-out problem: train on earlier labels, test on later ones.

    In each fold the probe is trained on the earlier labels of the training rows. It is tested on
    the held-out rows that lacked the label at the earlier time, against their later label. The
    problem holds each sample twice: once with its earlier and once with its later label.

    Args:
        problem_id: Id of the problem.
        rows: (n, positions), as `Problem.rows`.
        before: (n,) of 0 and 1, the label at the earlier time.
        after: (n,) of 0 and 1, the label at the later time.
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

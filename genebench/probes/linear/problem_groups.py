"""Groups problems on the same or nearly the same rows, which are solved together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from genebench.probes.problem import TEST, TRAIN, UNUSED, Problem

# Problems join a group while the rows of the group stay within this factor of each one's own:
# wider products pay for some rows that a problem masks out.
COVER = 1.15
# Products of fewer rows than this are slow for their size.
MIN_SEGMENT_ROWS = 512


@dataclass(frozen=True)
class Group:
    """Problems on one set of rows.

    Attributes:
        problems: At least one.
        rows: (n, positions) rows of the embedding matrix.
        at: For each problem, (samples,) the row of the group of each of its samples.
        row_segments: Slices of rows that the folds of the widest problem hold out together; all
            rows in one slice if these would be short.
    """

    problems: tuple[Problem, ...]
    rows: npt.NDArray[np.int64]
    at: tuple[npt.NDArray[np.int64], ...]
    row_segments: tuple[slice, ...]


def group_problems(problems: Sequence[Problem], float64_rows: int) -> Iterator[Group]:
    """Group problems by their rows.

    Small problems, pairs and problems that repeat a row join only those with equal rows.
    """
    equal: dict[bytes, list[Problem]] = {}
    wide: list[Problem] = []
    for problem in problems:
        single = problem.rows.shape[1] == 1
        if single and problem.n_samples > float64_rows and _is_unique(problem.rows):
            wide.append(problem)
        else:
            key = bytes([problem.rows.shape[1]]) + problem.rows.tobytes()
            equal.setdefault(key, []).append(problem)
    for same in equal.values():
        at = np.arange(same[0].n_samples)
        row_segments = (slice(0, same[0].n_samples),)
        yield Group(tuple(same), same[0].rows, (at,) * len(same), row_segments)
    if wide:
        yield from _cover(wide)


def _is_unique(rows: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(rows)) == len(rows)


def _cover(problems: Sequence[Problem]) -> Iterator[Group]:
    n_entities = 1 + max(int(problem.rows.max()) for problem in problems)
    covers: list[tuple[npt.NDArray[np.bool_], list[Problem]]] = []
    for problem in sorted(problems, key=lambda problem: -problem.n_samples):
        rows = np.zeros(n_entities, dtype=bool)
        rows[problem.rows[:, 0]] = True
        for cover, members in covers:
            union = int((cover | rows).sum())
            if union <= COVER * min(member.n_samples for member in (*members, problem)):
                np.logical_or(cover, rows, out=cover)
                members.append(problem)
                break
        else:
            covers.append((rows, [problem]))
    for cover, members in covers:
        used = np.flatnonzero(cover)
        place = np.cumsum(cover) - 1
        at = tuple(place[problem.rows[:, 0]] for problem in members)
        yield _sort_rows(members, used, at)


def _sort_rows(
    problems: Sequence[Problem],
    used: npt.NDArray[np.int64],
    at: Sequence[npt.NDArray[np.int64]],
) -> Group:
    """Sort rows by the fold of the problem of most columns that holds them out.

    Its subproblems then need no products on the rows that they hold out.
    """
    widest = max(range(len(problems)), key=lambda i: problems[i].n_columns)
    split = np.full((len(used), problems[widest].n_folds), UNUSED)
    split[at[widest]] = problems[widest].split
    _, run, sizes = np.unique(split, axis=0, return_inverse=True, return_counts=True)
    if sizes.mean() < MIN_SEGMENT_ROWS:
        return Group(tuple(problems), used[:, None], tuple(at), (slice(0, len(used)),))
    order = np.argsort(run.ravel(), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(used))
    row_segments = tuple(
        slice(start, end) for start, end in pairwise([0, *np.cumsum(sizes).tolist()])
    )
    return Group(
        tuple(problems), used[order, None], tuple(place[part] for part in at), row_segments
    )


@dataclass(frozen=True)
class InnerFold:
    """An inner fold of one or two outer folds.

    Attributes:
        train: (samples,) bool.
        held: For outer fold k, the (samples,) bool rows of its training part held out here.
    """

    train: npt.NDArray[np.bool_]
    held: dict[int, npt.NDArray[np.bool_]]


def inner_folds(split: npt.NDArray[np.int8], n_inner: int, seed: int) -> list[InnerFold]:
    """Inner folds of every outer fold, shared between outer folds where possible.

    Inner cross-validation reuses models trained without two outer folds: training on neither fold k
    nor fold j serves fold k, which tests it on fold j, and fold j, which tests it on fold k. What a
    fold holds out together (entities of a pair, groups) is held out together inside too. The
    training rows of a fold without such partners, as in a split by time, are divided by a seeded
    shuffle. A fold that holds nothing out is tested on what each other fold holds out.

    Args:
        split: (samples, folds), as in `Problem`.
        n_inner: Inner folds for each outer one; fewer where it has fewer partners.
        seed: Seed of the shuffle.
    """
    test, train = split == TEST, split == TRAIN
    n_folds = split.shape[1]
    result: dict[tuple[int, int], InnerFold] = {}
    unshared: list[InnerFold] = []
    for k in range(n_folds):
        if n_folds > 1 and not test[:, k].any():
            # A fold that holds nothing out is tested on what the other folds hold out.
            for j in (j for j in range(n_folds) if (test[:, j] & train[:, k]).any()):
                own = InnerFold(train[:, k] & train[:, j], {k: test[:, j] & train[:, k]})
                unshared.append(own)
            continue
        # Where training rows were thinned, a partner's tested rows are not all among them.
        block = _partners(test, train, k, whole=True) or _partners(test, train, k, whole=False)
        # Neighbours round the circle, so that a pair chosen by one fold is chosen by the other; of
        # an odd number one is not.
        after = [j for j in block if j > k] + [j for j in block if j < k]
        if len(after) >= min(n_inner, 2):
            n_before = n_inner // 2
            partners = after
            if len(after) > n_inner:
                partners = after[: n_inner - n_before] + after[len(after) - n_before :]
            for j in partners:
                pair = min(k, j), max(k, j)
                fold = result.setdefault(pair, InnerFold(train[:, k] & train[:, j], {}))
                fold.held[k] = test[:, j] & train[:, k]
            continue
        rows = np.random.default_rng([seed, k]).permutation(np.flatnonzero(train[:, k]))
        for part in np.array_split(rows, max(n_inner, 2)):
            held = np.zeros(len(split), dtype=bool)
            held[part] = True
            unshared.append(InnerFold(train[:, k] & ~held, {k: held}))
    return [*result.values(), *unshared]


def _partners(
    test: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_], k: int, *, whole: bool
) -> list[int]:
    """Folds whose tested rows fold k trains on, all or some of them, and the other way round."""

    def serves(j: int, other: int) -> bool:
        held = test[:, j] & train[:, other]
        is_whole = (held == test[:, j]).all() if whole else not (test[:, j] & test[:, other]).any()
        return bool(held.any() and is_whole)

    return [j for j in range(test.shape[1]) if j != k and serves(j, k) and serves(k, j)]

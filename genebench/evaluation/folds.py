"""Deals samples, entities or groups of entities to folds.

A dealing depends on the sorted ids and the protocol's seed alone: neither row order nor machine
counts, so encoders are compared on the same held-out rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.probes.declaration import TEST, TRAIN, UNUSED, Kind
from genebench.protocols.declaration import Protocol

Int8s = npt.NDArray[np.int8]


def assign_folds(
    kind: Kind,
    sample_ids: Sequence[str],
    slot_entities: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    protocol: Protocol,
    *,
    groups: npt.NDArray[Any] | None = None,
) -> Int8s:
    """Deal every slot of every sample to a fold, once for each repeat.

    Samples are dealt whole unless the protocol holds out entities of pairs or groups; then all
    slots with the same entity or group get the same fold, and the classes are spread as evenly as
    whole entities or groups allow.

    Args:
        kind: Decides whether classes are stratified.
        sample_ids: n ids, all different.
        slot_entities: (n, positions) of entity ids.
        targets: As in `Problem`; used to stratify binary and multiclass tasks.
        protocol: Number, seed, repeats and kind of the folds.
        groups: (n, positions) of group ids of the entities, if the protocol names a grouping.

    Returns:
        (n, positions, repeats) int8 of fold numbers from 0 within each repeat.

    Raises:
        ValueError: Ids repeat, shapes disagree, or the protocol names a grouping and none is given.
    """
    folds = protocol.folds
    n, positions = slot_entities.shape
    if len(sample_ids) != n or len(targets) != n:
        raise ValueError(f"{len(sample_ids)} ids, {n} samples and {len(targets)} targets differ")
    if folds.groups is not None and groups is None:
        raise ValueError(f"protocol {protocol.id!r} holds out {folds.groups!r}: give the groups")
    ids = pl.Series("id", sample_ids, dtype=pl.String)
    if ids.n_unique() != n:
        raise ValueError("sample ids repeat; a fold could not tell their rows apart")
    order = ids.arg_sort().to_numpy()
    splitter = getattr(folds.splitters, kind)
    strata = np.asarray(targets) if splitter == "stratified" else np.zeros(n)
    strata = np.unique(strata, return_inverse=True)[1]
    units: npt.NDArray[Any] | None = groups if folds.groups is not None else None
    if units is None and positions > 1 and folds.pairs == "entity_disjoint":
        units = slot_entities
        # A balance of both classes keeps an entity's share of positives from telling its fold.
        strata = np.asarray(targets).astype(np.int64) if kind == "binary" else strata
    repeats = []
    for repeat in range(folds.n_repeats(n)):
        rng = np.random.default_rng([folds.seed, repeat])
        if units is None:
            dealt = _deal_samples(order, strata, folds.n, rng)
            repeats.append(np.repeat(dealt[:, None], positions, axis=1))
        else:
            repeats.append(_deal_units(units, strata, folds.n, rng))
    return np.stack(repeats, axis=2).astype(np.int8)


def _deal_samples(
    order: npt.NDArray[Any], strata: npt.NDArray[Any], n_folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Shuffle, sort by class, deal round: classes and totals differ by one at most."""
    shuffled = rng.permutation(order)
    by_class = shuffled[np.argsort(strata[shuffled], kind="stable")]
    dealt = np.empty(len(order), dtype=np.int64)
    dealt[by_class] = np.arange(len(order)) % n_folds
    return dealt


def _deal_units(
    units: npt.NDArray[Any], strata: npt.NDArray[Any], n_folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Deal whole units, the largest first, each to the fold that most lacks its classes.

    The rule of scikit-learn's StratifiedGroupKFold in spirit: after each step the shares of every
    class in the folds are as near to equal as one unit can make them.
    """
    names, unit = np.unique(units.ravel(), return_inverse=True)
    slot_strata = np.repeat(strata, units.shape[1])
    n_strata = int(strata.max()) + 1
    counts = np.zeros((len(names), n_strata))
    np.add.at(counts, (unit, slot_strata), 1.0)
    shares = counts / np.maximum(counts.sum(axis=0), 1.0)
    tie = rng.permutation(len(names))
    filled = np.zeros((n_folds, n_strata))
    dealt = np.empty(len(names), dtype=np.int64)
    for index in np.lexsort((tie, -counts.sum(axis=1))):
        # Adding u to fold f raises the sum of squares by 2 f·u + u·u: least where f·u is least.
        load = filled @ shares[index]
        fold = int(np.argmin(load + 1e-9 * filled.sum(axis=1)))
        filled[fold] += shares[index]
        dealt[index] = fold
    return dealt[unit].reshape(units.shape)


def split_of(slot_folds: Int8s) -> Int8s:
    """The part each sample plays in each fold.

    A sample is held out in fold k if all its slots have fold k, and trained on if none has: a pair
    with one held-out entity is used for neither.

    Args:
        slot_folds: (n, positions, repeats), as `assign_folds` gives them.

    Returns:
        (n, repeats x folds) int8 of UNUSED, TRAIN and TEST; the folds of one repeat adjoin.
    """
    n, _, repeats = slot_folds.shape
    n_folds = int(slot_folds.max()) + 1 if n else 0
    split = np.full((n, repeats, n_folds), UNUSED, dtype=np.int8)
    for fold in range(n_folds):
        held = slot_folds == fold
        split[:, :, fold][~held.any(axis=1)] = TRAIN
        split[:, :, fold][held.all(axis=1)] = TEST
    return split.reshape(n, repeats * n_folds)


def frequent_labels(
    kind: Kind, targets: npt.NDArray[Any], labels: Sequence[str], min_share: float
) -> npt.NDArray[np.bool_]:
    """Which labels or classes are strictly above a share of the samples.

    Args:
        kind: Binary and regression tasks keep their one label.
        targets: As in `Problem`, restricted to the universe.
        labels: Names of the labels or classes.
        min_share: The protocol's; 0.01 is the paper's rule.

    Returns:
        (labels,) bool. The caller drops the other labels' columns, and the samples of the other
        classes.
    """
    if kind == "multilabel":
        return np.asarray(targets.mean(axis=0) > min_share)
    if kind == "multiclass":
        counts = np.bincount(targets, minlength=len(labels))
        return np.asarray(counts > min_share * len(targets))
    return np.ones(len(labels), dtype=bool)

"""Assigns samples, entities or groups of entities to cross-validation folds.

The assignment depends only on the sorted ids and the protocol's seed, not on row order or machine,
so all encoders are scored on the same held-out rows.
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
    """Assign every slot of every sample to a fold, once for each repeat.

    A slot is one position of a sample: one entity, or one of the two entities of a pair. All slots
    of a sample get the same fold, unless the protocol holds out entities of pairs or groups. Then
    all slots with the same entity or group get the same fold, and the classes are spread over the
    folds as evenly as whole entities or groups allow.

    Args:
        kind: Kind of task; decides whether classes are stratified.
        sample_ids: n distinct ids.
        slot_entities: (n, positions) entity ids.
        targets: As in `Problem`; used to stratify binary and multiclass tasks.
        protocol: Number, seed, repeats and kind of the folds.
        groups: (n, positions) group ids of the entities; required if the protocol names a grouping.

    Returns:
        (n, positions, repeats) int8 of fold numbers from 0 within each repeat.

    Raises:
        ValueError: Ids repeat, shapes disagree, or the protocol names a grouping and none is given.
    """
    folds = protocol.folds
    n, positions = slot_entities.shape
    if len(sample_ids) != n or len(targets) != n:
        raise ValueError(
            f"{len(sample_ids)} ids, {n} samples and {len(targets)} targets; they must agree"
        )
    if folds.groups is not None and groups is None:
        raise ValueError(
            f"protocol {protocol.id!r} holds out groups {folds.groups!r}: pass `groups`"
        )
    ids = pl.Series("id", sample_ids, dtype=pl.String)
    if ids.n_unique() != n:
        raise ValueError("sample ids repeat; give each sample its own id")
    order = ids.arg_sort().to_numpy()
    splitter = getattr(folds.splitters, kind)
    strata = np.asarray(targets) if splitter == "stratified" else np.zeros(n)
    strata = np.unique(strata, return_inverse=True)[1]
    units: npt.NDArray[Any] | None = groups if folds.groups is not None else None
    if units is None and positions > 1 and folds.pairs == "entity_disjoint":
        units = slot_entities
        # Balancing both classes keeps the share of positives the same in all folds.
        strata = np.asarray(targets).astype(np.int64) if kind == "binary" else strata
    repeats = []
    for repeat in range(folds.n_repeats(n)):
        rng = np.random.default_rng([folds.seed, repeat])
        if units is None:
            assigned = _assign_samples(order, strata, folds.n, rng)
            repeats.append(np.repeat(assigned[:, None], positions, axis=1))
        else:
            repeats.append(_assign_units(units, strata, folds.n, rng))
    return np.stack(repeats, axis=2).astype(np.int8)


def _assign_samples(
    order: npt.NDArray[Any], strata: npt.NDArray[Any], n_folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Assign shuffled samples round-robin, class by class: fold sizes differ by at most one."""
    shuffled = rng.permutation(order)
    by_class = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(order), dtype=np.int64)
    folds[by_class] = np.arange(len(order)) % n_folds
    return folds


def _assign_units(
    units: npt.NDArray[Any], strata: npt.NDArray[Any], n_folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Assign whole units (entities or groups), the largest first, so that classes are balanced.

    A greedy rule similar to scikit-learn's StratifiedGroupKFold: each unit goes to the fold where
    it makes the class shares of the folds most equal.
    """
    names, unit = np.unique(units.ravel(), return_inverse=True)
    slot_strata = np.repeat(strata, units.shape[1])
    n_strata = int(strata.max()) + 1
    counts = np.zeros((len(names), n_strata))
    np.add.at(counts, (unit, slot_strata), 1.0)
    shares = counts / np.maximum(counts.sum(axis=0), 1.0)
    tie = rng.permutation(len(names))
    filled = np.zeros((n_folds, n_strata))
    folds = np.empty(len(names), dtype=np.int64)
    for index in np.lexsort((tie, -counts.sum(axis=1))):
        # Adding u to fold f raises the sum of squares by 2 f·u + u·u: least where f·u is least.
        load = filled @ shares[index]
        fold = int(np.argmin(load + 1e-9 * filled.sum(axis=1)))
        filled[fold] += shares[index]
        folds[index] = fold
    return folds[unit].reshape(units.shape)


def make_split(slot_folds: Int8s) -> Int8s:
    """Turn fold numbers into training and test sets.

    A sample is a test sample of fold k if all its slots are in fold k, and a training sample if
    none is. A pair with one held-out entity is in neither set.

    Args:
        slot_folds: (n, positions, repeats) from `assign_folds`.

    Returns:
        (n, repeats x folds) int8 of UNUSED, TRAIN and TEST; the folds of a repeat are consecutive.
    """
    n, _, repeats = slot_folds.shape
    n_folds = int(slot_folds.max()) + 1 if n else 0
    split = np.full((n, repeats, n_folds), UNUSED, dtype=np.int8)
    for fold in range(n_folds):
        held = slot_folds == fold
        split[:, :, fold][~held.any(axis=1)] = TRAIN
        split[:, :, fold][held.all(axis=1)] = TEST
    return split.reshape(n, repeats * n_folds)

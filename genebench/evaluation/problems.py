"""Converts silver rows of a task to arrays: restricts it to a universe, filters rare labels.

A `PreparedTask` does not depend on an encoder: its rows are positions in the sorted entity ids of
the universe. A matrix whose rows are in the same order can be used with the `Problem` made of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes, digest_frame, digest_json
from genebench.errors import DegenerateTask
from genebench.evaluation.folds import assign_folds, make_split
from genebench.evaluation.ranks import normal_scores
from genebench.probes.declaration import NOT_SCORED, Problem
from genebench.protocols.declaration import Protocol, positive_class
from genebench.tasks.declaration import GAINED, KNOWN, Kind, is_temporal, subtask_id


@dataclass(frozen=True)
class PreparedTask:
    """One task over one universe, as arrays.

    Attributes:
        task_id: Id of the task.
        parent_task_id: The multi-label task of a sub-task; None for other tasks.
        family: Family of the task.
        kind: Kind of the task.
        sample_ids: (n,) strings, sorted.
        rows: (n, positions) int64, positions in the universe's sorted entity ids.
        targets: As `Problem.targets`.
        labels: As `Problem.labels`.
        label_digest: Digest of the samples, their labels and the positive class.
        sample_digest: Digest of the samples, and of their hold-out groups if there are any.
        groups: (n, positions) numbers of the groups that folds hold out whole; None without.
        later: As `Problem.later`; None except for temporal tasks.
    """

    task_id: str
    parent_task_id: str | None
    family: str
    kind: Kind
    sample_ids: npt.NDArray[np.str_]
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[Any]
    labels: tuple[str, ...]
    label_digest: str
    sample_digest: str
    groups: npt.NDArray[np.int64] | None = None
    later: npt.NDArray[np.uint8] | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples in the universe."""
        return len(self.sample_ids)

    def slot_folds(self, protocol: Protocol) -> npt.NDArray[np.int8]:
        """The fold of each slot, (n, positions, repeats) int8; see `assign_folds`."""
        ids = self.sample_ids.tolist()
        return assign_folds(self.kind, ids, self.rows, self.targets, protocol, groups=self.groups)

    def problem(self, problem_id: str, protocol: Protocol) -> Problem:
        """The task with its folds, as the input of a probe."""
        split = make_split(self.slot_folds(protocol))
        return Problem(
            problem_id, self.kind, self.rows, self.targets, self.labels, split, self.later
        )


def universe_ids(entities: pl.DataFrame) -> pl.Series:
    """The sorted entity ids of a universe; `PreparedTask.rows` are positions in them."""
    return entities["entity_id"].unique().sort()


def prepare_task(
    task: Mapping[str, Any],
    samples: pl.DataFrame,
    labels: pl.DataFrame,
    universe: pl.Series,
    protocol: Protocol,
    groups: npt.NDArray[np.int64] | None = None,
) -> PreparedTask:
    """Restrict a task to a universe and convert it to arrays.

    A sample is kept if all its entities are in the universe. Classes and labels whose share of the
    kept samples is not above the protocol's minimum are dropped: a class with its samples, a label
    alone (the paper's 1 % rule). In a temporal task the rule counts the earlier labels.

    Args:
        task: A row of `silver.tasks`.
        samples: Rows of `silver.samples` of this task.
        labels: Rows of `silver.labels` of this task.
        universe: Sorted entity ids.
        protocol: Minimum shares, and the rule for the positive class.
        groups: (entities,) number of each entity's group, if the protocol holds out groups.

    Raises:
        DegenerateTask: No sample, no label, or fewer than two classes are left, or all samples
            are in one group.
    """
    task_id, kind = str(task["task_id"]), task["kind"]
    universe_rows = pl.DataFrame(
        {"entity_id": universe, "row": np.arange(len(universe), dtype=np.int64)}
    )
    slots = samples.join(universe_rows, on="entity_id", how="left")
    inside = pl.col("row").is_not_null().all().over("sample_id")
    slots = slots.filter(inside)
    if not slots.height:
        raise DegenerateTask(f"{task_id}: no sample has all its entities in the universe")
    labels = labels.join(slots.select("sample_id").unique(), on="sample_id", how="semi")
    n_samples = slots["sample_id"].n_unique()
    columns = ["sample_id", "label", "value"]
    later: pl.DataFrame | None = None
    if is_temporal(labels):
        columns.append("status")
        known = pl.col("status") == KNOWN
        kept = _drop_rare_labels(labels.filter(known), n_samples, protocol.min_share, task_id)
        later = labels.filter(~known).join(kept.select("label").unique(), on="label", how="semi")
        labels = kept
    elif kind == "multilabel":
        labels = _drop_rare_labels(labels, n_samples, protocol.min_share, task_id)
    if kind == "multiclass":
        labels = _drop_rare_labels(labels, n_samples, protocol.min_class_share, task_id)
        slots = slots.join(labels.select("sample_id").unique(), on="sample_id", how="semi")
    slots = slots.sort("sample_id", "position")
    positions = slots["position"].n_unique()
    sample_ids = slots.filter(pl.col("position") == 0)["sample_id"]
    rows = slots["row"].to_numpy().reshape(len(sample_ids), positions)
    names, targets = _build_targets(task, kind, labels, sample_ids, protocol)
    sample_digest = digest_frame(slots.select("sample_id", "position", "entity_id"))
    slot_groups = None if groups is None else groups[rows]
    if slot_groups is not None:
        # Renumbered, so that the digest depends on the grouping and not on the group numbers.
        renumbered = np.unique(slot_groups, return_inverse=True)[1].astype(np.int64)
        if not renumbered.any():
            raise DegenerateTask(
                f"{task_id}: all samples are in one hold-out group, which cannot be held out whole"
            )
        sample_digest = digest_json([sample_digest, digest_bytes(renumbered.tobytes())])
    label_digest = digest_json(
        [
            kind,
            list(names),
            sample_digest,
            digest_frame(pl.concat([labels, *([] if later is None else [later])]).select(columns)),
        ]
    )
    return PreparedTask(
        task_id,
        None,
        str(task["family"]),
        kind,
        sample_ids.to_numpy().astype(str),
        np.ascontiguousarray(rows),
        targets,
        names,
        label_digest,
        sample_digest,
        slot_groups,
        None if later is None else _build_later(targets, names, later, sample_ids),
    )


def _build_later(
    earlier: npt.NDArray[np.uint8],
    names: tuple[str, ...],
    later: pl.DataFrame,
    sample_ids: pl.Series,
) -> npt.NDArray[np.uint8]:
    """Build `Problem.later`: the labels gained among the cells without an earlier label."""
    found = np.where(earlier == 1, NOT_SCORED, 0).astype(np.uint8)
    places = {name: place for place, name in enumerate(names)}
    rows = {sample_id: row for row, sample_id in enumerate(sample_ids.to_list())}
    for sample_id, label, status in later.select("sample_id", "label", "status").iter_rows():
        found[rows[sample_id], places[label]] = 1 if status == GAINED else NOT_SCORED
    return found


def _drop_rare_labels(
    labels: pl.DataFrame, n_samples: int, min_share: float, task_id: str
) -> pl.DataFrame:
    share = pl.col("sample_id").n_unique().over("label") / n_samples
    kept = labels.filter(share > min_share)
    if not kept.height:
        raise DegenerateTask(
            f"{task_id}: no class or label has more than {min_share:.0%} of its {n_samples} samples"
        )
    return kept


def _build_targets(
    task: Mapping[str, Any],
    kind: Kind,
    labels: pl.DataFrame,
    sample_ids: pl.Series,
    protocol: Protocol,
) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    task_id = task["task_id"]
    order = pl.DataFrame(
        {"sample_id": sample_ids, "sample": np.arange(len(sample_ids), dtype=np.int64)}
    )
    slots = labels.join(order, on="sample_id").sort("sample")
    if kind == "regression":
        numbers = slots["value"].to_numpy().astype(np.float64)
        if protocol.numbers == "normal_scores":
            numbers = normal_scores(numbers)
        return ("value",), numbers
    names = sorted(slots["label"].unique().to_list())
    if kind == "multilabel":
        codes = slots["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64)
        targets = np.zeros((len(sample_ids), len(names)), np.uint8)
        targets[slots["sample"].to_numpy(), codes.to_numpy()] = 1
        return tuple(names), targets
    if len(names) < 2:
        raise DegenerateTask(f"{task_id}: only the class {names[0]!r} is left in the universe")
    if kind == "binary":
        _, positive = positive_class(names, task["positive"], protocol)
        return (positive,), (slots["label"] == positive).to_numpy().astype(np.uint8)
    codes = slots["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    return tuple(names), codes.to_numpy()


def derive_subtasks(parent: PreparedTask, protocol: Protocol) -> Iterator[PreparedTask]:
    """Derive the binary sub-tasks of a multi-label task, one for each of its labels.

    Under the `paper` protocol the positive class is the absence of the label: of the class names
    "0" and "1" the published pipeline takes the first in sort order.
    """
    for column, label in enumerate(parent.labels):
        present = parent.targets[:, column]
        _, positive = positive_class(["0", "1"], "1", protocol)
        targets = present if positive == "1" else (1 - present).astype(np.uint8)
        digest = digest_json(
            ["binary", label, positive, parent.sample_digest, digest_bytes(present.tobytes())]
        )
        yield replace(
            parent,
            task_id=subtask_id(parent.task_id, label),
            parent_task_id=parent.task_id,
            kind="binary",
            targets=targets,
            labels=(label if positive == "1" else f"not {label}",),
            label_digest=digest,
        )


def feature_digests(
    prepared: Sequence[PreparedTask], entity_ids: pl.Series, vector_digests: pl.Series
) -> list[str]:
    """Digest the entities of each task and their vectors.

    Args:
        prepared: Tasks over one universe.
        entity_ids: Sorted entity ids of the universe.
        vector_digests: Digest of each entity's vector, in the same order.

    Returns:
        One digest per task, in the order of `prepared`.
    """
    ids = entity_ids.to_numpy().astype("S")
    vectors = vector_digests.to_numpy().astype("S")
    by_rows: dict[bytes, str] = {}
    digests = []
    for task in prepared:
        used = np.zeros(len(ids), bool)
        used[task.rows.ravel()] = True
        mask = used.tobytes()
        if mask not in by_rows:
            by_rows[mask] = digest_bytes(ids[used].tobytes(), vectors[used].tobytes())
        digests.append(by_rows[mask])
    return digests

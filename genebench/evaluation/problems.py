"""Silver rows into arrays: a task restricted to a universe, its label filter, and its digests.

A `PreparedTask` task knows nothing of any encoder: its rows point into the sorted entity ids of the
universe, and a matrix whose rows follow the same order turns it into a `Problem`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes, digest_frame, digest_json
from genebench.errors import DegenerateTask
from genebench.evaluation.folds import assign_folds, split_of
from genebench.evaluation.ranks import normal_scores
from genebench.probes.declaration import Problem
from genebench.protocols.declaration import Protocol, positive_class
from genebench.tasks.declaration import Kind, subtask_id


@dataclass(frozen=True)
class PreparedTask:
    """One task over one universe.

    Attributes:
        task_id: The task.
        parent_task_id: The multi-label task that a sub-task asks one label of.
        family: Its family.
        kind: Its kind.
        sample_ids: (n,) strings, sorted.
        rows: (n, positions) int64; positions in the universe's sorted entity ids.
        targets: As `Problem.targets`.
        labels: As `Problem.labels`.
        label_digest: Digest of samples, labels and which class counts as positive.
        sample_digest: Digest of the samples alone, and of their groups if there are any.
        groups: (n, positions) numbers of the groups that folds hold out whole; None without.
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

    @property
    def n_samples(self) -> int:
        """How many samples the universe leaves."""
        return len(self.sample_ids)

    def slot_folds(self, protocol: Protocol) -> npt.NDArray[np.int8]:
        """The fold of each slot, (n, positions, repeats); see `genebench.evaluation.evaluate`."""
        ids = self.sample_ids.tolist()
        return assign_folds(self.kind, ids, self.rows, self.targets, protocol, groups=self.groups)

    def problem(self, problem_id: str, protocol: Protocol) -> Problem:
        """The task as the probes take it."""
        split = split_of(self.slot_folds(protocol))
        return Problem(problem_id, self.kind, self.rows, self.targets, self.labels, split)


def universe_ids(entities: pl.DataFrame) -> pl.Series:
    """The sorted entity ids of a universe, which rows of prepared tasks point into."""
    return entities["entity_id"].unique().sort()


def prepare(
    task: Mapping[str, Any],
    samples: pl.DataFrame,
    labels: pl.DataFrame,
    universe: pl.Series,
    protocol: Protocol,
    groups: npt.NDArray[np.int64] | None = None,
) -> PreparedTask:
    """Restrict a task to a universe and lay it out as arrays.

    A sample stays when all its entities are in the universe. Classes and labels at or below the
    protocol's shares of the samples left are dropped: a class with its samples, a label alone (the
    paper's 1 % rule).

    Args:
        task: A row of `silver.tasks`.
        samples: Its rows of `silver.samples`.
        labels: Its rows of `silver.labels`.
        universe: Sorted entity ids.
        protocol: Whose shares and positive class apply.
        groups: (entities,) number of each entity's group, if the protocol holds groups out.

    Raises:
        DegenerateTask: No sample, or fewer than two classes, or no label is left.
    """
    task_id, kind = str(task["task_id"]), task["kind"]
    places = pl.DataFrame({"entity_id": universe, "row": np.arange(len(universe), dtype=np.int64)})
    placed = samples.join(places, on="entity_id", how="left")
    inside = pl.col("row").is_not_null().all().over("sample_id")
    placed = placed.filter(inside)
    if not placed.height:
        raise DegenerateTask(f"{task_id}: no sample has all its entities in the universe")
    labels = labels.join(placed.select("sample_id").unique(), on="sample_id", how="semi")
    n_samples = placed["sample_id"].n_unique()
    if kind == "multilabel":
        labels = _common(labels, n_samples, protocol.min_share, task_id)
    if kind == "multiclass":
        labels = _common(labels, n_samples, protocol.min_class_share, task_id)
        placed = placed.join(labels.select("sample_id").unique(), on="sample_id", how="semi")
    placed = placed.sort("sample_id", "position")
    positions = placed["position"].n_unique()
    sample_ids = placed.filter(pl.col("position") == 0)["sample_id"]
    rows = placed["row"].to_numpy().reshape(len(sample_ids), positions)
    names, targets = _targets(task, kind, labels, sample_ids, protocol)
    sample_digest = digest_frame(placed.select("sample_id", "position", "entity_id"))
    held = None if groups is None else groups[rows]
    if held is not None:
        # Which entities are together counts, not how their groups are numbered.
        together = np.unique(held, return_inverse=True)[1].astype(np.int64)
        sample_digest = digest_json([sample_digest, digest_bytes(together.tobytes())])
    label_digest = digest_json(
        [
            kind,
            list(names),
            sample_digest,
            digest_frame(labels.select("sample_id", "label", "value")),
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
        held,
    )


def _common(labels: pl.DataFrame, n_samples: int, min_share: float, task_id: str) -> pl.DataFrame:
    share = pl.col("sample_id").n_unique().over("label") / n_samples
    common = labels.filter(share > min_share)
    if not common.height:
        raise DegenerateTask(
            f"{task_id}: no class or label has more than {min_share:.0%} of its {n_samples} samples"
        )
    return common


def _targets(
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
    placed = labels.join(order, on="sample_id").sort("sample")
    if kind == "regression":
        numbers = placed["value"].to_numpy().astype(np.float64)
        if protocol.numbers == "normal_scores":
            numbers = normal_scores(numbers)
        return ("value",), numbers
    names = sorted(placed["label"].unique().to_list())
    if kind == "multilabel":
        codes = placed["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64)
        targets = np.zeros((len(sample_ids), len(names)), np.uint8)
        targets[placed["sample"].to_numpy(), codes.to_numpy()] = 1
        return tuple(names), targets
    if len(names) < 2:
        raise DegenerateTask(f"{task_id}: only the class {names[0]!r} is left in the universe")
    if kind == "binary":
        _, positive = positive_class(names, task["positive"], protocol)
        return (positive,), (placed["label"] == positive).to_numpy().astype(np.uint8)
    codes = placed["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    return tuple(names), codes.to_numpy()


def derive_subtasks(parent: PreparedTask, protocol: Protocol) -> Iterator[PreparedTask]:
    """Derive the binary sub-tasks of a multi-label task, one for each label left.

    Under the paper's protocol the positive class is the first in sort order of "0" and "1", which
    is the label's absence.
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
    """Digest what each task reads of an encoder: its entities and their vectors.

    Args:
        prepared: Tasks over one universe.
        entity_ids: The universe's sorted entity ids.
        vector_digests: The digest of each entity's vector, in the same order.
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

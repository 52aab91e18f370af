"""Scores one matrix of vectors on all tasks, on the folds of a reference universe."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes
from genebench.encoders.loader import Vectors
from genebench.errors import GenebenchError
from genebench.evaluation.evaluate import Evaluation, evaluate
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.problems import PreparedTask
from genebench.probes.declaration import Probe, Problem
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import (
    BUNDLE_SCHEMA,
    FORMAT,
    bundle_probe_digest,
    pack_outputs,
    package_version,
    split_digest,
    universe_digest,
)
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.stored_scores import StoredScore, restrict, usable_labels
from genebench.settings import Settings


@dataclass(frozen=True)
class ScoredTask:
    """One task, scored on the samples that the vectors cover.

    Attributes:
        task: The task over the whole universe.
        whole: The task with the folds of the whole universe.
        covered: (samples,) bool; samples all of whose entities have a vector.
        problem: `whole` restricted to the covered samples.
        evaluation: Its evaluation, with intervals and the held-out predictions as arrays.
    """

    task: PreparedTask
    whole: Problem
    covered: npt.NDArray[np.bool_]
    problem: Problem
    evaluation: Evaluation

    @property
    def metric(self) -> str:
        """The metric by which encoders are compared."""
        return MAIN_METRICS[self.task.kind]

    @property
    def fold_scores(self) -> list[float]:
        """The score of the whole task in each fold, by the main metric."""
        return fold_scores(self.evaluation, self.metric)

    def usable(self) -> list[npt.NDArray[np.bool_]]:
        """(labels,) bool for each fold; the labels that were scored in the fold."""
        return usable_labels(self.problem, [output.fitted for output in self.evaluation.outputs])

    def stored_score(self, encoder_id: str = "") -> StoredScore | None:
        """The scores in the form of a bundle's; None if the task has none."""
        intervals = self.evaluation.intervals
        if self.evaluation.status != "ok" or intervals is None:
            return None
        drawn = intervals.filter(pl.col("metric") == self.metric)["replicates"].item(0).to_numpy()
        return StoredScore(encoder_id, self.task.task_id, tuple(self.fold_scores), drawn)


def place_vectors(vectors: Vectors, entity_ids: pl.Series) -> tuple[npt.NDArray[np.float32], Any]:
    """Put vectors in the order of a universe.

    Returns:
        (entities, d) float32, zero where an entity has no vector, and (entities,) bool, whether it
        has one.
    """
    order = pl.DataFrame({"entity_id": entity_ids}).with_row_index("place")
    rows = pl.DataFrame({"entity_id": vectors.entity_ids}).with_row_index("row")
    joined = rows.join(order, on="entity_id")
    matrix = np.zeros((len(entity_ids), vectors.matrix.shape[1]), np.float32)
    matrix[joined["place"].to_numpy()] = vectors.matrix[joined["row"].to_numpy()]
    has_vector = np.zeros(len(entity_ids), dtype=bool)
    has_vector[joined["place"].to_numpy()] = True
    return matrix, has_vector


def score_tasks(
    matrix: npt.NDArray[np.float32],
    has_vector: npt.NDArray[np.bool_],
    packaged: UniverseTasks,
    task_ids: Collection[str],
    probe: Probe,
    protocol: Protocol,
    settings: Settings,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[ScoredTask]:
    """Score vectors on tasks.

    Args:
        matrix: (entities, d) float32 in the order of the universe.
        has_vector: (entities,) bool.
        packaged: The tasks.
        task_ids: The tasks to score.
        probe: The probe.
        protocol: The protocol.
        settings: Device, threads, memory and precision of the probe.
        progress: Called with the task just scored, the number of tasks scored and of all tasks.

    Yields:
        Each task, as soon as it is scored; its evaluation says why a task has no score.
    """
    wholes: dict[str, Problem] = {}
    covered: dict[str, npt.NDArray[np.bool_]] = {}
    for task_id in task_ids:
        wholes[task_id] = packaged.tasks[task_id].problem(task_id, protocol)
        covered[task_id] = np.asarray(has_vector[wholes[task_id].rows].all(axis=1), dtype=bool)
    problems = {name: restrict(whole, covered[name]) for name, whole in wholes.items()}
    evaluations = evaluate(
        matrix,
        list(problems.values()),
        probe,
        protocol,
        device="cuda" if settings.device == "cuda" else "cpu",
        threads=settings.threads,
        memory_bytes=int(settings.memory_gb * 1e9),
        predictions="arrays",
        intervals="main",
    )
    for n_done, evaluation in enumerate(evaluations, start=1):
        name = evaluation.problem_id
        if progress is not None:
            progress(name, n_done, len(problems))
        yield ScoredTask(
            packaged.tasks[name],
            wholes[name],
            covered[name],
            problems[name],
            evaluation,
        )


def fold_scores(evaluation: Evaluation, metric: str) -> list[float]:
    """Return the scores of the whole task by one metric, in the order of the folds."""
    scores = evaluation.scores.filter((pl.col("label") == "") & (pl.col("metric") == metric))
    return scores.sort("fold")["value"].to_list()


def bundle_rows(
    scored: Collection[ScoredTask],
    entity_ids: pl.Series,
    probe: Probe,
    protocol: Protocol,
    profile: str,
    card: dict[str, Any],
) -> pl.DataFrame:
    """Build the rows of a bundle from scored tasks; tasks without scores are left out.

    Args:
        scored: The tasks.
        entity_ids: The universe.
        probe: The probe.
        protocol: The protocol.
        profile: Id of the profile.
        card: encoder_id, title, description, modality, is_control and vectors_digest.
    """
    fixed = {
        **card,
        "format": FORMAT,
        "package": package_version(),
        "profile": profile,
        "protocol_id": protocol.id,
        "protocol_digest": protocol.digest(),
        "probe_id": probe.id,
        "probe_digest": bundle_probe_digest(probe),
        "universe_digest": universe_digest(entity_ids),
    }
    rows = [
        {
            **fixed,
            "n_features": one.evaluation.n_features,
            "family": one.task.family,
            "task_id": one.task.task_id,
            "kind": one.task.kind,
            "metric": one.metric,
            "label_digest": one.task.label_digest,
            "split_digest": split_digest(one.whole),
            "n_samples": one.problem.n_samples,
            "fold_scores": one.fold_scores,
            "covered": np.packbits(one.covered).tobytes(),
            **pack_outputs(one.problem, one.evaluation.outputs),
        }
        for one in scored
        if one.evaluation.status == "ok"
    ]
    return pl.DataFrame(rows, schema=BUNDLE_SCHEMA)


def vectors_digest(matrix: npt.NDArray[np.float32], has_vector: npt.NDArray[np.bool_]) -> str:
    """Digest of the vectors of a universe."""
    return digest_bytes(matrix.tobytes(), np.packbits(has_vector).tobytes())


def require_tasks(packaged: UniverseTasks, task_ids: Collection[str]) -> list[str]:
    """Return the requested tasks, or all tasks if none is requested.

    Raises:
        GenebenchError: There is no such task.
    """
    for task_id in task_ids:
        if task_id not in packaged.tasks:
            reason = packaged.left_out.get(task_id, f"the tasks are {', '.join(packaged.tasks)}")
            raise GenebenchError(f"no task {task_id!r}: {reason}")
    return list(task_ids) or list(packaged.tasks)

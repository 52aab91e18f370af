"""Checks bundles against the tasks of this package, before they enter a leaderboard.

A bundle is refused if it cannot belong to these tasks and this protocol, or if its scores are not
those of its predictions or vectors. A bundle that lacks something is accepted with a remark.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genebench.encoders.identifier_inference import map_vectors
from genebench.encoders.vector_files.layout import load_vectors
from genebench.errors import GenebenchError
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.probes.declaration import Probe, Problem
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import (
    bundle_probe_digest,
    read_bundle,
    split_digest,
    universe_digest,
    unpack_outputs,
)
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.stored_scores import as_columns, covered_samples, score_restricted
from genebench.reference.vectors_evaluation import place_vectors, score_tasks, vectors_digest
from genebench.settings import get_settings

# A score may differ by this much from the score of the stored predictions, whose levels are off by
# at most 0.0033 on the reference release, and from the same score on another processor.
TOLERANCE = 0.01
N_RECOMPUTED = 3
MAX_TEXT = 500


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle after its checks.

    Attributes:
        path: The file.
        rows: Its accepted rows: `bundle.BUNDLE_SCHEMA`; none if it is refused.
        refused: Why it is refused; empty if it is accepted.
        remarks: What it lacks, and what of it was left out.
        recomputed: Tasks whose scores were computed again from vectors.
    """

    path: Path
    rows: pl.DataFrame
    refused: str = ""
    remarks: tuple[str, ...] = ()
    recomputed: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardTasks:
    """The tasks of a leaderboard with their folds, and the rules of its scores.

    Attributes:
        packaged: The tasks.
        problems: Task id to the task with the folds of the whole universe.
        probe: The probe.
        protocol: The protocol.
    """

    packaged: UniverseTasks
    problems: Mapping[str, Problem]
    probe: Probe
    protocol: Protocol


def check_bundle(path: Path, board: BoardTasks, vectors: Mapping[str, Path]) -> CheckedBundle:
    """Check one bundle.

    Args:
        path: The file.
        board: The tasks.
        vectors: Encoder id to a file of its vectors, from which `N_RECOMPUTED` tasks, drawn anew
            each time, are scored again.
    """
    try:
        bundle = read_bundle(path)
        _require_rules(bundle, board)
        accepted, remarks = _accept_rows(bundle, board)
        recomputed = _recompute(accepted, board, vectors)
    except GenebenchError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return CheckedBundle(path, pl.DataFrame(), refused=reason)
    return CheckedBundle(path, accepted, "", tuple(remarks), tuple(recomputed))


def _accept_rows(bundle: pl.DataFrame, board: BoardTasks) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows of tasks that this package has, and remarks on the others.

    Raises:
        GenebenchError: No row is left, or a score is not that of its predictions.
    """
    kept, remarks = [], []
    for row in bundle.iter_rows(named=True):
        if reason := _explain_other_task(row, board):
            remarks.append(f"{row['encoder_id']}: {reason}")
            continue
        _require_score_of_predictions(row, board.problems[row["task_id"]])
        kept.append((row["encoder_id"], row["task_id"]))
    if not kept:
        raise GenebenchError("none of its tasks can be compared: " + "; ".join(remarks))
    keys = pl.DataFrame(kept, schema=["encoder_id", "task_id"], orient="row")
    accepted = bundle.join(keys, on=["encoder_id", "task_id"], maintain_order="left")
    return accepted, remarks + _missing_tasks(accepted, board)


def _require_rules(bundle: pl.DataFrame, board: BoardTasks) -> None:
    """Require names that can be shown, and the universe, protocol and probe of the leaderboard."""
    if not bundle.height:
        raise GenebenchError("it has no scores")
    empty = [name for name in bundle.columns if bundle[name].null_count()]
    if empty:
        raise GenebenchError(f"it has empty cells in {', '.join(empty)}")
    for encoder_id, title, description in bundle.select(
        "encoder_id", "title", "description"
    ).iter_rows():
        if not re.fullmatch(r"\w{1,60}", encoder_id or ""):
            raise GenebenchError(
                f"the name {encoder_id!r} has other characters than letters, digits and _, or "
                "more than 60; write the bundle again with another --name"
            )
        if len(title or "") > MAX_TEXT or len(description or "") > MAX_TEXT:
            raise GenebenchError(f"its title or description has more than {MAX_TEXT} characters")
    wanted = {
        "universe_digest": universe_digest(board.packaged.entity_ids),
        "protocol_digest": board.protocol.digest(),
        "probe_digest": bundle_probe_digest(board.probe),
    }
    for column, value in wanted.items():
        if (bundle[column] != value).any():
            other = column.removesuffix("_digest")
            raise GenebenchError(
                f"it was written with another {other} ({bundle['package'][0]}), so its scores "
                "cannot be compared; write it again with the version of genebench that builds "
                "the leaderboard"
            )


def _explain_other_task(row: Mapping[str, Any], board: BoardTasks) -> str:
    """Say why a row is of another task than the package's; empty if it is of the same."""
    task_id = row["task_id"]
    if task_id not in board.problems:
        return f"{task_id} is no task of this version of genebench"
    task, whole = board.packaged.tasks[task_id], board.problems[task_id]
    if row["label_digest"] != task.label_digest:
        return f"its scores of {task_id} are of other labels"
    if row["split_digest"] != split_digest(whole):
        return f"its scores of {task_id} are of other folds"
    own = (row["kind"], row["metric"], row["family"], len(row["fold_scores"]))
    if own != (task.kind, MAIN_METRICS[task.kind], task.family, whole.n_folds):
        return f"its scores of {task_id} are of another kind, metric, family or number of folds"
    return ""


def _require_score_of_predictions(row: Mapping[str, Any], whole: Problem) -> None:
    """Require fold scores that are those of the stored predictions."""
    covered = covered_samples(whole, row)
    if row["n_samples"] != int(covered.sum()):
        raise GenebenchError(
            f"{row['task_id']}: it claims {row['n_samples']:,} samples and covers "
            f"{int(covered.sum()):,}"
        )
    outputs = unpack_outputs(whole, row["predictions"], row["fitted"], covered)
    usable = [one.fitted for one in outputs]
    try:
        found = np.mean(list(score_restricted(as_columns(whole), outputs, usable)))
    except (ValueError, ZeroDivisionError) as error:
        raise GenebenchError(
            f"{row['task_id']}: its predictions allow no score in a fold: {error}"
        ) from error
    _require_equal(row, found, "stored predictions")


def _require_equal(row: Mapping[str, Any], found: Any, origin: str) -> None:
    stated = float(np.mean(row["fold_scores"]))
    if not abs(float(found) - stated) <= TOLERANCE:
        raise GenebenchError(
            f"{row['encoder_id']}, {row['task_id']}: it states the score {stated:.3f}, but its "
            f"{origin} give {float(found):.3f}"
        )


def _missing_tasks(rows: pl.DataFrame, board: BoardTasks) -> list[str]:
    remarks = []
    for (encoder_id,), part in rows.group_by("encoder_id", maintain_order=True):
        missing = [name for name in board.problems if name not in set(part["task_id"])]
        if missing:
            remarks.append(f"{encoder_id}: no scores of {', '.join(missing)}")
    return remarks


def _recompute(rows: pl.DataFrame, board: BoardTasks, vectors: Mapping[str, Path]) -> list[str]:
    """Score some tasks again from vectors; return them.

    Raises:
        GenebenchError: The vectors are not those of the bundle, or give another score.
    """
    recomputed = []
    for (encoder_id,), part in rows.group_by("encoder_id", maintain_order=True):
        path = vectors.get(str(encoder_id))
        if path is None:
            continue
        names, matrix = load_vectors(path)
        mapped, _ = map_vectors(names, matrix, "auto", board.packaged.inputs)
        placed, has_vector = place_vectors(mapped, board.packaged.entity_ids)
        if set(part["vectors_digest"]) != {vectors_digest(placed, has_vector)}:
            raise GenebenchError(f"{encoder_id}: its scores are of other vectors than {path}")
        by_task = {row["task_id"]: row for row in part.iter_rows(named=True)}
        # Drawn anew each time, so that nobody knows which tasks will be recomputed.
        drawn = random.SystemRandom().sample(sorted(by_task), min(N_RECOMPUTED, len(by_task)))
        scored = score_tasks(
            placed, has_vector, board.packaged, drawn, board.probe, board.protocol, get_settings()
        )
        for one in scored:
            row = by_task[one.task.task_id]
            found = np.mean(one.fold_scores) if one.evaluation.status == "ok" else np.nan
            _require_equal(row, found, f"vectors in {path}")
            recomputed.append(one.task.task_id)
    return sorted(recomputed)

"""Scores, intervals and pairwise verdicts of all encoders of a leaderboard."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes
from genebench.evaluation.statistics.bootstrap import LEVEL, confidence_interval
from genebench.evaluation.statistics.means import OVERALL
from genebench.probes.declaration import Problem
from genebench.reference.board.bundle_checks import BoardTasks
from genebench.reference.bundle import unpack_outputs
from genebench.reference.packaged_reference import PROFILE
from genebench.reference.score_table import scope_means
from genebench.reference.stored_scores import (
    StoredScore,
    covered_samples,
    restrict,
    score_stored,
    usable_labels,
)
from genebench.reference.verdicts import (
    SCOPES_SCHEMA,
    compare_scopes,
    difference_row,
    frame_differences,
)
from genebench.settings import get_settings

Bools = npt.NDArray[np.bool_]
METRIC = "roc_auc"

VERDICTS_SCHEMA = pl.Schema({"first": pl.String(), **SCOPES_SCHEMA})


@dataclass(frozen=True)
class BoardScores:
    """The tables of a leaderboard.

    Attributes:
        tasks: One row for each encoder and task: encoder_id, modality, is_control, task_id, title,
            family, metric, value, low, high, n_samples, n_covered.
        means: One row for each scope and encoder: scope, encoder_id, modality, value, low, high.
        verdicts: One row for each pair of encoders and scope: `VERDICTS_SCHEMA`; `first` is the
            encoder that is compared with `encoder_id`.
    """

    tasks: pl.DataFrame
    means: pl.DataFrame
    verdicts: pl.DataFrame


def score_board(bundle: pl.DataFrame, board: BoardTasks) -> BoardScores:
    """Score all encoders of checked bundles, and compare each with each other.

    Two encoders are compared on the samples that both cover. The comparisons of one encoder with
    all others are corrected together by Holm's method, as in `genebench evaluate`.

    Args:
        bundle: Rows of checked bundles; no encoder twice.
        board: The tasks.
    """
    scores = PairScores(bundle, board)
    encoders = bundle["encoder_id"].unique(maintain_order=True).to_list()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in encoders}
    tasks = []
    # By task, because the draws of one task are kept.
    for task_id in board.problems:
        present = [name for name in encoders if (name, task_id) in scores.rows]
        for first in present:
            row = scores.rows[first, task_id]
            tasks.append(_task_row(row, scores))
            rows[first] += [
                difference_row(*scores.pair(task_id, first, second), row["family"], row["metric"])
                for second in present
                if second != first
            ]
    scored = pl.DataFrame(tasks)
    means = scope_means(scored, METRIC, PROFILE)
    has_overall = set(means.filter(pl.col("scope") == OVERALL)["encoder_id"])
    verdicts = [
        compare_scopes(frame_differences(found), PROFILE, METRIC)
        .filter((pl.col("scope") != OVERALL) | (first in has_overall))
        .select(pl.lit(first).alias("first"), pl.all())
        for first, found in rows.items()
    ]
    return BoardScores(scored, means, pl.concat(verdicts))


class PairScores:
    """Scores of encoders on the samples and labels that two of them share, each computed once."""

    def __init__(self, bundle: pl.DataFrame, board: BoardTasks) -> None:
        self.board = board
        self.rows: Mapping[tuple[str, str], dict[str, Any]] = {
            (row["encoder_id"], row["task_id"]): row for row in bundle.iter_rows(named=True)
        }
        self._scores: dict[tuple[str, str, str], StoredScore] = {}
        self._flags = functools.cache(self._read_flags)
        self._restricted = functools.cache(self._restrict)

    def own(self, encoder_id: str, task_id: str) -> StoredScore:
        """The scores of an encoder on all samples that it covers."""
        covered, _ = self._flags(encoder_id, task_id)
        return self._score(encoder_id, task_id, covered, self._usable(task_id, covered, encoder_id))

    def pair(
        self, task_id: str, first: str, second: str
    ) -> tuple[StoredScore, StoredScore, Problem]:
        """The scores of two encoders on the samples that both cover, and the task with these."""
        covered = self._flags(first, task_id)[0] & self._flags(second, task_id)[0]
        usable = self._usable(task_id, covered, first, second)
        one, other = (self._score(name, task_id, covered, usable) for name in (first, second))
        return one, other, self._restricted(task_id, covered.tobytes())

    def n_covered(self, encoder_id: str, task_id: str) -> int:
        """The number of samples of a task that an encoder covers."""
        return int(self._flags(encoder_id, task_id)[0].sum())

    def n_minority(self, encoder_id: str, task_id: str) -> int:
        """The number of covered samples; of the minority class if the task is binary."""
        covered, _ = self._flags(encoder_id, task_id)
        whole = self.board.problems[task_id]
        if whole.kind != "binary":
            return int(covered.sum())
        positives = int(whole.targets[covered].sum())
        return min(positives, int(covered.sum()) - positives)

    def _read_flags(self, encoder_id: str, task_id: str) -> tuple[Bools, list[Bools]]:
        """The samples that an encoder covers, and the labels that it was fitted to, by fold."""
        row, whole = self.rows[encoder_id, task_id], self.board.problems[task_id]
        covered = covered_samples(whole, row)
        outputs = unpack_outputs(whole, row["predictions"], row["fitted"], covered)
        return covered, [output.fitted for output in outputs]

    def _restrict(self, task_id: str, covered: bytes) -> Problem:
        return restrict(self.board.problems[task_id], np.frombuffer(covered, np.bool_))

    def _usable(self, task_id: str, covered: Bools, *encoder_ids: str) -> list[Bools]:
        """The labels that all encoders were fitted to and that can be scored, for each fold."""
        flags = [self._flags(name, task_id)[1] for name in encoder_ids]
        fitted = [np.logical_and.reduce(of_fold) for of_fold in zip(*flags, strict=True)]
        return usable_labels(self._restricted(task_id, covered.tobytes()), fitted)

    def _score(
        self, encoder_id: str, task_id: str, covered: Bools, usable: list[Bools]
    ) -> StoredScore:
        key = encoder_id, task_id, digest_bytes(covered.tobytes(), np.array(usable).tobytes())
        if key not in self._scores:
            self._scores[key] = score_stored(
                self.rows[encoder_id, task_id],
                self.board.problems[task_id],
                covered,
                self.board.protocol,
                usable,
                get_settings().threads or os.cpu_count() or 1,
            )
        return self._scores[key]


def _task_row(row: dict[str, Any], scores: PairScores) -> dict[str, Any]:
    encoder_id, task_id, metric = row["encoder_id"], row["task_id"], row["metric"]
    found = scores.own(encoder_id, task_id)
    value = float(np.mean(found.fold_scores))
    n_minority = scores.n_minority(encoder_id, task_id)
    interval = confidence_interval(metric, value, found.replicates, LEVEL, n_minority=n_minority)
    return {
        "encoder_id": encoder_id,
        "modality": row["modality"],
        "is_control": row["is_control"],
        "task_id": task_id,
        "title": scores.board.packaged.titles[task_id],
        "family": row["family"],
        "metric": metric,
        "value": value,
        "low": interval.low,
        "high": interval.high,
        "n_samples": scores.board.problems[task_id].n_samples,
        "n_covered": scores.n_covered(encoder_id, task_id),
    }

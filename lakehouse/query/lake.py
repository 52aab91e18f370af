"""The named reads: what people and flows ask of a lake, as polars frames.

Where a frame can be large it is lazy; summaries of a screen or two are computed at once. Columns
keep the names, dtypes and units of their table (`genebench show gold.scores`); what is computed
is said at each function.
"""

from typing import Any

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS
from lakehouse.curate.task_selection import read_task
from lakehouse.embed.encoder_records import list_encoders, read_coverage
from lakehouse.query.sql import run_query
from lakehouse.report.encoder_pairs import compare_encoders
from lakehouse.report.leaderboard import read_leaderboard, stored_leaderboard
from lakehouse.score.scores import list_releases, read_release, read_scores
from lakehouse.tables.names import matches, require_known
from lakehouse.tables.time_travel import Tables, When

__all__ = ["MAIN_METRICS", "Lake", "When"]


class Lake(Tables):
    """The tables of a lake, and the questions that are asked most.

    >>> lake = Lake("lake")                                           # doctest: +SKIP
    >>> lake.scores(task="rna_*", metric="roc_auc").collect()         # doctest: +SKIP
    >>> lake.at("2026-11-20").leaderboard()                           # doctest: +SKIP
    """

    def scores(
        self,
        task: str = "*",
        encoder: str = "*",
        family: str | None = None,
        metric: str | None = None,
        release: str = "current",
        *,
        kind: str | None = None,
        probe: str | None = None,
        label: str | None = None,
        version: int | None = None,
        at: When | None = None,
    ) -> pl.LazyFrame:
        """The scores of a release, one row for each fold, label and metric.

        Args:
            task: Glob of task ids.
            encoder: Glob of encoder ids.
            family: Glob of families.
            metric: One metric.
            release: The release whose evaluations count.
            kind: binary, multiclass, multilabel or regression.
            probe: One probe.
            label: One label of multi-label and multiclass tasks; "" for the whole task only.
            version: An older version of `gold.scores`.
            at: A time or day: the release and its scores as they were then.

        Returns:
            Columns of `gold.scores`; `value` is in the metric's unit
            (`genebench.evaluation.metrics`: a share or coefficient; for rmse and mae the label's
            unit where the protocol has `numbers: given`, standard deviations where
            `normal_scores`), `fold` counts from 0.

        Raises:
            LakeError: The release does not exist, or nothing matches.
        """
        return read_scores(
            self,
            task,
            encoder,
            family,
            metric,
            release,
            kind=kind,
            probe=probe,
            label=label,
            version=version,
            at=at,
        )

    def release(self, release: str = "current") -> pl.DataFrame:
        """The rows of `gold.releases` of one release.

        Raises:
            LakeError: It does not exist; says which do, and suggests the nearest.
        """
        return read_release(self, release)

    def releases(self) -> pl.DataFrame:
        """All releases, ours and imported.

        Returns:
            release_id, n_tasks (without sub-tasks), n_encoders, n_evaluations (those of sub-tasks
            too; for imported releases: pairs of task and encoder) and is_foreign.
        """
        return list_releases(self)

    def leaderboard(
        self, release: str = "current", by: str = "family", metric: str = "roc_auc"
    ) -> pl.DataFrame:
        """Encoders by their mean score, best first.

        Args:
            release: The release.
            by: `family` for a column each and the overall mean; `task` for a column a task, in the
                order of the encoders' means over the tasks that each was scored on.
            metric: The metric that is averaged.

        Returns:
            encoder_id, modality (`control` marks a known result), probe_id and one f64 column for
            each family or task, in the metric's unit; null where nothing was scored.

        Raises:
            LakeError: The release has no leaderboard, or none by this metric.
        """
        return read_leaderboard(self, release, by, metric)

    def leaderboard_rows(self, release: str = "current") -> pl.DataFrame:
        """A release's rows of `gold.leaderboard`, in long form and in order."""
        return stored_leaderboard(self, release)

    def compare(
        self,
        encoder_a: str,
        encoder_b: str,
        release: str = "current",
        *,
        metric: str | None = None,
        probe: str = "linear",
    ) -> pl.DataFrame:
        """Two encoders on the same folds of every task that both were scored on alike.

        Args:
            encoder_a: An encoder.
            encoder_b: Another.
            release: The release.
            metric: One metric; the main one of each kind of task by default.
            probe: The probe.

        Returns:
            family, task_id, kind, metric, mean_a, mean_b (over folds), difference (a minus b, in
            the metric's unit), sd (population deviation of the paired differences over folds),
            n_folds, n_folds_won (in which a is better), largest gain of a first; low and high (the
            interval of the difference), p_adjusted (after Holm over all pairs and tasks) and
            is_established are null where `genebench report` has not compared the two, or they
            were scored again since.

        Raises:
            LakeError: An encoder is not in the release, or no task was scored on the same samples
                by both.
        """
        return compare_encoders(self, encoder_a, encoder_b, release, metric, probe)

    def profile(self) -> str | None:
        """The profile that the lake serves, by its snapshots; None while it has none."""
        return self.delta.last_write("bronze.snapshots").get("profile")

    def encoders(self) -> pl.DataFrame:
        """The encoders that have embedded: their rows of `silver.encoders`."""
        return list_encoders(self)

    def coverage(self) -> pl.DataFrame:
        """How much of what tasks sample each encoder covers.

        Returns:
            encoder_id, entity_type (those that it has embedded any of), n_entities, n_needed
            (sampled by some task), share (0 to 1).
        """
        return read_coverage(self)

    def tasks(
        self, task: str = "*", family: str | None = None, kind: str | None = None
    ) -> pl.LazyFrame:
        """The rows of `silver.tasks` that match globs of id and family, and a kind."""
        rows = self.table("silver.tasks").filter(matches("task_id", task))
        if family is not None:
            rows = rows.filter(matches("family", family))
        return rows if kind is None else rows.filter(pl.col("kind") == kind)

    def task(self, task_id: str) -> dict[str, Any]:
        """A task's row of `silver.tasks`.

        Raises:
            LakeError: The lake has no such task; suggests the nearest.
        """
        return read_task(self, task_id)

    def embeddings(self, encoder: str, entity: str = "*") -> pl.LazyFrame:
        """An encoder's rows of `silver.embeddings`.

        Args:
            encoder: The encoder.
            entity: Glob of entity ids (`ncbigene:67*`).

        Returns:
            One row an entity; `vector` is a list of f32 of length `dimension`
            (`lakehouse.tables.vectors.to_matrix` makes one numpy matrix of it).

        Raises:
            LakeError: The encoder has embedded nothing; suggests the nearest.
        """
        require_known(encoder, self.encoders()["encoder_id"], "embedding by")
        rows = self.table("silver.embeddings").filter(pl.col("encoder_id") == encoder)
        return rows if entity == "*" else rows.filter(matches("entity_id", entity))

    def foreign(self, release: str) -> pl.DataFrame:
        """The rows of `gold.foreign_scores` of an imported release.

        Raises:
            LakeError: Nothing was imported under this name; suggests the nearest.
        """
        rows = self.table("gold.foreign_scores").filter(pl.col("release_id") == release).collect()
        if not rows.height:
            known = self.table("gold.foreign_scores").select("release_id").unique().collect()
            require_known(release, known["release_id"], "imported release")
        return rows

    def query(self, sql: str) -> pl.DataFrame:
        """Run an SQL query over all tables; see `lakehouse.query.sql`.

        Raises:
            LakeError: The query is wrong; suggests the nearest table or column.
        """
        return run_query(self, sql)

"""`Lake`: read-only access to the results of a lake as polars frames.

Methods that can return many rows give a `LazyFrame`, the others a `DataFrame`. Columns keep the
names, dtypes and units of their table, which `genebench show gold.scores` lists; computed columns
are described at each method.
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
from lakehouse.tables.names import matches_glob, require_known
from lakehouse.tables.time_travel import Tables, When

__all__ = ["MAIN_METRICS", "Lake", "When"]


class Lake(Tables):
    """Scores, leaderboards, tasks, encoders and embeddings of a lake.

    Open it with `lakehouse.open_lake()`. Globs take `*`, `?` and `[...]` and are case-sensitive.
    Besides the methods below, `table` reads any table, `at` gives the lake as it was at an earlier
    time, `history` lists the commits of a table, and `query` runs SQL.

    >>> from lakehouse import open_lake
    >>> lake = open_lake("lake")                                      # doctest: +SKIP
    >>> lake.leaderboard(by="family")                                 # doctest: +SKIP
    >>> lake.scores(task="rna_*", metric="roc_auc").collect()         # doctest: +SKIP
    >>> lake.compare("minilm", "tfidf")                               # doctest: +SKIP
    >>> lake.at("2026-11-20").leaderboard()                           # doctest: +SKIP
    >>> lake.query("select task_id, n_samples from tasks")            # doctest: +SKIP
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
        """Read the scores of a release: one row per task, encoder, probe, label, metric and fold.

        Args:
            task: Glob of task ids, such as `rna_*`.
            encoder: Glob of encoder ids.
            family: Glob of task families; all by default.
            metric: Metric id, such as `roc_auc`; all by default.
            release: Release id. `current` holds the latest scores under the `standard` protocol,
                `current_paper` those under `paper`.
            kind: Kind of task: binary, multiclass, multilabel or regression; all by default.
            probe: Probe id, such as `linear`; all by default.
            label: Label of a multi-label or multiclass task, or "" for the scores of whole tasks
                only; both by default.
            version: Version of `gold.scores` to read; the latest by default.
            at: UTC time or day, such as `2026-11-20`. Reads the release and its scores as they were
                then.

        Returns:
            The columns of `gold.scores`. `value` is in the metric's unit, mostly a share or
            coefficient without unit; rmse and mae are in the label's unit under a protocol with
            `numbers: given`, in standard deviations under `numbers: normal_scores`. `fold` counts
            from 0.

        Raises:
            LakeError: The release or the metric does not exist, or no evaluation matches. The
                message suggests the nearest name.
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
        """Read the items of a release: one row per task, encoder and probe, with evaluation key.

        Returns:
            The rows of `gold.releases`.

        Raises:
            LakeError: The release does not exist. The message lists those that do.
        """
        return read_release(self, release)

    def releases(self) -> pl.DataFrame:
        """List all releases, those computed in this lake first, then the imported ones.

        Returns:
            One row per release: release_id, n_tasks (without sub-tasks), n_encoders, n_evaluations
            and is_foreign (whether it was imported). n_evaluations includes sub-tasks; for an
            imported release it counts combinations of task, label, encoder and probe.
        """
        return list_releases(self)

    def leaderboard(
        self, release: str = "current", by: str = "family", metric: str = "roc_auc"
    ) -> pl.DataFrame:
        """Rank encoders by their mean score, best first.

        Args:
            release: Release id.
            by: `family` for one column per family and the overall mean; `task` for one column per
                task, with encoders sorted by their mean over the tasks that they were scored on.
            metric: Metric id.

        Returns:
            One row per encoder and probe: encoder_id, modality (`control` for encoders whose result
            is known in advance), probe_id, and one f64 column per family or task in the metric's
            unit; null if nothing was scored. Means are over the tasks of a family, each task
            counted once, whatever sub-tasks it has.

        Raises:
            LakeError: The release has no leaderboard, or none for this metric.
        """
        return read_leaderboard(self, release, by, metric)

    def leaderboard_rows(self, release: str = "current") -> pl.DataFrame:
        """Read a release's leaderboard in long form: its rows of `gold.leaderboard`.

        One row is the mean of one encoder in one scope (a family, or overall) by one probe and
        metric. Rows are sorted by protocol, probe, metric, scope and rank.
        """
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
        """Compare two encoders task by task, on the same samples and folds.

        Args:
            encoder_a: Encoder id.
            encoder_b: Encoder id.
            release: Release id.
            metric: Metric id; by default the main metric of each kind of task.
            probe: Probe id.

        Returns:
            One row per task and metric, sorted so that the tasks in which `encoder_a` is most ahead
            come first:

            - family, task_id, kind, metric
            - mean_a, mean_b: means over folds, in the metric's unit
            - difference: mean_a - mean_b
            - sd: population standard deviation of the paired differences over folds
            - n_folds, and n_folds_won: in how many of them `encoder_a` is better
            - low, high: confidence interval of the difference
            - p_adjusted: p value after Holm's correction over all pairs of encoders and all tasks
            - is_established: whether the difference is significant

            The last four are null until `genebench report` has tested the pair, and again after one
            of the two was scored anew.

        Raises:
            LakeError: An encoder is not in the release, or the two were not scored on the same
                samples of any task.
        """
        return compare_encoders(self, encoder_a, encoder_b, release, metric, probe)

    def profile(self) -> str | None:
        """Return the profile that the lake's snapshots were fetched for; None if there are none."""
        read = self.table("bronze.readings").sort("read_at").tail(1).collect()
        if read.height:
            return str(read["profile_id"][0])
        # An earlier version of genebench kept it in the commit metadata.
        return self.delta.last_write("bronze.snapshots").get("profile")

    def encoders(self) -> pl.DataFrame:
        """List the encoders that have vectors: the rows of `silver.encoders`, sorted by id."""
        return list_encoders(self)

    def coverage(self) -> pl.DataFrame:
        """Compute for each encoder the share of sampled entities that it has a vector of.

        Returns:
            One row per encoder and entity type that it has any vector of: encoder_id, entity_type,
            n_entities (with a vector, and sampled by a task of the encoder's families), n_needed
            (sampled by such a task) and share (n_entities / n_needed, 0 to 1).
        """
        return read_coverage(self)

    def tasks(
        self, task: str = "*", family: str | None = None, kind: str | None = None
    ) -> pl.LazyFrame:
        """Read the tasks: one row per task and sub-task, with its statistics.

        Args:
            task: Glob of task ids.
            family: Glob of task families; all by default.
            kind: binary, multiclass, multilabel or regression; all by default.

        Returns:
            The matching rows of `silver.tasks`.
        """
        rows = self.table("silver.tasks").filter(matches_glob("task_id", task))
        if family is not None:
            rows = rows.filter(matches_glob("family", family))
        return rows if kind is None else rows.filter(pl.col("kind") == kind)

    def task(self, task_id: str) -> dict[str, Any]:
        """Read one task's row of `silver.tasks` as a dict.

        Raises:
            LakeError: The lake has no such task. The message suggests the nearest name.
        """
        return read_task(self, task_id)

    def embeddings(self, encoder: str, entity: str = "*") -> pl.LazyFrame:
        """Read the vectors of an encoder.

        Args:
            encoder: Encoder id.
            entity: Glob of entity ids, such as `hgnc:11*`.

        Returns:
            One row of `silver.embeddings` per entity. `vector` is a list of `dimension` f32
            numbers; `lakehouse.tables.vectors.to_matrix` converts the column to a numpy matrix.

        Raises:
            LakeError: The lake has no vectors of the encoder. The message suggests the nearest
                name.
        """
        require_known(encoder, self.encoders()["encoder_id"], "embedding by")
        rows = self.table("silver.embeddings").filter(pl.col("encoder_id") == encoder)
        return rows if entity == "*" else rows.filter(matches_glob("entity_id", entity))

    def imported_scores(self, release: str) -> pl.DataFrame:
        """Read the scores of an imported release: its rows of `gold.foreign_scores`.

        Raises:
            LakeError: No release was imported under this name. The message suggests the nearest.
        """
        rows = self.table("gold.foreign_scores").filter(pl.col("release_id") == release).collect()
        if not rows.height:
            known = self.table("gold.foreign_scores").select("release_id").unique().collect()
            require_known(release, known["release_id"], "imported release")
        return rows

    def query(self, sql: str) -> pl.DataFrame:
        """Run an SQL query over the tables, in the dialect of polars.

        Args:
            sql: One `select`, which may use joins, groups, windows and common table expressions. A
                table is named in full (`gold.scores`) or by its noun alone (`scores`).

        Returns:
            The rows, with the columns that are selected.

        Raises:
            LakeError: The text is not a query, it names a table or column that does not exist (the
                message suggests the nearest), or the lake is empty.
        """
        return run_query(self, sql)

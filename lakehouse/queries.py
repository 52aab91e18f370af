"""The named reads: what people and flows ask of a lake, as polars frames.

Where a frame can be large it is lazy; summaries of a screen or two are computed at once. Columns
keep the names, dtypes and units of their table (`genebench show gold.scores`); what is computed
is said at each function.
"""

from typing import Any

import polars as pl

from genebench.errors import LakeError
from genebench.leaderboard import OVERALL, task_means
from genebench.metrics import METRICS
from genebench.tasks import is_subtask
from lakehouse.comparisons import MAIN_METRICS, compare_encoders
from lakehouse.matching import hint, matches, require_known
from lakehouse.reading import Tables, When
from lakehouse.sql import run_query

__all__ = ["MAIN_METRICS", "Lake", "When"]

_NAMES = ["family", "task_id", "kind", "encoder_id", "modality", "probe_id", "protocol_id"]


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
            Columns of `gold.scores`; `value` is in the metric's unit (`genebench.metrics`: a share
            or coefficient; for rmse and mae the label's unit where the protocol has `numbers:
            given`, standard deviations where `normal_scores`), `fold` counts from 0.

        Raises:
            LakeError: The release does not exist, or nothing matches.
        """
        if at is not None:
            return self.at(at).scores(
                task, encoder, family, metric, release, kind=kind, probe=probe, label=label
            )
        items = self.release(release)
        globs = {"task_id": task, "encoder_id": encoder, "family": family, "kind": kind}
        globs["probe_id"] = probe
        asked = {name: glob for name, glob in globs.items() if glob not in (None, "*")}
        fits = [matches(name, glob) for name, glob in asked.items() if glob]
        chosen = items.filter(*fits) if fits else items
        if not chosen.height:
            raise LakeError(
                f"release {release!r} has no evaluation of "
                + ", ".join(f"{name.removesuffix('_id')} {glob!r}" for name, glob in asked.items())
                + "".join(hint(glob, items[name]) for name, glob in asked.items() if glob)
            )
        rows = self.table("gold.scores", version)
        if metric is not None:
            require_known(metric, METRICS, "metric")
            rows = rows.filter(pl.col("metric") == metric)
        if label is not None:
            rows = rows.filter(pl.col("label") == label)
        # Whole folders are skipped by these two, and most of the rest by the keys. The names are
        # the release's, the folders' those of the day of computing: equal vectors or equal tasks
        # share an evaluation.
        stored = (
            self.table("gold.evaluations")
            .select("evaluation_key", "family", "encoder_id")
            .join(chosen.lazy().select("evaluation_key"), on="evaluation_key", how="semi")
            .collect()
        )
        rows = rows.filter(
            pl.col("family").is_in(stored["family"].unique().to_list())
            & pl.col("encoder_id").is_in(stored["encoder_id"].unique().to_list())
        )
        columns = rows.collect_schema().names()
        return (
            rows.drop(_NAMES)
            .join(chosen.lazy().select("evaluation_key", *_NAMES), on="evaluation_key")
            .select(columns)
        )

    def release(self, release: str = "current") -> pl.DataFrame:
        """The rows of `gold.releases` of one release.

        Raises:
            LakeError: It does not exist; says which do, and suggests the nearest.
        """
        rows = self.table("gold.releases").filter(pl.col("release_id") == release).collect()
        if rows.height:
            return rows
        if self.as_of is not None and self.releases().is_empty():
            raise LakeError(
                f"the lake {self.delta.storage.root} held no release on "
                f"{self.as_of:%Y-%m-%d %H:%M} UTC; choose a later time"
            )
        known = self.releases().filter(~pl.col("is_foreign"))["release_id"].to_list()
        if not known:
            raise LakeError(
                f"there is no release {release!r} yet: the lake {self.delta.storage.root} holds "
                "no scores; run `genebench benchmark`, or set GENEBENCH_LAKE to another lake"
            )
        require_known(release, known, "release")
        raise LakeError(f"release {release!r} has no rows")

    def releases(self) -> pl.DataFrame:
        """All releases, ours and imported.

        Returns:
            release_id, n_tasks (without sub-tasks), n_encoders, n_evaluations (those of sub-tasks
            too; for imported releases: pairs of task and encoder) and is_foreign.
        """
        ours = (
            self.table("gold.releases")
            .group_by("release_id")
            .agg(
                pl.col("task_id").filter(~is_subtask()).n_unique().alias("n_tasks"),
                pl.col("encoder_id").n_unique().alias("n_encoders"),
                pl.col("evaluation_key").n_unique().alias("n_evaluations"),
                pl.lit(False).alias("is_foreign"),
            )
        )
        theirs = (
            self.table("gold.foreign_scores")
            .group_by("release_id")
            .agg(
                pl.col("task_name").n_unique().alias("n_tasks"),
                pl.col("encoder_name").n_unique().alias("n_encoders"),
                pl.struct("task_name", "label", "encoder_name", "probe_name")
                .n_unique()
                .alias("n_evaluations"),
                pl.lit(True).alias("is_foreign"),
            )
        )
        return pl.concat([ours, theirs]).sort("is_foreign", "release_id").collect()

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
        require_known(metric, METRICS, "metric")
        if by == "task":
            scores = self.scores(release=release, metric=metric, label="")
            encoder = ["encoder_id", "modality", "probe_id"]
            wide = task_means(scores.collect()).pivot(on="task_id", index=encoder, values="mean")
            return wide.sort(
                pl.mean_horizontal(pl.exclude(encoder)),
                "encoder_id",
                "probe_id",
                descending=[METRICS[metric].is_greater_better, False, False],
            )
        if by != "family":
            raise LakeError(f"by={by!r}: choose family or task{hint(by, ['family', 'task'])}")
        rows = self.leaderboard_rows(release)
        if not rows.height:
            self.release(release)
            raise LakeError(f"release {release!r} has no leaderboard yet; run `genebench report`")
        chosen = rows.filter(pl.col("metric") == metric)
        if not chosen.height:
            raise LakeError(
                f"release {release!r} has no scores by {metric!r}; it has "
                + ", ".join(rows["metric"].unique().sort())
            )
        wide = chosen.sort(pl.col("scope") == OVERALL, "scope").pivot(
            on="scope", index=["encoder_id", "modality", "probe_id"], values="mean"
        )
        return wide.sort(OVERALL, descending=METRICS[metric].is_greater_better)

    def leaderboard_rows(self, release: str = "current") -> pl.DataFrame:
        """A release's rows of `gold.leaderboard`, in long form and in order."""
        rows = self.table("gold.leaderboard").filter(pl.col("release_id") == release)
        return rows.sort(
            "protocol_id", "probe_id", "metric", "scope", "rank", "encoder_id"
        ).collect()

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
        return self.table("silver.encoders").collect().sort("encoder_id")

    def coverage(self) -> pl.DataFrame:
        """How much of what tasks sample each encoder covers.

        Returns:
            encoder_id, entity_type (those that it has embedded any of), n_entities, n_needed
            (sampled by some task), share (0 to 1).
        """
        needed = self.table("silver.samples").select("entity_type", "entity_id").unique().collect()
        found = (
            self.table("silver.embeddings")
            .select("encoder_id", "entity_type", "entity_id")
            .collect()
            .join(needed, on=["entity_type", "entity_id"], how="semi")
            .group_by("encoder_id", "entity_type")
            .agg(pl.len().alias("n_entities"))
        )
        sizes = needed.group_by("entity_type").agg(pl.len().alias("n_needed"))
        return (
            found.join(sizes, on="entity_type")
            .with_columns((pl.col("n_entities") / pl.col("n_needed")).alias("share"))
            .sort("encoder_id", "entity_type")
        )

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
        tasks = self.table("silver.tasks").collect()
        found = tasks.filter(pl.col("task_id") == task_id)
        if tasks.is_empty():
            raise LakeError(
                f"the lake {self.delta.storage.root} has no tasks yet; run `genebench refresh`, "
                "then `genebench curate`"
            )
        if not found.height:
            raise LakeError(f"the lake has no task {task_id!r}{hint(task_id, tasks['task_id'])}")
        return found.row(0, named=True)

    def embeddings(self, encoder: str, entity: str = "*") -> pl.LazyFrame:
        """An encoder's rows of `silver.embeddings`.

        Args:
            encoder: The encoder.
            entity: Glob of entity ids (`ncbigene:67*`).

        Returns:
            One row an entity; `vector` is a list of f32 of length `dimension`
            (`lakehouse.vectors.to_matrix` makes one numpy matrix of it).

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
        """Run an SQL query over all tables; see `lakehouse.sql`.

        Raises:
            LakeError: The query is wrong; suggests the nearest table or column.
        """
        return run_query(self, sql)

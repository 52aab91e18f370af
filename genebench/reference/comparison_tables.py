"""Scores of new vectors beside the rivals': tables by task and by family, and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from genebench.encoders.identifier_inference import IdentifierReport
from genebench.errors import GenebenchError
from genebench.evaluation.statistics.means import OVERALL
from genebench.reference.score_table import scope_means
from genebench.reference.verdicts import BETTER, UNDECIDED, WORSE
from genebench.tasks.declaration import is_in_overall

# Groups of rivals beside which the new vectors are shown, with the modalities of each.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "expression or sequence": ("expression", "dna", "protein"),
    "classical": ("classical",),
    "control": ("control",),
}


_METHOD = "linear probe, paired bootstrap on the same held-out genes, Holm's correction at 5 %"


@dataclass(frozen=True)
class ComparisonTables:
    """The scores of new vectors beside those of the encoders of a reference release.

    Attributes:
        name: Name of the new vectors.
        profile: Id of the profile.
        protocol: Id of the protocol.
        scores: One row for each task and encoder, the new vectors included: task_id, title, family,
            metric, encoder_id, modality, is_control, value, low, high (95 % interval), n_samples,
            in_mean (whether the task counts in means). Interval and n_samples of published scores
            are null.
        differences: One row for each task and rival: `verdicts.DIFFERENCES_SCHEMA`.
        scopes: One row for each family (and `overall`) and rival: `verdicts.SCOPES_SCHEMA`.
        coverage: One row for each task: task_id, family, n_samples, n_covered.
        identifiers: How the identifiers were mapped.
        notes: Tasks without a score and rivals without a comparison, with the reasons.
        bundle: The new vectors' rows for other people's comparisons: `bundle.BUNDLE_SCHEMA`.
    """

    name: str
    profile: str
    protocol: str
    scores: pl.DataFrame
    differences: pl.DataFrame
    scopes: pl.DataFrame
    coverage: pl.DataFrame
    identifiers: IdentifierReport
    notes: tuple[str, ...]
    bundle: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """Means by family by ROC AUC: mine, and the best rival of each group with its name.

        Returns:
            scope, mine, low, high, and for each group of rivals `<group>` (value) and
            `<group> encoder`; null where no rival of the group was compared.
        """
        mine = self.means().filter(pl.col("encoder_id") == self.name)
        found = mine.select("scope", pl.col("value").alias("mine"), "low", "high")
        for group, modalities in GROUPS.items():
            best = (
                self.means()
                .filter(pl.col("modality").is_in(modalities) & (pl.col("encoder_id") != self.name))
                .sort("value", "encoder_id", descending=[True, False])
                .unique("scope", keep="first", maintain_order=True)
                .select(
                    "scope",
                    pl.col("value").alias(group),
                    pl.col("encoder_id").alias(f"{group} encoder"),
                )
            )
            found = found.join(best, on="scope", how="left", maintain_order="left")
        return found

    def means(self, metric: str = "roc_auc") -> pl.DataFrame:
        """Means over the tasks of each family, and over families, of all encoders.

        Returns:
            scope, encoder_id, modality, value, low and high; only where an encoder has all tasks
            of a family that the new vectors have, and all families for `overall`.
        """
        return scope_means(self.scores.filter("in_mean"), metric, self.profile)

    def compare(self, rival: str) -> pl.DataFrame:
        """Paired differences to one rival by task, largest first.

        Raises:
            GenebenchError: No rival has this name.
        """
        known = sorted(set(self.differences["encoder_id"]))
        if rival not in known:
            raise GenebenchError(f"no rival {rival!r}; the rivals are {', '.join(known)}")
        rows = self.differences.filter(pl.col("encoder_id") == rival)
        return rows.drop("encoder_id").sort("difference", descending=True)

    def tasks(self) -> pl.DataFrame:
        """One row for each task: my score with its interval, the best rival and the best control.

        Returns:
            task_id, title, family, metric, n_samples, mine, low, high, best_rival,
            best_rival_value, margin (mine minus the best rival's, without controls), best_control,
            best_control_value.
        """
        order = ["value", "encoder_id"]
        ranked = self.scores.filter(pl.col("encoder_id") != self.name).sort(
            order, descending=[True, False]
        )

        def best(is_control: bool, name: str) -> pl.DataFrame:
            rows = ranked.filter(pl.col("is_control") == is_control)
            return rows.unique("task_id", keep="first").select(
                "task_id",
                pl.col("encoder_id").alias(name),
                pl.col("value").alias(f"{name}_value"),
            )

        mine = self.scores.filter(pl.col("encoder_id") == self.name).select(
            "task_id",
            "title",
            "family",
            "metric",
            "n_samples",
            pl.col("value").alias("mine"),
            "low",
            "high",
        )
        return (
            mine.join(best(False, "best_rival"), on="task_id", how="left")
            .join(best(True, "best_control"), on="task_id", how="left")
            .with_columns((pl.col("mine") - pl.col("best_rival_value")).alias("margin"))
            .sort("family", "task_id")
        )

    def verdicts(self) -> pl.DataFrame:
        """One row for each rival, one column for each family and `overall`: the verdict."""
        return self.scopes.pivot(on="scope", index="encoder_id", values="verdict")

    def largest_margins(self, n: int) -> pl.DataFrame:
        """The rows of `tasks` with the n greatest and the n least margins, greatest first."""
        tasks = self.tasks().filter(pl.col("margin").is_not_null())
        ordered = tasks.sort("margin", "task_id", descending=[True, False]).with_row_index("rank")
        kept = (pl.col("rank") < n) | (pl.col("rank") >= ordered.height - n)
        return ordered.filter(kept).drop("rank")

    def sentence(self) -> str:
        """State the result in one sentence, with its interval and what it was compared on."""
        overall = self.means().filter(
            (pl.col("scope") == OVERALL) & (pl.col("encoder_id") == self.name)
        )
        verdicts = self.scopes.filter(pl.col("scope") == OVERALL)
        counts = {
            verdict: names
            for verdict in (BETTER, WORSE, UNDECIDED)
            if (names := verdicts.filter(pl.col("verdict") == verdict)["encoder_id"].to_list())
        }
        if not overall.height:
            return f"{self.name} has no score by ROC AUC in any family."
        value, low, high = overall.select("value", "low", "high").row(0)
        counted = self.scores.filter((pl.col("metric") == "roc_auc") & is_in_overall())
        n_families = counted["family"].n_unique()
        parts = {
            BETTER: "better than",
            WORSE: "worse than",
            UNDECIDED: "not distinguishable from",
        }
        listed = "; ".join(
            f"{parts[verdict]} {', '.join(names)}" for verdict, names in counts.items()
        )
        noun = "family" if n_families == 1 else "families"
        return (
            f"{self.name}: mean ROC AUC {value:.3f} (95 % interval {low:.3f} to {high:.3f}) over "
            f"{n_families} task {noun}, {self.identifiers.n_entities:,} genes"
            + (f"; {listed} ({_METHOD})." if listed else " (linear probe).")
        )

    def solved_by_controls(self) -> pl.DataFrame:
        """The tasks on which a control scores at least as well as the new vectors."""
        return self.tasks().filter(pl.col("best_control_value") >= pl.col("mine"))

    def to_dict(self) -> dict[str, Any]:
        """All results as plain values, for JSON."""
        return {
            "name": self.name,
            "profile": self.profile,
            "protocol": self.protocol,
            "sentence": self.sentence(),
            "means": self.means().to_dicts(),
            "tasks": self.tasks().to_dicts(),
            "differences": self.differences.to_dicts(),
            "scopes": self.scopes.to_dicts(),
            "coverage": self.coverage.to_dicts(),
            "identifiers": self.identifiers.lines(),
            "notes": list(self.notes),
        }

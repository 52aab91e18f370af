"""What a release asks for, what of it is done, and why the rest is pending.

A plan names every (task, encoder, probe) of a release with the digests of what its score is
computed from. What is pending is an anti-join of those keys with the evaluations that are there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from genebench.digest import digest_json
from genebench.evaluation.evaluate import REVISION
from genebench.evaluation.problems import feature_digests
from genebench.evaluation.statistics.means import OVERALL, task_group
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.tasks.declaration import parent_task
from lakehouse.score.universes import UNIVERSES, Universe, lay_out
from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta
from lakehouse.tables.names import require_known


@dataclass(frozen=True)
class Plan:
    """A release as it should be.

    Attributes:
        release_id: The release.
        items: Rows of `gold.releases`.
        pending: The items without a finished evaluation, with `why`.
        universes: One when shared; one for each coverage when full.
        refused: What is left out (task or encoder), with the reason.
    """

    release_id: str
    items: pl.DataFrame
    pending: pl.DataFrame
    universes: tuple[Universe, ...]
    refused: Mapping[str, str]

    def universe_of(self, encoder_id: str) -> Universe:
        """The universe that an encoder is evaluated on."""
        return next(u for u in self.universes if encoder_id in u.encoder_ids)

    def select(self, tasks: Collection[str], encoders: Collection[str]) -> pl.DataFrame:
        """The pending items of some tasks (with their sub-tasks) and encoders.

        Of items that share an evaluation the first alone is given, so that none is made twice.
        """
        return self.pending.filter(
            (pl.col("task_id").is_in(tasks) | parent_task().is_in(tasks))
            & pl.col("encoder_id").is_in(encoders)
        ).unique("evaluation_key", keep="first", maintain_order=True)

    def universe_rows(self) -> pl.DataFrame:
        """Rows of `gold.universes`."""
        entities = pl.concat([u.entities for u in self.universes]).unique()
        return entities.select(
            pl.lit(self.release_id).alias("release_id"), "entity_type", "entity_id"
        ).sort("entity_type", "entity_id")


def probe_digest(probe: Probe, protocol: Protocol) -> str:
    """Digest of everything that turns vectors and labels into a score, save the code's revision.

    The revision of the evaluation's arithmetic is in it too, so raising it runs all again.
    """
    return digest_json([probe.digest(), protocol.digest(), REVISION])


def plan_release(
    delta: Delta,
    protocol: Protocol,
    probes: Sequence[Probe],
    release_id: str,
    universe: str = "shared",
    own_probes: Mapping[str, Probe] | None = None,
    named: Collection[str] = (),
) -> Plan:
    """Plan a release over all tasks and all finished encoders of the lake.

    A task that another one supersedes is left out unless it is asked for by its name.

    Args:
        delta: The lake.
        protocol: The rules.
        probes: The probes asked for.
        release_id: Its earlier state says why an item is pending.
        universe: `shared`: entities that every encoder covers; `full`: each encoder on all it
            covers.
        own_probes: Encoder to the probe that reads it, whichever is asked for.
        named: Tasks asked for by name.

    Raises:
        LakeError: There is no such universe.
    """
    require_known(universe, UNIVERSES, "universe")
    layout = lay_out(delta, protocol, universe, frozenset(named))
    rows = [
        row
        for one in layout.universes
        for encoder_id in one.encoder_ids
        for row in _items(
            one,
            encoder_id,
            layout.modalities[encoder_id],
            layout.covered,
            protocol,
            probes,
            (own_probes or {}).get(encoder_id),
        )
    ]
    declared = table("gold.releases").schema
    # Kept in the release, so that its means stay what they are when tasks come or go.
    groups = delta.scan("silver.tasks").select("task_id", task_group()).collect()
    added = ("release_id", "task_group")
    items = (
        pl.DataFrame(rows, schema={k: v for k, v in declared.items() if k not in added})
        .join(groups, on="task_id", how="left", maintain_order="left")
        .select(pl.lit(release_id).alias("release_id"), *(k for k in declared if k != added[0]))
    )
    pending = _pending(delta, items, release_id)
    return Plan(release_id, items, pending, layout.universes, layout.refused)


def _items(
    universe: Universe,
    encoder_id: str,
    modality: str,
    covered: pl.DataFrame,
    protocol: Protocol,
    probes: Sequence[Probe],
    own: Probe | None = None,
) -> Iterator[dict[str, str]]:
    mine = covered.filter(pl.col("encoder_id") == encoder_id)
    vectors = (
        universe.entity_ids.to_frame()
        .join(mine.select("entity_id", "vector_digest"), on="entity_id", how="left")
        .sort("entity_id")
    )
    has_vector = vectors["vector_digest"].is_not_null().to_numpy()
    tasks = [t for t in universe.prepared.values() if has_vector[t.rows].all()]
    if own is not None and own.engine == "incidence":
        # Such a control says something of pairs only; of other tasks nothing is asked.
        tasks = [t for t in tasks if t.rows.shape[1] > 1 and t.kind in ("binary", "regression")]
    digests = feature_digests(tasks, vectors["entity_id"], vectors["vector_digest"].fill_null(""))
    for task, feature_digest in zip(tasks, digests, strict=True):
        for probe in probes:
            decides = probe_digest(own or probe, protocol)
            yield {
                "family": task.family,
                "task_id": task.task_id,
                "kind": task.kind,
                "encoder_id": encoder_id,
                "modality": modality,
                "probe_id": probe.id,
                "protocol_id": protocol.id,
                "label_digest": task.label_digest,
                "feature_digest": feature_digest,
                "probe_digest": decides,
                "evaluation_key": digest_json([task.label_digest, feature_digest, decides]),
            }


def _pending(delta: Delta, items: pl.DataFrame, release_id: str) -> pl.DataFrame:
    evaluations = delta.scan("gold.evaluations").select("evaluation_key", "status", "reason")
    known = evaluations.collect()
    done = known.filter(pl.col("status") != "failed")
    failed = known.filter(pl.col("status") == "failed").unique("evaluation_key", keep="last")
    before = delta.scan("gold.releases").filter(pl.col("release_id") == release_id).collect()
    who = ["task_id", "encoder_id", "probe_id", "protocol_id"]
    digests = ["label_digest", "feature_digest", "probe_digest"]
    pending = (
        items.join(done, on="evaluation_key", how="anti")
        .join(before.select(*who, *digests), on=who, how="left", suffix="_before")
        .join(failed.select("evaluation_key", "reason"), on="evaluation_key", how="left")
    )
    changed = (
        pl.concat_str(
            [
                pl.when(pl.col(name) != pl.col(f"{name}_before"))
                .then(pl.lit(word))
                .otherwise(pl.lit(""))
                for name, word in zip(digests, ("labels ", "vectors ", "rules "), strict=True)
            ]
        )
        .str.strip_chars()
        .str.replace_all(" ", " and ")
    )
    why = (
        pl.when(pl.col("reason").is_not_null())
        .then(pl.concat_str([pl.lit("failed before: "), pl.col("reason")]))
        .when(pl.col("label_digest_before").is_null())
        .then(pl.lit("never evaluated"))
        .when(changed == "")
        .then(pl.lit("not evaluated yet"))
        .otherwise(changed + pl.lit(" changed"))
    )
    return pending.with_columns(why.alias("why")).select(*items.columns, "why")


def release_of(protocol_id: str) -> str:
    """The release that `score` rewrites under a protocol."""
    return "current" if protocol_id == "standard" else f"current_{protocol_id}"


def scopes(items: pl.DataFrame) -> list[str]:
    """The families of a release, then the overall scope."""
    return [*items["family"].unique().sort().to_list(), OVERALL]

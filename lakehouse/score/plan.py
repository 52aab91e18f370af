"""Plans a release: its evaluation keys, and which of them are not evaluated yet.

A plan has one item per (task, encoder, probe), with the digests of everything its score is computed
from. The pending items are the anti-join of the items with the stored evaluations.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from genebench.digest import digest_json
from genebench.errors import LakeError
from genebench.evaluation.evaluate import REVISION
from genebench.evaluation.problems import feature_digests
from genebench.evaluation.statistics.means import OVERALL, task_group
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.tasks.declaration import parent_task_expr
from lakehouse.score.plan_inputs import read_plan_inputs
from lakehouse.score.universes import UNIVERSES, Universe
from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta
from lakehouse.tables.names import require_known

CURRENT = "current"
RELEASE_NAME = r"[a-z0-9][a-z0-9_.-]{0,99}"


@dataclass(frozen=True)
class ReleasePlan:
    """All evaluations that belong to a release.

    Attributes:
        release_id: The release.
        items: Rows of `gold.releases`, without run_id.
        pending: The items without a finished evaluation, with the reason in column `why`.
        universes: One if shared, one per encoder if full.
        excluded: Task or encoder that is left out, with the reason.
    """

    release_id: str
    items: pl.DataFrame
    pending: pl.DataFrame
    universes: tuple[Universe, ...]
    excluded: Mapping[str, str]

    def universe_of(self, encoder_id: str) -> Universe:
        """Return the universe that an encoder is evaluated on."""
        return next(u for u in self.universes if encoder_id in u.encoder_ids)

    def select(self, tasks: Collection[str], encoders: Collection[str]) -> pl.DataFrame:
        """Select the pending items of some tasks, their sub-tasks included, and some encoders.

        Where several items share an evaluation key only the first is returned, so that each
        evaluation is computed once.
        """
        return self.pending.filter(
            (pl.col("task_id").is_in(tasks) | parent_task_expr().is_in(tasks))
            & pl.col("encoder_id").is_in(encoders)
        ).unique("evaluation_key", keep="first", maintain_order=True)

    def release_rows(self, run_id: str) -> pl.DataFrame:
        """Build the rows of `gold.releases`, as written by a run."""
        return self.items.with_columns(pl.lit(run_id).alias("run_id"))

    def universe_rows(self) -> pl.DataFrame:
        """Build the rows of `gold.universes`."""
        entities = pl.concat([u.entities for u in self.universes]).unique()
        return entities.select(
            pl.lit(self.release_id).alias("release_id"), "entity_type", "entity_id"
        ).sort("entity_type", "entity_id")


def probe_digest(probe: Probe, protocol: Protocol) -> str:
    """Digest of the probe, the protocol and the revision of the evaluation's arithmetic.

    Raising `REVISION` changes every evaluation key, so everything is evaluated again.
    """
    return digest_json([probe.digest(), protocol.digest(), REVISION])


def plan_release(
    delta: Delta,
    protocol: Protocol,
    probes: Sequence[Probe],
    release_id: str,
    universe: str = "shared",
    encoder_probes: Mapping[str, Probe] | None = None,
    named_tasks: Collection[str] = (),
    encoder_families: Mapping[str, Collection[str]] | None = None,
) -> ReleasePlan:
    """Plan a release over all tasks and all complete encoders of the lake.

    Args:
        delta: The tables of the lake.
        protocol: The protocol.
        probes: The requested probes.
        release_id: The release. Its stored state is compared with the new items, to say why an
            item is pending.
        universe: `shared` scores all encoders on the entities that every encoder covers; `full`
            scores each encoder on all entities that it covers.
        encoder_probes: Encoder id to the probe that its declaration fixes; it replaces the
            requested probes for this encoder.
        named_tasks: Tasks requested by name. A superseded task is planned only if it is among
            them.
        encoder_families: Encoder id to the families that its declaration restricts it to.

    Raises:
        LakeError: The universe is neither `shared` nor `full`, or the lake does not have the
            protocol's hold-out groups.
    """
    require_known(universe, UNIVERSES, "universe")
    families = encoder_families or {}
    inputs = read_plan_inputs(delta, protocol, universe, frozenset(named_tasks), families)
    rows = [
        row
        for one in inputs.universes
        for encoder_id in one.encoder_ids
        for row in _release_items(
            one,
            encoder_id,
            inputs.modalities[encoder_id],
            inputs.covered,
            protocol,
            probes,
            (encoder_probes or {}).get(encoder_id),
            families.get(encoder_id),
        )
    ]
    declared = table("gold.releases").schema
    # Stored with the release, so that its means do not change when tasks are added or removed.
    groups = delta.scan("silver.tasks").select("task_id", task_group()).collect()
    added = ("release_id", "task_group", "run_id")
    items = (
        pl.DataFrame(rows, schema={k: v for k, v in declared.items() if k not in added})
        .join(groups, on="task_id", how="left", maintain_order="left")
        .select(
            pl.lit(release_id).alias("release_id"),
            *(k for k in declared if k not in ("release_id", "run_id")),
        )
    )
    pending = _find_pending(delta, items, release_id)
    return ReleasePlan(release_id, items, pending, inputs.universes, inputs.excluded)


def _release_items(
    universe: Universe,
    encoder_id: str,
    modality: str,
    covered: pl.DataFrame,
    protocol: Protocol,
    probes: Sequence[Probe],
    encoder_probe: Probe | None = None,
    families: Collection[str] | None = None,
) -> Iterator[dict[str, str]]:
    """Yield rows of `gold.releases` for one encoder: its covered tasks by each probe."""
    stored = covered.filter(pl.col("encoder_id") == encoder_id)
    vectors = (
        universe.entity_ids.to_frame()
        .join(stored.select("entity_id", "vector_digest"), on="entity_id", how="left")
        .sort("entity_id")
    )
    has_vector = vectors["vector_digest"].is_not_null().to_numpy()
    tasks = [t for t in universe.prepared.values() if has_vector[t.rows].all()]
    if families is not None:
        tasks = [t for t in tasks if t.family in families]
    if encoder_probe is not None and encoder_probe.engine == "incidence":
        # The incidence probe is defined for binary and regression tasks of pairs only.
        tasks = [t for t in tasks if t.rows.shape[1] > 1 and t.kind in ("binary", "regression")]
    digests = feature_digests(tasks, vectors["entity_id"], vectors["vector_digest"].fill_null(""))
    for task, feature_digest in zip(tasks, digests, strict=True):
        for probe in probes:
            digest = probe_digest(encoder_probe or probe, protocol)
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
                "probe_digest": digest,
                "evaluation_key": digest_json([task.label_digest, feature_digest, digest]),
            }


def _find_pending(delta: Delta, items: pl.DataFrame, release_id: str) -> pl.DataFrame:
    """Return the items without a finished evaluation, with the reason in column `why`."""
    evaluations = delta.scan("gold.evaluations").select("evaluation_key", "status", "reason")
    known = evaluations.collect()
    done = known.filter(pl.col("status") != "failed")
    failed = known.filter(pl.col("status") == "failed").unique("evaluation_key", keep="last")
    before = delta.scan("gold.releases").filter(pl.col("release_id") == release_id).collect()
    ids = ["task_id", "encoder_id", "probe_id", "protocol_id"]
    digests = ["label_digest", "feature_digest", "probe_digest"]
    pending = (
        items.join(done, on="evaluation_key", how="anti")
        .join(before.select(*ids, *digests), on=ids, how="left", suffix="_before")
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


def current_release(protocol_id: str, universe: str = "shared") -> str:
    """Return the id of the release that `score` rewrites under a protocol and universe.

    >>> current_release("standard"), current_release("paper", "full")
    ('current', 'current_paper_full')
    """
    parts = [CURRENT, *([] if protocol_id == "standard" else [protocol_id])]
    return "_".join([*parts, *([] if universe == "shared" else [universe])])


def planned_probes(
    delta: Delta, release_id: str, requested: Sequence[str], known: Collection[str]
) -> tuple[str, ...]:
    """List the requested probes, then those that the stored release has besides.

    A run with other probes adds to a release, it does not take the release's probes out.

    Args:
        delta: The tables of the lake.
        release_id: The release.
        requested: Probe ids.
        known: The declared probes; others of the release are left out.
    """
    stored = delta.scan("gold.releases").filter(pl.col("release_id") == release_id)
    present = stored.select("probe_id").unique().collect()["probe_id"].sort()
    return tuple(dict.fromkeys([*requested, *(one for one in present if one in known)]))


def require_release_name(name: str) -> None:
    """Refuse a name that a frozen or imported release cannot have.

    Raises:
        LakeError: The name has other characters, or begins with `current`.
    """
    if not re.fullmatch(RELEASE_NAME, name):
        raise LakeError(
            f"{name!r} is not a valid release name: use at most 100 lower case letters, digits "
            "and . _ -, such as 2026.1"
        )
    if name.startswith(CURRENT):
        raise LakeError(
            f"the name {name!r} is reserved: `genebench score` rewrites releases that begin with "
            f"{CURRENT!r}; choose another name"
        )


def list_scopes(items: pl.DataFrame) -> list[str]:
    """List the scopes of a release's leaderboard: its families, then the overall mean."""
    return [*items["family"].unique().sort().to_list(), OVERALL]

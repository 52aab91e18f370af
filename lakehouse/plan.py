"""What a release asks for, what of it is done, and why the rest is pending.

A plan names every (task, encoder, probe) of a release with the digests of what its score is
computed from. What is pending is an anti-join of those keys with the evaluations that are there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from genebench.digest import digest_json
from genebench.errors import DegenerateTask
from genebench.evaluate import REVISION
from genebench.leaderboard import OVERALL
from genebench.probes import Probe
from genebench.problems import Prepared, derive_subtasks, feature_digests, prepare, universe_ids
from genebench.protocols import Protocol
from lakehouse.delta import Delta
from lakehouse.groups import group_entities
from lakehouse.tables import table

MIN_COVERAGE = 0.5
UNIVERSES = ("shared", "full")


@dataclass(frozen=True)
class Universe:
    """The entities that some encoders are compared on, and the tasks laid out over them.

    Attributes:
        encoder_ids: The encoders.
        entities: entity_type, entity_id.
        entity_ids: Sorted; rows of the prepared tasks point into it.
        prepared: The tasks, by id.
    """

    encoder_ids: tuple[str, ...]
    entities: pl.DataFrame
    entity_ids: pl.Series
    prepared: Mapping[str, Prepared]


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
        """The pending items of some tasks (with their sub-tasks) and encoders."""
        parent = pl.col("task_id").str.split("__").list.first()
        return self.pending.filter(
            (pl.col("task_id").is_in(tasks) | parent.is_in(tasks))
            & pl.col("encoder_id").is_in(encoders)
        )

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
) -> Plan:
    """Plan a release over all tasks and all finished encoders of the lake.

    Args:
        delta: The lake.
        protocol: The rules.
        probes: The probes asked for.
        release_id: Its earlier state says why an item is pending.
        universe: `shared`: entities that every encoder covers; `full`: each encoder on all it
            covers.
        own_probes: Encoder to the probe that reads it, whichever is asked for.
    """
    layout = _lay_out(delta, protocol, universe)
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
    items = pl.DataFrame(rows, schema={k: v for k, v in declared.items() if k != "release_id"})
    items = items.select(pl.lit(release_id).alias("release_id"), *items.columns)
    pending = _pending(delta, items, release_id)
    return Plan(release_id, items, pending, layout.universes, layout.refused)


@dataclass(frozen=True)
class _Layout:
    """What of a plan depends on the silver tables and the protocol alone."""

    universes: tuple[Universe, ...]
    covered: pl.DataFrame
    modalities: Mapping[str, str]
    refused: Mapping[str, str]


_READ = ("silver.tasks", "silver.samples", "silver.labels", "silver.encoders", "silver.embeddings")
# The last layout of this process, by the versions it was read at: every encoder's task run of a
# flow asks for the same one, and laying out takes longer than many an encoder's scoring.
_LAST: dict[tuple[object, ...], _Layout] = {}


def _lay_out(delta: Delta, protocol: Protocol, universe: str) -> _Layout:
    versions = tuple(delta.version(name) for name in _READ)
    key = (delta.storage.root, versions, protocol.digest(), protocol.min_share, universe)
    if key not in _LAST:
        layout = _read_layout(delta, protocol, universe)
        _LAST.clear()
        _LAST[key] = layout
    return _LAST[key]


def _read_layout(delta: Delta, protocol: Protocol, universe: str) -> _Layout:
    tasks = delta.scan("silver.tasks").collect()
    samples = delta.scan("silver.samples").collect()
    labels = delta.scan("silver.labels").collect()
    encoders = delta.scan("silver.encoders").collect()
    vectors = (
        delta.scan("silver.embeddings")
        .select("encoder_id", "entity_type", "entity_id", "vector_digest")
        .collect()
    )
    refused: dict[str, str] = {}
    needed = samples.select("entity_type", "entity_id").unique()
    covered = vectors.join(needed, on=["entity_type", "entity_id"], how="semi")
    encoder_ids = _usable_encoders(encoders, covered, needed, refused)
    universes = tuple(
        _universe(ids, entities, tasks, samples, labels, protocol, refused)
        for ids, entities in _universes(universe, encoder_ids, covered)
    )
    modalities = dict(encoders.select("encoder_id", "modality").iter_rows())
    return _Layout(universes, covered, modalities, refused)


def _usable_encoders(
    encoders: pl.DataFrame,
    covered: pl.DataFrame,
    needed: pl.DataFrame,
    refused: dict[str, str],
) -> list[str]:
    usable = []
    for encoder_id, is_complete in encoders.select("encoder_id", "is_complete").iter_rows():
        mine = covered.filter(pl.col("encoder_id") == encoder_id)
        types = mine["entity_type"].unique()
        wanted = needed.filter(pl.col("entity_type").is_in(types.implode())).height
        if not is_complete:
            refused[encoder_id] = (
                f"its embedding was interrupted; `genebench embed {encoder_id}` resumes it"
            )
        elif not wanted or mine.height < MIN_COVERAGE * wanted:
            share = mine.height / wanted if wanted else 0.0
            refused[encoder_id] = (
                f"covers {mine.height:,} of {wanted:,} entities ({share:.0%}, at least "
                f"{MIN_COVERAGE:.0%} needed to share a universe)"
            )
        else:
            usable.append(encoder_id)
    return sorted(usable)


def _universes(
    universe: str, encoder_ids: list[str], covered: pl.DataFrame
) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    entities = ["entity_type", "entity_id"]
    mine = covered.filter(pl.col("encoder_id").is_in(encoder_ids))
    if not encoder_ids:
        return
    if universe == "full":
        for encoder_id in encoder_ids:
            yield (encoder_id,), mine.filter(pl.col("encoder_id") == encoder_id).select(entities)
        return
    readers = mine.group_by("entity_type").agg(pl.col("encoder_id").n_unique().alias("n_readers"))
    shared = (
        mine.group_by(entities)
        .agg(pl.len().alias("n"))
        .join(readers, on="entity_type")
        .filter(pl.col("n") == pl.col("n_readers"))
        .select(entities)
    )
    yield tuple(encoder_ids), shared


def _universe(
    encoder_ids: tuple[str, ...],
    entities: pl.DataFrame,
    tasks: pl.DataFrame,
    samples: pl.DataFrame,
    labels: pl.DataFrame,
    protocol: Protocol,
    refused: dict[str, str],
) -> Universe:
    ids = universe_ids(entities)
    grouping = protocol.folds.groups
    groups = None if grouping is None else group_entities(ids, samples, labels, grouping)
    samples_of = samples.partition_by("task_id", as_dict=True)
    labels_of = labels.partition_by("task_id", as_dict=True)
    subtasks = set(tasks.filter(pl.col("parent_task_id").is_not_null())["task_id"])
    prepared: dict[str, Prepared] = {}
    for task in tasks.filter(pl.col("parent_task_id").is_null()).iter_rows(named=True):
        key = (task["task_id"],)
        try:
            parent = prepare(task, samples_of[key], labels_of[key], ids, protocol, groups)
        except DegenerateTask as reason:
            refused[task["task_id"]] = str(reason)
            continue
        prepared[parent.task_id] = parent
        if parent.kind == "multilabel":
            for derived in derive_subtasks(parent, protocol):
                if derived.task_id in subtasks:
                    prepared[derived.task_id] = derived
    return Universe(encoder_ids, entities.sort("entity_type", "entity_id"), ids, prepared)


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
        .then(pl.lit("its scores are gone"))
        .otherwise(changed + pl.lit(" changed"))
    )
    return pending.with_columns(why.alias("why")).select(*items.columns, "why")


def release_of(protocol_id: str) -> str:
    """The release that `score` rewrites under a protocol."""
    return "current" if protocol_id == "standard" else f"current_{protocol_id}"


def scopes(items: pl.DataFrame) -> list[str]:
    """The families of a release, then the overall scope."""
    return [*items["family"].unique().sort().to_list(), OVERALL]

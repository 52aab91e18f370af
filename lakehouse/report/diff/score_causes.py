"""Finds why evaluations have another key: from the samples, universes and vectors of two states.

The digests of an evaluation say that its labels or its vectors differ. What differs in them is read
from the tables that both releases were planned from:

- `labels`: a sample of both has other labels
- `samples`: the source has samples that it had not, or has not samples that it had
- `universe`: a sample of both is inside of one universe only
- `inputs`: the encoder read other inputs
- `encoder`: the encoder or its weights are others
- `vectors`: an encoder with the same digest gave other vectors of the same inputs
- `probe`, `protocol`: the rules are others
- `declaration`: none of these; the positive class, the hold-out groups or the recipe are others
"""

from dataclasses import dataclass

import polars as pl

from genebench.tasks.declaration import parent_task_expr, slugify
from lakehouse.embed.stored_vectors import keep_one_vector
from lakehouse.report.diff.lake_states import LakeState

CAUSES = (
    *("labels", "samples", "universe", "inputs", "encoder", "vectors"),
    *("probe", "protocol", "declaration"),
)
_ENTITY = ["entity_type", "entity_id"]
_SAMPLE = ["task_id", "sample_id"]
_PLACE = ["task_id", "encoder_id"]


@dataclass(frozen=True)
class TaskDifferences:
    """What differs in the samples of tasks between two states.

    Attributes:
        counts: task_id (parent), n_labels (samples of both with other labels), n_samples (added and
            removed) and n_universe (inside of one universe only).
        relabelled: task_id of tasks and sub-tasks with other labels.
        entities: task_id, entity_type, entity_id of the samples that both evaluate.
    """

    counts: pl.DataFrame
    relabelled: pl.DataFrame
    entities: pl.DataFrame


def find_causes(before: LakeState, after: LakeState, changed: pl.DataFrame) -> pl.DataFrame:
    """Find the causes of evaluations with another key.

    Args:
        before: The earlier state.
        after: The later state.
        changed: task_id, encoder_id, probe_id, protocol_id, label_digest, feature_digest and
            probe_digest of both states, those of the later with the suffix `_after`.

    Returns:
        The rows of `changed` with `causes`, a list of words from `CAUSES` that is never empty.
    """
    tasks = changed.select(parent_task_expr().alias("task_id")).unique()
    differences = compare_samples(before, after, tasks)
    vectors = _vector_causes(before, after, changed, differences.entities)
    has_labels, has_vectors, has_probe = (
        pl.col(name) != pl.col(f"{name}_after")
        for name in ("label_digest", "feature_digest", "probe_digest")
    )
    has_protocol = pl.col("protocol_id") != pl.col("protocol_id_after")
    is_relabelled = pl.col("task_id").is_in(differences.relabelled["task_id"].implode())
    found = {
        "labels": has_labels & is_relabelled,
        "samples": (has_labels | has_vectors) & (pl.col("n_samples") > 0),
        "universe": (has_labels | has_vectors) & (pl.col("n_universe") > 0),
        **{word: has_vectors & (pl.col("vector_cause") == word) for word in CAUSES[3:6]},
        "probe": has_probe & ~has_protocol,
        "protocol": has_protocol,
    }
    words = [pl.when(found_here).then(pl.lit(word)) for word, found_here in found.items()]
    causes = pl.concat_list(words).list.drop_nulls()
    known = (
        changed.with_columns(parent_task_expr().alias("parent"))
        .join(differences.counts.rename({"task_id": "parent"}), on="parent", how="left")
        .join(vectors, on=["parent", "encoder_id"], how="left")
        .with_columns(causes.alias("causes"))
    )
    return known.select(
        *changed.columns,
        pl.when(pl.col("causes").list.len() > 0)
        .then("causes")
        .otherwise(pl.lit(["declaration"], pl.List(pl.String)))
        .alias("causes"),
    )


def compare_samples(before: LakeState, after: LakeState, tasks: pl.DataFrame) -> TaskDifferences:
    """Compare the samples of tasks (task_id, without sub-tasks) in two states."""
    old, new = (_read_samples(state, tasks) for state in (before, after))
    both = old.join(new, on=_SAMPLE, how="full", suffix="_after", coalesce=True)
    was_known, is_known = (pl.col(name).is_not_null() for name in ("is_inside", "is_inside_after"))
    was_in, is_in = (pl.col(name).fill_null(False) for name in ("is_inside", "is_inside_after"))
    common = both.filter(was_in & is_in)
    labels = [_read_labels(state, common) for state in (before, after)]
    key = labels[0].columns
    moved = pl.concat(
        one.join(other, on=key, how="anti", nulls_equal=True)
        for one, other in (labels, reversed(labels))
    )
    n_labels = moved.select(_SAMPLE).unique().group_by("task_id").agg(pl.len().alias("n_labels"))
    counts = (
        both.group_by("task_id")
        .agg(
            ((was_in & ~is_known) | (is_in & ~was_known)).sum().alias("n_samples"),
            (was_known & is_known & (was_in != is_in)).sum().alias("n_universe"),
        )
        .join(n_labels, on="task_id", how="left")
        .with_columns(pl.col("n_labels").fill_null(0))
    )
    slots = after.scored.table("silver.samples").join(common.lazy(), on=_SAMPLE, how="semi")
    entities = slots.select("task_id", *_ENTITY).unique().collect()
    return TaskDifferences(counts, _with_subtasks(moved), entities)


def _with_subtasks(moved: pl.DataFrame) -> pl.DataFrame:
    """The tasks with moved labels, and the ids of the sub-tasks of these labels."""
    labels = moved.select("task_id", "label").unique()
    slug = pl.col("label").map_elements(slugify, return_dtype=pl.String)
    subtasks = labels.select(pl.concat_str("task_id", pl.lit("__"), slug).alias("task_id"))
    return pl.concat([labels.select("task_id"), subtasks]).unique()


def _read_samples(state: LakeState, tasks: pl.DataFrame) -> pl.DataFrame:
    """task_id, sample_id and is_inside: whether all entities are in the release's universe."""
    universe = (
        state.tables.table("gold.universes")
        .filter(pl.col("release_id") == state.release_id)
        .select(*_ENTITY, pl.lit(True).alias("is_inside"))
    )
    return (
        state.scored.table("silver.samples")
        .join(tasks.lazy(), on="task_id", how="semi")
        .join(universe, on=_ENTITY, how="left")
        .group_by(_SAMPLE)
        .agg(pl.col("is_inside").fill_null(False).all())
        .collect()
    )


def _read_labels(state: LakeState, samples: pl.DataFrame) -> pl.DataFrame:
    labels = state.scored.table("silver.labels").join(samples.lazy(), on=_SAMPLE, how="semi")
    return labels.collect()


def _vector_causes(
    before: LakeState, after: LakeState, changed: pl.DataFrame, entities: pl.DataFrame
) -> pl.DataFrame:
    """parent, encoder_id and vector_cause of the tasks whose vectors an encoder gave anew."""
    is_moved = pl.col("feature_digest") != pl.col("feature_digest_after")
    parts = [
        pl.DataFrame(
            schema={"parent": pl.String, "encoder_id": pl.String, "vector_cause": pl.String}
        )
    ]
    for encoder_id in changed.filter(is_moved)["encoder_id"].unique().sort():
        old, new = (_read_digests(state, encoder_id) for state in (before, after))
        moved = old.join(new, on=_ENTITY, suffix="_after").filter(
            pl.col("vector_digest") != pl.col("vector_digest_after")
        )
        word = pl.lit(_name_cause(old, new))
        tasks = entities.join(moved, on=_ENTITY, how="semi").select("task_id").unique()
        parts.append(
            tasks.select(
                pl.col("task_id").alias("parent"),
                pl.lit(encoder_id).alias("encoder_id"),
                word.alias("vector_cause"),
            )
        )
    return pl.concat(parts)


def _name_cause(old: pl.DataFrame, new: pl.DataFrame) -> str:
    """Name the reason for other vectors: the encoder, its inputs, or neither."""
    if set(old["encoder_digest"]) != set(new["encoder_digest"]):
        return "encoder"
    inputs = [*_ENTITY, "input_digest"]
    # An encoder that is fitted to all its inputs changes with any of them.
    if old.select(inputs).sort(inputs).equals(new.select(inputs).sort(inputs)):
        return "vectors"
    return "inputs"


def _read_digests(state: LakeState, encoder_id: str) -> pl.DataFrame:
    rows = state.scored.table("silver.embeddings").filter(pl.col("encoder_id") == encoder_id)
    digests = ["vector_digest", "input_digest", "encoder_digest"]
    return keep_one_vector(rows.select(*_ENTITY, *digests).collect())

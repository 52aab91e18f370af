"""Recipes for ordered pairs of entities: pairs, association and co_membership."""

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import REGRESSION_LABEL, LabelledSamples, Task
from genebench.tasks.recipes.rows import (
    EntityArguments,
    HierarchyArguments,
    RecipeArguments,
    Resolvers,
    Tables,
    drop_unresolved,
    keep_rows,
    pick_columns,
    pick_entities,
    pick_rows,
    resolve_pairs,
)
from genebench.tasks.recipes.samples import pair_samples


class PairsArguments(RecipeArguments):
    """Arguments of `pairs`.

    Args:
        first: Column that identifies the first entity.
        second: Column that identifies the second entity.
        namespace: Namespace of both columns, or of the first one if `second_namespace` is given.
        second_namespace: Namespace of the second column; by default the same.
        label: Column with the class.
        rename: Value in the source to class name.
        repeats: Whether to keep repeats of a pair with the same class (in either order).
        contradictions: Whether to keep a pair that occurs with both classes (in either order).
        self_pairs: Whether to keep a pair of an entity with itself.
    """

    first: str
    second: str
    namespace: str
    second_namespace: str | None = None
    label: str
    rename: dict[str, str] = Field(default_factory=dict)
    repeats: Literal["keep", "drop"] = "drop"
    contradictions: Literal["keep", "drop"] = "drop"
    self_pairs: Literal["keep", "drop"] = "drop"


def pairs(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read labelled ordered pairs of entities."""
    arguments = PairsArguments.model_validate(task.arguments)
    wanted = [arguments.first, arguments.second, arguments.label]
    rows, counts = pick_rows(tables, task, arguments, wanted)
    rows = rows.select(
        pl.col(arguments.first).alias("first"),
        pl.col(arguments.second).alias("second"),
        pl.col(arguments.label).replace(arguments.rename).alias("label"),
    )
    is_labelled = pl.col("label").is_not_null() & (pl.col("label") != "")
    rows = keep_rows(rows, is_labelled, "without a value", counts)
    namespaces = (arguments.namespace, arguments.second_namespace or arguments.namespace)
    rows = resolve_pairs(rows, task, namespaces, arguments, resolvers, counts)
    if arguments.self_pairs == "drop":
        rows = keep_rows(rows, pl.col("first_id") != pl.col("second_id"), "self pairs", counts)
    rows = rows.with_columns(
        pl.min_horizontal("first_id", "second_id").alias("low"),
        pl.max_horizontal("first_id", "second_id").alias("high"),
    )
    if arguments.contradictions == "drop":
        agreed = pl.col("label").n_unique().over("low", "high") == 1
        rows = keep_rows(rows, agreed, "contradictory pairs", counts)
    if arguments.repeats == "drop":
        unique = rows.unique(["low", "high", "label"], keep="first", maintain_order=True)
        counts["repeated pairs"] = rows.height - unique.height
        rows = unique
    return pair_samples(task, rows.with_columns(pl.lit(1.0).alias("value")), counts)


class AssociationArguments(RecipeArguments):
    """Arguments of `association`.

    Args:
        first: Column that identifies the first entity.
        first_namespace: Namespace of the first column.
        second: Column that identifies the second entity.
        second_namespace: Namespace of the second column.
        score: Column with the number; repeated pairs are averaged.
    """

    first: str
    first_namespace: str
    second: str
    second_namespace: str
    score: str


def association(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read a score for each ordered pair of entities."""
    arguments = AssociationArguments.model_validate(task.arguments)
    wanted = [arguments.first, arguments.second, arguments.score]
    rows, counts = pick_rows(tables, task, arguments, wanted)
    rows = rows.select(
        pl.col(arguments.first).alias("first"),
        pl.col(arguments.second).alias("second"),
        pl.col(arguments.score).cast(pl.Float64, strict=False).alias("value"),
    )
    rows = keep_rows(rows, pl.col("value").is_finite().fill_null(False), "without a number", counts)
    namespaces = (arguments.first_namespace, arguments.second_namespace)
    rows = resolve_pairs(rows, task, namespaces, arguments, resolvers, counts)
    merged = rows.group_by("first_id", "second_id").agg(pl.col("value").mean())
    counts["repeated pairs"] = rows.height - merged.height
    merged = merged.with_columns(pl.lit(REGRESSION_LABEL).alias("label"))
    return pair_samples(task, merged, counts)


class CoMembershipArguments(EntityArguments, HierarchyArguments):
    """Arguments of `co_membership`; the source files are annotations and edges, in order.

    Args:
        group: Column with the group, such as a protein complex.
        under: Node whose subtree contains the groups.
        max_size: Groups with more entities are left out: their pairs have little in common.
        min_size: Groups with fewer entities are left out.
        seed: Seed of the random negative pairs.
    """

    group: str
    under: str
    min_size: int = 2
    max_size: int = 30
    seed: int = 0


def co_membership(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Label pairs of entities by whether they share a group, with equally many negative pairs.

    Positives are all pairs within a group of a declared size. Negatives are drawn by permuting the
    second entities of the positives until no drawn pair shares a group. Each entity is therefore
    in as many negative as positive pairs, so its frequency does not predict the label. Pairs are
    stored with the lower entity id first.

    Raises:
        DegenerateTask: No group has a usable size.
    """
    arguments = CoMembershipArguments.model_validate(task.arguments)
    annotation_file, edge_file = task.source
    rows, counts = pick_entities(
        tables, task, arguments, resolvers, [arguments.group], [annotation_file]
    )
    relation = [arguments.relation] if arguments.relation else []
    edges = pick_columns(tables, edge_file, [arguments.child, arguments.parent, *relation])
    groups = arguments.hierarchy(edges, arguments.relations).subtree(arguments.under)
    rows = rows.rename({arguments.group: "group"})
    is_under = pl.col("group").is_in(groups).fill_null(False)
    members = drop_unresolved(keep_rows(rows, is_under, "under no group", counts), counts)
    rows = members.select("entity_id", "group").unique()
    counts["repeated rows"] = members.height - rows.height
    size = pl.len().over("group")
    is_sized = (size >= arguments.min_size) & (size <= arguments.max_size)
    small = keep_rows(rows, is_sized, "in a group of another size", counts)
    positives = (
        small.join(small, on="group", suffix="_right")
        .filter(pl.col("entity_id") < pl.col("entity_id_right"))
        .select(pl.col("entity_id").alias("first_id"), pl.col("entity_id_right").alias("second_id"))
        .unique()
        .sort("first_id", "second_id")
    )
    if not positives.height:
        raise DegenerateTask(
            f"{task.id}: no group of {task.source[0]} has between {arguments.min_size} and "
            f"{arguments.max_size} entities; lower min_size or raise max_size"
        )
    negatives = _permuted_negatives(positives, rows, arguments.seed)
    counts["positive pairs without a negative"] = positives.height - negatives.height
    positive, negative = str(task.positive), f"not {task.positive}"
    labelled = pl.concat(
        [
            positives.with_columns(pl.lit(positive).alias("label")),
            negatives.with_columns(pl.lit(negative).alias("label")),
        ]
    ).with_columns(pl.lit(1.0).alias("value"))
    return pair_samples(task, labelled, counts)


def _permuted_negatives(
    positives: pl.DataFrame, members: pl.DataFrame, seed: int, rounds: int = 50
) -> pl.DataFrame:
    """Permute the second entities until all pairs are unrelated; drop pairs left after `rounds`.

    Args:
        positives: first_id, second_id.
        members: entity_id, group. Entities that share a group are related.
        seed: Seed of the first permutation.
        rounds: Number of permutations.

    Returns:
        first_id, second_id, sorted.
    """
    # Pairs are compared as numbers, for they are compared with millions of related pairs each time.
    ids = members["entity_id"].unique().sort()
    numbers = pl.DataFrame({"entity_id": ids, "number": np.arange(len(ids))})
    of_group = members.join(numbers, on="entity_id").select("group", "number")
    both = of_group.join(of_group, on="group", suffix="_high")
    both = both.filter(pl.col("number") < pl.col("number_high"))
    taken = both.select(pl.col("number") * len(ids) + pl.col("number_high")).to_series().unique()
    first, second = (
        positives.join(numbers, left_on=name, right_on="entity_id", maintain_order="left")["number"]
        for name in ("first_id", "second_id")
    )
    accepted = pl.Series(dtype=pl.Int64)
    for attempt in range(rounds):
        if not len(first):
            break
        second = second.sample(fraction=1.0, shuffle=True, seed=seed + attempt)
        pair = pl.DataFrame({"first": first, "second": second}).select(
            (pl.min_horizontal(pl.all()) * len(ids) + pl.max_horizontal(pl.all())).alias("pair"),
            (pl.col("first") != pl.col("second")).alias("is_pair"),
        )
        code = pair["pair"]
        is_new = pair["is_pair"] & code.is_first_distinct() & ~code.is_in(taken.implode())
        accepted = accepted.append(code.filter(is_new))
        taken = taken.append(code.filter(is_new))
        first, second = first.filter(~is_new), second.filter(~is_new)
    pairs = accepted.sort().to_numpy()
    return pl.DataFrame(
        {"first_id": ids.gather(pairs // len(ids)), "second_id": ids.gather(pairs % len(ids))}
    )

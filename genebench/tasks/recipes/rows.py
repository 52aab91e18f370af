"""Selects rows of raw tables and resolves the identifiers in them; shared by all recipes."""

from collections.abc import Mapping
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from genebench.entities.identifiers import Resolver
from genebench.entities.unresolved import unresolved_ids
from genebench.errors import DegenerateTask
from genebench.tasks.declaration import Task
from genebench.tasks.recipes.hierarchy import Hierarchy

Tables = Mapping[str, pl.DataFrame]
Resolvers = Mapping[str, Resolver]

RESOLVED, UNRESOLVED, AMBIGUOUS = "known", "unresolved", "ambiguous"


def _checked_pattern(pattern: str) -> str:
    _count_groups(pattern)
    return pattern


def _checked_group(pattern: str) -> str:
    if not _count_groups(pattern):
        raise ValueError(f"the pattern {pattern!r} needs a group, in round brackets")
    return pattern


def _count_groups(pattern: str) -> int:
    """Count the groups of a pattern as polars does; its syntax differs from that of Python's re."""
    try:
        return len(pl.select(pl.lit("").str.extract_groups(pattern)).to_series().struct.fields)
    except pl.exceptions.ComputeError as fault:
        reason = str(fault).splitlines()[-1].removeprefix("error: ")
        raise ValueError(f"not a regular expression: {pattern!r}: {reason}") from fault


Pattern = Annotated[str, AfterValidator(_checked_pattern)]
GroupPattern = Annotated[str, AfterValidator(_checked_group)]


class RecipeArguments(BaseModel):
    """Arguments of every recipe.

    Args:
        where: Column to its accepted values; other rows are excluded.
        unless: Column to its excluded values.
        max_unresolved: Largest accepted share of identifiers that match no entity.
        unknown: What to do with a row whose identifier does not resolve: `drop` leaves it out,
            `keep` keeps it under its identifier (`genebench.entities.unresolved`). Both are
            counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: dict[str, list[str]] = Field(default_factory=dict)
    unless: dict[str, list[str]] = Field(default_factory=dict)
    max_unresolved: float = Field(default=0.2, ge=0, le=1)
    unknown: Literal["drop", "keep"] = "drop"


class HierarchyArguments(BaseModel):
    """Arguments of recipes with a hierarchy, whose edges are the task's second source file.

    Args:
        child: Column with the child node.
        parent: Column with the parent node.
        relation: Column with the kind of relation, if any.
        relations: Kinds of relation along which membership is inherited; the first kind defines
            the levels.
    """

    child: str = "child"
    parent: str = "parent"
    relation: str | None = None
    relations: list[str] = Field(default_factory=list)

    def hierarchy(self, edges: pl.DataFrame, relations: list[str]) -> Hierarchy:
        """Build the hierarchy from the edges of the given relations."""
        return Hierarchy.from_edges(edges, self.child, self.parent, self.relation, relations)


class EntityArguments(RecipeArguments):
    """Arguments of recipes whose samples are single entities.

    Args:
        id: Column that identifies the entity.
        namespace: Namespace of that column: symbol, ensembl, entrez, uniprot, hgnc.
        fallback: A second column and its namespace, for rows whose first identifier does not
            resolve. It is not used for an entity to which a first identifier of the file resolves.
    """

    id: str
    namespace: str
    fallback: dict[str, str] = Field(default_factory=dict, max_length=1)


def pick_columns(tables: Tables, file_id: str, wanted: list[str]) -> pl.DataFrame:
    """Select columns of a raw table.

    Raises:
        DegenerateTask: The table lacks a column, or all its values are null.
    """
    frame = tables[file_id]
    missing = [
        name
        for name in dict.fromkeys(wanted)
        if name not in frame.columns or frame[name].null_count() == frame.height
    ]
    if missing:
        raise DegenerateTask(
            f"{file_id} has no column {', '.join(map(repr, missing))}; this version of the source "
            "may lack or have renamed it: curate with another version (`versions` in the "
            "settings), or add the new name under `aliases` in the source's declaration"
        )
    return frame.select(list(dict.fromkeys(wanted)))


def pick_rows(
    tables: Tables,
    task: Task,
    arguments: RecipeArguments,
    wanted: list[str],
    files: list[str] | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Select the rows of all files that pass `where` and `unless`, and count them."""
    filters = [*arguments.where, *arguments.unless]
    frame = pl.concat(
        [pick_columns(tables, name, [*wanted, *filters]) for name in files or task.source]
    )
    counts = {"source rows": frame.height}
    for name, values in arguments.where.items():
        frame = frame.filter(pl.col(name).is_in(values))
    for name, values in arguments.unless.items():
        frame = frame.filter(~pl.col(name).is_in(values).fill_null(False))
    counts["rows"] = frame.height
    return frame, counts


def pick_entities(
    tables: Tables,
    task: Task,
    arguments: EntityArguments,
    resolvers: Resolvers,
    wanted: list[str],
    files: list[str] | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Select rows, and add the `entity_id` and `resolution_status` of their identifiers.

    Raises:
        DegenerateTask: A column is missing.
        UnresolvedEntities: More than the declared share of identifiers does not resolve.
    """
    columns = [arguments.id, *arguments.fallback, *wanted]
    rows, counts = pick_rows(tables, task, arguments, columns, files)
    resolver = resolvers[task.entity[0]]
    resolved = _resolve_entities(
        rows[arguments.id], task.entity[0], arguments.namespace, task, arguments, resolver
    )
    for column, namespace in arguments.fallback.items():
        resolved = _apply_fallback(resolved, resolver.resolve(rows[column], namespace).entity_ids)
    picked = rows.select(list(dict.fromkeys(wanted)))
    return picked.hstack(resolved.select("entity_id", "resolution_status")), counts


def drop_unresolved(rows: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Count unresolved and ambiguous identifiers, and drop rows without an entity."""
    for status in (UNRESOLVED, AMBIGUOUS):
        counts[status] = rows.filter(pl.col("resolution_status") == status).height
    return rows.drop_nulls("entity_id").drop("resolution_status")


def resolve_pairs(
    rows: pl.DataFrame,
    task: Task,
    namespaces: tuple[str, str],
    arguments: RecipeArguments,
    resolvers: Resolvers,
    counts: dict[str, int],
) -> pl.DataFrame:
    """Add `first_id` and `second_id`; count and drop pairs in which one of them is missing.

    Raises:
        UnresolvedEntities: More than the declared share of a slot's identifiers does not resolve.
    """
    for slot, entity_type, namespace in zip(
        ("first", "second"), slot_types(task), namespaces, strict=True
    ):
        resolved = _resolve_entities(
            rows[slot], entity_type, namespace, task, arguments, resolvers[entity_type]
        )
        for status in (UNRESOLVED, AMBIGUOUS):
            n = resolved.filter(pl.col("resolution_status") == status).height
            counts[status] = counts.get(status, 0) + n
        rows = rows.with_columns(resolved["entity_id"].alias(f"{slot}_id"))
    return keep_rows(
        rows,
        pl.col("first_id").is_not_null() & pl.col("second_id").is_not_null(),
        "pairs with an unresolved entity",
        counts,
    )


def slot_types(task: Task) -> tuple[str, str]:
    """Return the entity types of a pair's two slots; a single declared type applies to both."""
    return task.entity[0], task.entity[-1]


def keep_rows(
    rows: pl.DataFrame, condition: pl.Expr, reason: str, counts: dict[str, int]
) -> pl.DataFrame:
    """Keep the rows that meet a condition, and count the others under a reason."""
    kept = rows.filter(condition)
    counts[reason] = rows.height - kept.height
    return kept


def _resolve_entities(
    identifiers: pl.Series,
    entity_type: str,
    namespace: str,
    task: Task,
    arguments: RecipeArguments,
    resolver: Resolver,
) -> pl.DataFrame:
    """Return identifier, entity_id and resolution_status, aligned with the identifiers."""
    found = resolver.resolve(identifiers, namespace)
    where = f"{task.id}: {', '.join(task.source)}, {identifiers.name} as {entity_type} {namespace}"
    entity_ids = found.require_resolved(arguments.max_unresolved, where)
    resolved = pl.DataFrame(
        {"identifier": identifiers, "entity_id": entity_ids, "is_ambiguous": found.is_ambiguous}
    ).with_columns(
        pl.when(pl.col("is_ambiguous"))
        .then(pl.lit(AMBIGUOUS))
        .when(pl.col("entity_id").is_null())
        .then(pl.lit(UNRESOLVED))
        .otherwise(pl.lit(RESOLVED))
        .alias("resolution_status")
    )
    if arguments.unknown == "keep":
        kept_ids = unresolved_ids(identifiers, namespace, entity_type)
        resolved = resolved.with_columns(pl.coalesce("entity_id", kept_ids.alias("kept_id")))
    return resolved


def _apply_fallback(resolved: pl.DataFrame, fallback_ids: pl.Series) -> pl.DataFrame:
    """Use the entity of the second identifier if no other identifier of the file resolves to it."""
    rows = resolved.with_columns(fallback_ids.alias("fallback_id"))
    is_resolved = pl.col("resolution_status") == RESOLVED
    used_ids = rows.filter(is_resolved)["entity_id"].drop_nulls().unique()
    is_candidate = (
        ~is_resolved
        & pl.col("fallback_id").is_not_null()
        & ~pl.col("fallback_id").is_in(used_ids.implode())
    )
    n_identifiers = pl.col("identifier").n_unique().over("fallback_id")
    rows = rows.with_columns(
        pl.when(is_candidate).then("fallback_id").alias("fallback_id")
    ).with_columns((is_candidate & (n_identifiers == 1)).alias("uses_fallback"))
    return rows.with_columns(
        pl.when("uses_fallback").then("fallback_id").otherwise("entity_id").alias("entity_id"),
        pl.when("uses_fallback")
        .then(pl.lit(RESOLVED))
        .otherwise("resolution_status")
        .alias("resolution_status"),
    )

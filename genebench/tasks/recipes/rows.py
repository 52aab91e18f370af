"""What all recipes share: picking rows of raw tables, and finding out which entities they name."""

from collections.abc import Mapping
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from genebench.entities.identifiers import Resolver
from genebench.entities.unresolved import outside_ids
from genebench.errors import DegenerateTask
from genebench.tasks.declaration import Task
from genebench.tasks.recipes.hierarchy import Hierarchy

Tables = Mapping[str, pl.DataFrame]
Resolvers = Mapping[str, Resolver]

KNOWN, UNKNOWN, AMBIGUOUS = "known", "unresolved", "ambiguous"


def _checked_pattern(pattern: str) -> str:
    _count_groups(pattern)
    return pattern


def _checked_group(pattern: str) -> str:
    if not _count_groups(pattern):
        raise ValueError(f"the pattern {pattern!r} needs a group, in round brackets")
    return pattern


def _count_groups(pattern: str) -> int:
    """Count the groups of a pattern by polars, whose expressions are not quite Python's."""
    try:
        return len(pl.select(pl.lit("").str.extract_groups(pattern)).to_series().struct.fields)
    except pl.exceptions.ComputeError as fault:
        reason = str(fault).splitlines()[-1].removeprefix("error: ")
        raise ValueError(f"not a regular expression: {pattern!r}: {reason}") from fault


Pattern = Annotated[str, AfterValidator(_checked_pattern)]
GroupPattern = Annotated[str, AfterValidator(_checked_group)]


class RecipeArguments(BaseModel):
    """Arguments that every recipe takes.

    Args:
        where: Column to the values that keep a row.
        unless: Column to the values that drop a row.
        max_unresolved: Largest share of identifiers that may name no entity of the catalogue.
        unknown: What becomes of a row whose identifier names no entity: `drop` leaves it out,
            `keep` keeps the row under its identifier (`genebench.entities.unresolved`). Both
            are counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: dict[str, list[str]] = Field(default_factory=dict)
    unless: dict[str, list[str]] = Field(default_factory=dict)
    max_unresolved: float = Field(default=0.2, ge=0, le=1)
    unknown: Literal["drop", "keep"] = "drop"


class HierarchyArguments(BaseModel):
    """Arguments of recipes that walk a hierarchy, whose edges are the task's second source.

    Args:
        child: The column with the lower node.
        parent: The column with the upper node.
        relation: The column with the kind of relation, where there is one.
        relations: The kinds of relation along which membership is inherited; the first is the one
            that makes the levels.
    """

    child: str = "child"
    parent: str = "parent"
    relation: str | None = None
    relations: list[str] = Field(default_factory=list)

    def hierarchy(self, edges: pl.DataFrame, relations: list[str]) -> Hierarchy:
        """The hierarchy along some of the relations."""
        return Hierarchy.from_edges(edges, self.child, self.parent, self.relation, relations)


class EntityArguments(RecipeArguments):
    """Arguments of recipes whose samples are single entities.

    Args:
        id: The column that identifies the entity.
        namespace: What that column holds: symbol, ensembl, entrez, uniprot, hgnc.
        fallback: A further column and its namespace, for rows whose first identifier names
            nothing; it never takes an entity that a first identifier of the file names.
    """

    id: str
    namespace: str
    fallback: dict[str, str] = Field(default_factory=dict, max_length=1)


def pick_columns(tables: Tables, file_id: str, wanted: list[str]) -> pl.DataFrame:
    """The wanted columns of a raw table, or a clear word about the ones it lacks.

    Raises:
        DegenerateTask: The table lacks a column, or holds nothing in it.
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
            "may lack it, or have renamed it"
        )
    return frame.select(list(dict.fromkeys(wanted)))


def pick_rows(
    tables: Tables,
    task: Task,
    arguments: RecipeArguments,
    wanted: list[str],
    files: list[str] | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows that count, of all files together, and the first entries of the counts."""
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
    """The rows that count, with `entity_id` and `standing` of the entity that each names.

    Raises:
        DegenerateTask: A column is missing.
        UnresolvedEntities: More identifiers than the declared share name no entity.
    """
    columns = [arguments.id, *arguments.fallback, *wanted]
    rows, counts = pick_rows(tables, task, arguments, columns, files)
    resolver = resolvers[task.entity[0]]
    who = _name_entities(
        rows[arguments.id], task.entity[0], arguments.namespace, task, arguments, resolver
    )
    for column, namespace in arguments.fallback.items():
        who = _fall_back(who, resolver.resolve(rows[column], namespace).entity_ids)
    picked = rows.select(list(dict.fromkeys(wanted)))
    return picked.hstack(who.select("entity_id", "standing")), counts


def drop_unnamed(rows: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Leave out rows without an entity, after counting how the rows' identifiers stand."""
    for standing in (UNKNOWN, AMBIGUOUS):
        counts[standing] = rows.filter(pl.col("standing") == standing).height
    return rows.drop_nulls("entity_id").drop("standing")


def resolve_pairs(
    rows: pl.DataFrame,
    task: Task,
    namespaces: tuple[str, str],
    arguments: RecipeArguments,
    resolvers: Resolvers,
    counts: dict[str, int],
) -> pl.DataFrame:
    """Add `first_id` and `second_id`; pairs without one of them are counted and left out.

    Raises:
        UnresolvedEntities: More identifiers of a slot than the declared share name no entity.
    """
    for slot, entity_type, namespace in zip(
        ("first", "second"), slot_types(task), namespaces, strict=True
    ):
        who = _name_entities(
            rows[slot], entity_type, namespace, task, arguments, resolvers[entity_type]
        )
        for standing in (UNKNOWN, AMBIGUOUS):
            n = who.filter(pl.col("standing") == standing).height
            counts[standing] = counts.get(standing, 0) + n
        rows = rows.with_columns(who["entity_id"].alias(f"{slot}_id"))
    return keep(
        rows,
        pl.col("first_id").is_not_null() & pl.col("second_id").is_not_null(),
        "pairs with an unresolved entity",
        counts,
    )


def slot_types(task: Task) -> tuple[str, str]:
    """The entity types of a pair's two slots; one declared type stands for both."""
    return task.entity[0], task.entity[-1]


def keep(
    rows: pl.DataFrame, condition: pl.Expr, otherwise: str, counts: dict[str, int]
) -> pl.DataFrame:
    """The rows that meet a condition; the others are counted under a reason."""
    kept = rows.filter(condition)
    counts[otherwise] = rows.height - kept.height
    return kept


def _name_entities(
    identifiers: pl.Series,
    entity_type: str,
    namespace: str,
    task: Task,
    arguments: RecipeArguments,
    resolver: Resolver,
) -> pl.DataFrame:
    """identifier, entity_id and standing, aligned with the identifiers."""
    found = resolver.resolve(identifiers, namespace)
    where = f"{task.id}: {', '.join(task.source)}, {identifiers.name} as {entity_type} {namespace}"
    entity_ids = found.require(arguments.max_unresolved, where)
    who = pl.DataFrame(
        {"identifier": identifiers, "entity_id": entity_ids, "is_ambiguous": found.is_ambiguous}
    ).with_columns(
        pl.when(pl.col("is_ambiguous"))
        .then(pl.lit(AMBIGUOUS))
        .when(pl.col("entity_id").is_null())
        .then(pl.lit(UNKNOWN))
        .otherwise(pl.lit(KNOWN))
        .alias("standing")
    )
    if arguments.unknown == "keep":
        outside = outside_ids(identifiers, namespace, entity_type)
        who = who.with_columns(pl.coalesce("entity_id", outside.alias("outside")))
    return who


def _fall_back(who: pl.DataFrame, others: pl.Series) -> pl.DataFrame:
    """Let a second identifier name the entity, where no other row of the file claims it."""
    who = who.with_columns(others.alias("other"))
    named = who.filter(pl.col("standing") == KNOWN)["entity_id"].drop_nulls().unique()
    claims = pl.col("identifier").n_unique().over("other")
    is_free = (
        (pl.col("standing") != KNOWN)
        & pl.col("other").is_not_null()
        & ~pl.col("other").is_in(named.implode())
    )
    free = who.with_columns(pl.when(is_free).then("other").alias("other")).with_columns(
        (is_free & (claims == 1)).alias("takes")
    )
    return free.with_columns(
        pl.when("takes").then("other").otherwise("entity_id").alias("entity_id"),
        pl.when("takes").then(pl.lit(KNOWN)).otherwise("standing").alias("standing"),
    )

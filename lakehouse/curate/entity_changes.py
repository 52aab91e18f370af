"""Lists added, withdrawn and renamed entities, and added, merged, gone and renamed terms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from genebench.entities.identifiers import APPROVED
from genebench.entities.unresolved import NOT_IN_CATALOGUE
from genebench.tasks.declaration import Task
from genebench.tasks.recipes.gained_recipe import read_mergers
from lakehouse.curate.state import read_curated_snapshots
from lakehouse.tables.time_travel import Tables

ADDED, WITHDRAWN, RENAMED, NEW_NAME = "added", "withdrawn", "renamed", "new name"
GONE, MERGED, OBSOLETE = "gone", "merged", "obsolete"
ENTITY_CHANGES_SCHEMA = pl.Schema(
    {
        "change": pl.String,
        "entity_type": pl.String,
        "entity_id": pl.String,
        "before": pl.String,
        "now": pl.String,
        "successor": pl.String,
        "n_tasks": pl.Int64,
    }
)
TERM_CHANGES_SCHEMA = pl.Schema(
    {
        "change": pl.String,
        "file": pl.String,
        "term_id": pl.String,
        "before": pl.String,
        "now": pl.String,
        "successor": pl.String,
    }
)
# Obsolete terms stay in the files of the Gene Ontology, with this before their name.
_OBSOLETE_PREFIX = "obsolete "
_KEY = ["entity_type", "entity_id"]
_READ = ("silver.entities", "silver.xrefs", "silver.samples")


@dataclass(frozen=True)
class TermFile:
    """A source file with the terms of an ontology.

    Attributes:
        file_id: The file, such as `bioconductor.go_terms`.
        id_column: Its column with the id of a term.
        name_column: Its column with the name of a term.
        merged_column: Its column with the ids, separated by `|`, of terms that were merged into a
            term; None without.
    """

    file_id: str
    id_column: str
    name_column: str
    merged_column: str | None = None


def term_files(tasks: Iterable[Task]) -> list[TermFile]:
    """List the files with terms that tasks name their labels by, sorted.

    They are those of the recipe `membership`, with the column of merged terms that tasks of the
    recipe `gained` read in them.
    """
    tasks = list(tasks)
    merged = {
        task.source[2]: task.arguments.get("merged") for task in tasks if task.recipe == "gained"
    }
    found = {
        TermFile(
            task.source[-1],
            task.arguments["node_id"],
            task.arguments["node_name"],
            merged.get(task.source[-1]),
        )
        for task in tasks
        if task.recipe == "membership"
    }
    return sorted(found, key=lambda one: one.file_id)


def changed_entities(
    before: Mapping[str, pl.DataFrame], now: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """Compare the entity catalogues of two curations.

    Entities that no catalogue lists (`unresolved`) are left out.

    Args:
        before: `silver.entities`, `silver.xrefs` and `silver.samples` of the earlier curation.
        now: The same tables of the later curation.

    Returns:
        `ENTITY_CHANGES_SCHEMA`, entities of most tasks first: `change` is added, withdrawn,
        renamed (another symbol) or new name (another name, the same symbol); `before` and `now`
        are symbols, or names for a new name; `successor` is the entity that has most identifiers of
        a withdrawn one now; `n_tasks` counts the tasks that sample the entity, or sampled it.
    """
    old, new = (_listed(state["silver.entities"]) for state in (before, now))
    both = old.join(new, on=_KEY, how="full", suffix="_now", coalesce=True)
    has_other_symbol = pl.col("symbol") != pl.col("symbol_now")
    change = (
        pl.when(pl.col("symbol").is_null())
        .then(pl.lit(ADDED))
        .when(pl.col("symbol_now").is_null())
        .then(pl.lit(WITHDRAWN))
        .when(has_other_symbol)
        .then(pl.lit(RENAMED))
        .when(pl.col("name") != pl.col("name_now"))
        .then(pl.lit(NEW_NAME))
    )
    is_new_name = pl.col("change") == NEW_NAME
    changed = both.with_columns(change.alias("change")).filter(pl.col("change").is_not_null())
    withdrawn = changed.filter(pl.col("change") == WITHDRAWN).select(_KEY)
    successors = _successors(withdrawn, before["silver.xrefs"], now["silver.xrefs"])
    counts = pl.concat([_count_tasks(state["silver.samples"]) for state in (now, before)])
    return (
        changed.join(successors, on=_KEY, how="left")
        .join(counts.unique(_KEY, keep="first", maintain_order=True), on=_KEY, how="left")
        .select(
            "change",
            *_KEY,
            pl.when(is_new_name).then("name").otherwise("symbol").alias("before"),
            pl.when(is_new_name).then("name_now").otherwise("symbol_now").alias("now"),
            "successor",
            pl.col("n_tasks").fill_null(0),
        )
        .cast(ENTITY_CHANGES_SCHEMA)
        .sort("n_tasks", "change", *_KEY, descending=[True, False, False, False])
    )


def _listed(entities: pl.DataFrame) -> pl.DataFrame:
    is_listed = pl.col("locus_group").ne_missing(NOT_IN_CATALOGUE)
    return entities.filter(is_listed).select(*_KEY, "symbol", "name")


def _count_tasks(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.group_by(_KEY).agg(pl.col("task_id").n_unique().cast(pl.Int64).alias("n_tasks"))


def _successors(withdrawn: pl.DataFrame, before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Find the entity that has most identifiers of each withdrawn one; no row where none has.

    Aliases and former symbols of the withdrawn entity do not count: unrelated entities share them.
    """
    identifier = ["entity_type", "namespace", "identifier"]
    approved = before.filter(pl.col("status") == APPROVED)
    mine = approved.join(withdrawn, on=_KEY, how="semi").select(*identifier, "entity_id").unique()
    theirs = now.filter(~pl.col("is_ambiguous")).select(*identifier, "entity_id").unique()
    return (
        mine.join(theirs, on=identifier, suffix="_now")
        .group_by(*_KEY, pl.col("entity_id_now").alias("successor"))
        .len()
        .sort("len", "successor", descending=[True, False])
        .unique(_KEY, keep="first", maintain_order=True)
        .drop("len")
    )


def changed_terms(before: pl.DataFrame, now: pl.DataFrame, file: TermFile) -> pl.DataFrame:
    """Compare two versions of a file of terms.

    Args:
        before: The rows of the earlier version.
        now: The rows of the later version.
        file: The file and its columns.

    Returns:
        `TERM_CHANGES_SCHEMA`: `change` is added, merged, gone, renamed or obsolete (renamed to
        `obsolete …`); `before` and `now` are names; `successor` is the term that a merged one was
        merged into, or that has the name of a gone one now. In a file that does not name merged
        terms they are gone.
    """
    old, new = (
        rows.select(term_id=file.id_column, name=file.name_column)
        .drop_nulls("term_id")
        .unique("term_id", keep="first", maintain_order=True)
        .with_columns(pl.col("name").fill_null(""))
        for rows in (before, now)
    )
    mergers = read_mergers(now, file.id_column, file.merged_column)
    merged_into = pl.col("term_id").replace_strict(mergers, default=None, return_dtype=pl.String)
    both = old.join(new, on="term_id", how="full", suffix="_now", coalesce=True)
    both = both.with_columns(merged_into=merged_into)
    is_obsolete = pl.col("name_now").str.starts_with(_OBSOLETE_PREFIX) & ~pl.col(
        "name"
    ).str.starts_with(_OBSOLETE_PREFIX)
    change = (
        pl.when(pl.col("name").is_null())
        .then(pl.lit(ADDED))
        .when(pl.col("name_now").is_null() & pl.col("merged_into").is_not_null())
        .then(pl.lit(MERGED))
        .when(pl.col("name_now").is_null())
        .then(pl.lit(GONE))
        .when(is_obsolete)
        .then(pl.lit(OBSOLETE))
        .when(pl.col("name") != pl.col("name_now"))
        .then(pl.lit(RENAMED))
    )
    named = new.select(pl.col("term_id").alias("successor"), "name").sort("successor")
    named = named.unique("name", keep="first", maintain_order=True)
    return (
        both.with_columns(change.alias("change"))
        .filter(pl.col("change").is_not_null())
        .join(named, on="name", how="left")
        .select(
            "change",
            pl.lit(file.file_id).alias("file"),
            "term_id",
            pl.col("name").alias("before"),
            pl.col("name_now").alias("now"),
            pl.when(pl.col("change") == GONE)
            .then("successor")
            .when(pl.col("change") == MERGED)
            .then("merged_into")
            .alias("successor"),
        )
        .cast(TERM_CHANGES_SCHEMA)
        .sort("change", "term_id")
    )


def entity_changes_between(before: Tables, now: Tables) -> pl.DataFrame:
    """Compare the entities of two states of a lake; see `changed_entities`."""
    old, new = ({name: state.table(name).collect() for name in _READ} for state in (before, now))
    return changed_entities(old, new)


def term_changes_between(before: Tables, now: Tables, files: Iterable[TermFile]) -> pl.DataFrame:
    """Compare the terms that the curations of two states of a lake read; see `changed_terms`.

    A file that one of the two did not read, or that both read from one snapshot, has no row.
    """
    old, new = read_curated_snapshots(before), read_curated_snapshots(now)
    parts = [pl.DataFrame(schema=TERM_CHANGES_SCHEMA)]
    for file in files:
        first, second = old.get(file.file_id), new.get(file.file_id)
        if first and second and first != second:
            rows = before.raw(file.file_id, first), now.raw(file.file_id, second)
            parts.append(changed_terms(*rows, file))
    return pl.concat(parts)

"""Recipe `gained`: labels of an earlier release, and the labels that entities gained since."""

from collections.abc import Mapping

import polars as pl
from pydantic import Field

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import (
    GAINED,
    KNOWN,
    TEMPORAL_LABELS_SCHEMA,
    UNCONFIRMED,
    LabelledSamples,
    Task,
)
from genebench.tasks.recipes.entity_recipes import NodeArguments, pick_edges, pick_titles
from genebench.tasks.recipes.hierarchy import Hierarchy
from genebench.tasks.recipes.rows import Resolvers, Tables, drop_unresolved, pick_entities
from genebench.tasks.recipes.samples import entity_samples

CELL = ["entity_id", "label"]


class GainedArguments(NodeArguments):
    """Arguments of `gained`; the source files are those of `membership` now, then in the past.

    Args:
        gained_by: Column of the annotations to the values by which a gain counts, such as evidence
            codes of experiments; a gain by other rows only is left out of the tests.
        min_gained: Labels that fewer entities gained are left out.
        merged: Column of the names with the ids, separated by `|`, of nodes that were merged into
            the node. A release without the column tells of no merged node.
    """

    gained_by: dict[str, list[str]] = Field(default_factory=dict)
    min_gained: int = Field(default=30, ge=1)
    merged: str | None = None


def gained(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Label entities with what was known of them in the past, and with what they gained since.

    The labels are the nodes at the declared depth of the past hierarchy, by the true-path rule of
    each release. A node of the past is found now by its id, or else as the node that it was merged
    into, or else by its exact name; the others are obsolete. The samples are the entities with a
    label in the past. A label that an entity lacked in the past and has now is gained if a new
    annotation (of a node that the entity was not annotated with in the past) passes `gained_by`.
    Otherwise it is unconfirmed: it comes from other evidence, or from a change of the hierarchy.

    Returns:
        Labels with a status: `TEMPORAL_LABELS_SCHEMA`. The counts also tell how many nodes were
        merged, matched by name or are obsolete, how many labels too few entities gained, and how
        many cells of the others are known, gained, unconfirmed and lost.

    Raises:
        DegenerateTask: A source lacks a column, or no label was gained by enough entities.
        UnresolvedEntities: More than the declared share of identifiers does not resolve.
    """
    arguments = GainedArguments.model_validate(task.arguments)
    now, then = task.source[:3], task.source[3:]
    titles = pick_titles(tables, now[2], arguments)
    titles_then = pick_titles(tables, then[2], arguments)
    merged_into = read_mergers(tables[now[2]], arguments.node_id, arguments.merged)
    found_now = match_nodes(titles_then, titles, merged_into)
    levels, inheritance = _hierarchies(tables, then[1], arguments)
    _, inheritance_now = _hierarchies(tables, now[1], arguments)
    if arguments.root and arguments.root not in titles_then:
        which = "neither release" if arguments.root not in titles else "the current release only"
        raise DegenerateTask(
            f"{task.id}: the root {arguments.root!r} is a term of {which}; correct `root`"
        )
    tops = [arguments.root] if arguments.root else levels.roots
    label_ids = levels.at_depth(tops, arguments.depth)
    kept = {node: found_now[node] for node in label_ids if found_now.get(node)}
    known_nodes = _subtrees({node: node for node in kept}, inheritance)
    present_nodes = _subtrees({node: str(now_id) for node, now_id in kept.items()}, inheritance_now)

    before, counts = _read_annotations(tables, task, arguments, resolvers, then[0])
    after, counts_now = _read_annotations(tables, task, arguments, resolvers, now[0])
    counts = {f"past {name}": number for name, number in counts.items()} | counts_now
    known = before.join(known_nodes, on="node").select(CELL).unique()
    renamed = {old: new for old, new in found_now.items() if new not in (None, old)}
    annotated = before.select("entity_id", pl.col("node").replace(renamed)).unique()
    is_counted = pl.col("is_annotated").is_null()
    for column, values in arguments.gained_by.items():
        is_counted &= pl.col(column).is_in(values).fill_null(False)
    annotated = annotated.with_columns(is_annotated=pl.lit(True))
    present = (
        after.join(annotated, on=["entity_id", "node"], how="left")
        .with_columns(is_counted=is_counted)
        .join(present_nodes, on="node")
        .join(known.select("entity_id").unique(), on="entity_id", how="semi")
        .group_by(CELL)
        .agg(pl.col("is_counted").any())
    )
    status = pl.when("is_counted").then(pl.lit(GAINED)).otherwise(pl.lit(UNCONFIRMED))
    added = present.join(known, on=CELL, how="anti").select(*CELL, status.alias("status"))
    n_gained = added.filter(status=GAINED).group_by("label").len()
    often = n_gained.filter(pl.col("len") >= arguments.min_gained).select("label")
    cells = pl.concat([known.with_columns(status=pl.lit(KNOWN)), added])
    cells = cells.join(often, on="label", how="semi")
    counts |= {
        "past terms": len(titles_then),
        "merged terms": len(renamed.keys() & merged_into.keys()),
        "terms matched by name": len(renamed.keys() - merged_into.keys()),
        "obsolete terms": sum(new is None for new in found_now.values()),
        "labels": len(label_ids),
        "obsolete labels": len(label_ids) - len(kept),
        f"labels gained by fewer than {arguments.min_gained} entities": len(kept) - often.height,
        **{name: cells.filter(status=name).height for name in (KNOWN, GAINED, UNCONFIRMED)},
        "lost": known.join(often, on="label", how="semi").join(present, on=CELL, how="anti").height,
    }
    if not often.height:
        raise DegenerateTask(
            f"{task.id}: no label was gained by {arguments.min_gained} entities between "
            f"{then[0]} and {now[0]}; take an earlier past, or a smaller `min_gained`"
        )
    return _temporal_samples(task, cells, known["entity_id"], titles_then, counts)


def match_nodes(
    then: Mapping[str, str], now: Mapping[str, str], merged_into: Mapping[str, str]
) -> dict[str, str | None]:
    """Find the nodes of the past now: by id, else merged, else by exact title, else None.

    A title that several nodes have now matches none of them.

    Args:
        then: Node to title in the past.
        now: Node to title now.
        merged_into: Node that is gone to the node that it was merged into.
    """
    by_title: dict[str, str | None] = {}
    for node, title in now.items():
        by_title[title] = None if title in by_title else node
    return {
        node: node if node in now else merged_into.get(node, by_title.get(title))
        for node, title in then.items()
    }


def read_mergers(rows: pl.DataFrame, node: str, merged: str | None) -> dict[str, str]:
    """Return the node that each merged node was merged into.

    Args:
        rows: Raw rows of a file of names.
        node: Column with the node.
        merged: Column with the ids, separated by `|`, of nodes that were merged into the node;
            None, or a column that the file lacks, gives no merger.
    """
    if merged is None or merged not in rows.columns:
        return {}
    pairs = rows.select(pl.col(merged).str.split("|"), node).drop_nulls().explode(merged)
    return dict(pairs.select(merged, node).iter_rows())


def _temporal_samples(
    task: Task,
    cells: pl.DataFrame,
    entity_ids: pl.Series,
    titles: Mapping[str, str],
    counts: dict[str, int],
) -> LabelledSamples:
    named = cells.with_columns(pl.col("label").replace(dict(titles)), value=pl.lit(1.0))
    names = sorted(named["label"].unique().to_list())
    built = entity_samples(task, named, names, counts, entity_ids)
    labels = named.rename({"entity_id": "sample_id"}).select(TEMPORAL_LABELS_SCHEMA.names())
    labels = labels.cast(TEMPORAL_LABELS_SCHEMA).sort("sample_id", "label")
    return LabelledSamples(built.samples, labels, names, counts)


def _hierarchies(
    tables: Tables, edge_file: str, arguments: GainedArguments
) -> tuple[Hierarchy, Hierarchy]:
    """Return the hierarchy of the levels and that of the inheritance."""
    edges = pick_edges(tables, edge_file, arguments)
    levels = arguments.hierarchy(edges, arguments.relations[:1])
    return levels, arguments.hierarchy(edges, arguments.relations)


def _subtrees(tops: Mapping[str, str], inheritance: Hierarchy) -> pl.DataFrame:
    """Return node and label: all nodes below the node of each label."""
    rows = [(node, label) for label, top in tops.items() for node in inheritance.subtree(top)]
    return pl.DataFrame(rows, schema={"node": pl.String, "label": pl.String}, orient="row")


def _read_annotations(
    tables: Tables, task: Task, arguments: GainedArguments, resolvers: Resolvers, file: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return entity_id, node and the columns of `gained_by` of one release."""
    wanted = [arguments.node, *arguments.gained_by]
    rows, counts = pick_entities(tables, task, arguments, resolvers, wanted, [file])
    return drop_unresolved(rows.rename({arguments.node: "node"}), counts), counts

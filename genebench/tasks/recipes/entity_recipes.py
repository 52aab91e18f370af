"""Recipes for single entities: column, split, keywords, membership, count and flags."""

from collections.abc import Iterable
from typing import Literal

import polars as pl
from pydantic import Field, model_validator

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import LabelledSamples, Task
from genebench.tasks.recipes.hierarchy import Hierarchy
from genebench.tasks.recipes.rows import (
    EntityArguments,
    GroupPattern,
    HierarchyArguments,
    Pattern,
    Resolvers,
    Tables,
    drop_unresolved,
    keep_rows,
    pick_columns,
    pick_entities,
)
from genebench.tasks.recipes.samples import (
    class_samples,
    flag_samples,
    label_set_samples,
    number_samples,
)


class ColumnArguments(EntityArguments):
    """Arguments of `column`.

    Args:
        column: Column with the class or the number.
        extract: Regular expression whose first group is the class; without a match the value is
            missing.
        remove: Regular expression; its matches are removed from the value.
        rename: Value in the source to class name.
        others: Class of values that `rename` does not list; by default these keep their value.
        drop: Values that count as missing.
        conflicts: `drop` drops an entity whose rows have different classes, `first` uses its
            first row.
        transform: `log1p` for heavy-tailed counts and concentrations.
    """

    column: str
    extract: GroupPattern | None = None
    remove: Pattern | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    others: str | None = None
    drop: list[str] = Field(default_factory=list)
    conflicts: Literal["drop", "first"] = "drop"
    transform: Literal["none", "log1p"] = "none"


def column(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read one column as the class or number of each entity.

    Raises:
        DegenerateTask: The source lacks the column, or no row is left.
    """
    arguments = ColumnArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.column])
    value = pl.col(arguments.column)
    if arguments.remove:
        value = value.str.replace_all(arguments.remove, "")
    if arguments.extract:
        value = value.str.extract(arguments.extract, 1)
    value = value.str.strip_chars()
    value = pl.when(~value.is_in(["", *arguments.drop])).then(value)
    if arguments.rename:
        if arguments.others is None:
            value = value.replace(arguments.rename)
        else:
            # A missing value stays missing.
            others = value.is_not_null() & ~value.is_in(list(arguments.rename))
            value = (
                pl.when(others)
                .then(pl.lit(arguments.others))
                .otherwise(value.replace(arguments.rename))
            )
    rows = rows.select("entity_id", "resolution_status", value.alias("value"))
    rows = rows.filter(
        pl.col("value").is_not_null()
        & (pl.col("value") != "")
        & ~pl.col("value").is_in(arguments.drop)
    )
    counts["without a value"] = counts["rows"] - rows.height
    rows = drop_unresolved(rows, counts)
    if task.kind == "regression":
        return number_samples(task, rows, arguments.transform, counts)
    return class_samples(task, rows, arguments.conflicts, counts)


class SplitArguments(EntityArguments):
    """Arguments of `split`.

    Args:
        column: Column with several labels in one value.
        by: Separators. Several may be given, because releases of a source use different ones.
        remove: Regular expression; its matches are removed from each value.
        rename: Value in the source to label. Other values are no labels then, but their entities
            stay in the task; without `rename` every value is a label.
    """

    column: str
    by: list[str] = Field(min_length=1)
    remove: Pattern | None = None
    rename: dict[str, str] = Field(default_factory=dict)


def split(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read a delimited column as labels; the labels of an entity's rows are merged.

    Entities without a value are left out: the source may simply not have annotated them.
    """
    arguments = SplitArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.column])
    first, *others = arguments.by
    value = pl.col(arguments.column)
    for separator in others:
        value = value.str.replace_all(separator, first, literal=True)
    if arguments.remove:
        value = value.str.replace_all(arguments.remove, "")
    words = value.str.split(first).list.eval(pl.element().str.strip_chars())
    labels = words.list.eval(pl.element().filter(pl.element() != ""))
    rows = rows.select("entity_id", "resolution_status", labels.alias("label"))
    has_label = (pl.col("label").list.len() > 0).fill_null(False)
    rows = drop_unresolved(keep_rows(rows, has_label, "without a value", counts), counts)
    rows = rows.explode("label")
    if not arguments.rename:
        return label_set_samples(task, rows, counts)
    found = rows.filter(pl.col("label").is_in(list(arguments.rename)))
    found = found.with_columns(pl.col("label").replace(arguments.rename)).unique()
    names = sorted(set(arguments.rename.values()))
    return flag_samples(task, rows["entity_id"], found, names, counts)


class KeywordsArguments(EntityArguments):
    """Arguments of `keywords`.

    Args:
        label: Column with one label per row.
    """

    label: str


def keywords(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read rows of (entity, label) as labels; entities without a label are left out."""
    arguments = KeywordsArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.label])
    rows = rows.rename({arguments.label: "label"})
    rows = keep_rows(rows, _is_filled("label"), "without a value", counts)
    return label_set_samples(task, drop_unresolved(rows, counts), counts)


class NodeArguments(EntityArguments, HierarchyArguments):
    """Arguments of recipes whose labels are nodes of a hierarchy.

    Args:
        node: Column of the annotations with a node of the hierarchy.
        node_id: Column of the names with the node.
        node_name: Column of the names with the node's title.
        root: Node whose branch contains the labels; by default every top node is a root.
        depth: The labels are the nodes whose shortest path from a root has this many steps of
            `relations[0]` (0: the roots themselves).
        only: Regular expression that nodes must match, such as a species prefix.
    """

    node: str
    node_id: str
    node_name: str
    root: str | None = None
    depth: int = Field(default=0, ge=0)
    only: Pattern | None = None


class MembershipArguments(NodeArguments):
    """Arguments of `membership`; the source files are annotations, edges and names, in order.

    Args:
        sizes: In place of `depth`: the labels are the nodes below the roots with at least and at
            most this many entities. A node above another such node is no label.
    """

    sizes: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _depth_or_sizes(self) -> "MembershipArguments":
        if self.sizes is not None and self.depth:
            raise ValueError("`depth` and `sizes` both choose the labels; give one of them")
        return self


def membership(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Label each entity with the ancestors of its nodes of a depth or a size (true-path rule).

    True-path rule of the Gene Ontology: an annotation to a term is an annotation to all its
    ancestors (https://geneontology.org/docs/go-annotations/). The rule also holds for Reactome.

    Raises:
        DegenerateTask: No row is left, or no node has a size in the declared range.
    """
    arguments = MembershipArguments.model_validate(task.arguments)
    annotation_file, edge_file, name_file = task.source
    rows, counts = pick_entities(
        tables, task, arguments, resolvers, [arguments.node], [annotation_file]
    )
    edges = pick_edges(tables, edge_file, arguments)
    titles = pick_titles(tables, name_file, arguments)
    levels = arguments.hierarchy(edges, arguments.relations[:1])
    inheritance = arguments.hierarchy(edges, arguments.relations)
    tops = [arguments.root] if arguments.root else levels.roots
    rows = rows.rename({arguments.node: "node"})
    if arguments.sizes is None:
        subtrees = {top: inheritance.subtree(top) for top in levels.at_depth(tops, arguments.depth)}
    else:
        subtrees = _sized_subtrees(task, rows, inheritance, tops, arguments.sizes)
    pairs = pl.DataFrame(
        [
            (node, titles.get(label, label))
            for label, subtree in subtrees.items()
            for node in sorted(subtree)
        ],
        schema={"node": pl.String, "label": pl.String},
        orient="row",
    )
    is_under = pl.col("node").is_in(pairs["node"].implode()).fill_null(False)
    rows = drop_unresolved(keep_rows(rows, is_under, "under no label", counts), counts)
    return label_set_samples(task, rows.join(pairs, on="node"), counts)


def _sized_subtrees(
    task: Task,
    rows: pl.DataFrame,
    inheritance: Hierarchy,
    tops: Iterable[str],
    sizes: tuple[int, int],
) -> dict[str, set[str]]:
    """Return the subtree of each lowest node below the tops whose number of entities fits."""
    annotated: dict[str, list[str]] = dict(
        rows.group_by("node").agg(pl.col("entity_id").drop_nulls().unique()).iter_rows()
    )
    below = {node for top in tops for node in inheritance.subtree(top)} - set(tops)
    fitting = {}
    for node in sorted(below):
        subtree = inheritance.subtree(node)
        members = {one for each in subtree for one in annotated.get(each, ())}
        if sizes[0] <= len(members) <= sizes[1]:
            fitting[node] = subtree
    lowest = {
        node: subtree
        for node, subtree in fitting.items()
        if not (subtree - {node}) & fitting.keys()
    }
    if not lowest:
        raise DegenerateTask(
            f"{task.id}: no node below {', '.join(tops)} has {sizes[0]} to {sizes[1]} entities"
        )
    return lowest


def pick_edges(tables: Tables, edge_file: str, arguments: NodeArguments) -> pl.DataFrame:
    """Select the edges of a hierarchy whose nodes match `only`."""
    relation = [arguments.relation] if arguments.relation else []
    edges = pick_columns(tables, edge_file, [arguments.child, arguments.parent, *relation])
    if arguments.only is None:
        return edges
    return edges.filter(
        pl.col(arguments.child).str.contains(arguments.only)
        & pl.col(arguments.parent).str.contains(arguments.only)
    )


def pick_titles(tables: Tables, name_file: str, arguments: NodeArguments) -> dict[str, str]:
    """Return the title of each node of a file of names."""
    names = pick_columns(tables, name_file, [arguments.node_id, arguments.node_name])
    return dict(names.select(arguments.node_id, arguments.node_name).iter_rows())


class CountArguments(EntityArguments):
    """Arguments of `count`.

    Args:
        column: Column whose distinct values are counted.
        transform: `log1p` for heavy-tailed counts.
    """

    column: str
    transform: Literal["none", "log1p"] = "none"


def count(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Count the distinct values of a column for each entity; entities without one are left out."""
    arguments = CountArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.column])
    rows = rows.rename({arguments.column: "item"})
    rows = drop_unresolved(keep_rows(rows, _is_filled("item"), "without a value", counts), counts)
    rows = rows.group_by("entity_id").agg(pl.col("item").n_unique().cast(pl.String).alias("value"))
    return number_samples(task, rows, arguments.transform, counts)


class FlagsArguments(EntityArguments):
    """Arguments of `flags`.

    Args:
        columns: Columns, one for each label.
        present: Values of a cell whose entity has the label.
        absent: Values of a cell whose entity lacks it; an empty cell also means that.
    """

    columns: list[str] = Field(min_length=1)
    present: tuple[str, ...] = ("1", "1.0", "True", "true")
    absent: tuple[str, ...] = ("0", "0.0", "False", "false")


def flags(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Read one column for each label; every row is a sample, including rows without a label.

    Raises:
        DegenerateTask: A cell is neither in `present` nor in `absent`, or no row is left.
    """
    arguments = FlagsArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, arguments.columns)
    rows = drop_unresolved(rows, counts)
    cells = rows.unpivot(on=arguments.columns, index="entity_id", variable_name="label")
    known = [*arguments.present, *arguments.absent]
    invalid = cells.filter(~pl.col("value").is_in(known))
    if invalid.height:
        raise DegenerateTask(
            f"{task.id}: column {invalid['label'][0]!r} contains {invalid['value'][0]!r}, which is "
            f"none of {', '.join(known)}; correct the cell, or extend `present` or `absent`"
        )
    found = cells.filter(pl.col("value").is_in(arguments.present)).select("entity_id", "label")
    return flag_samples(task, rows["entity_id"], found.unique(), arguments.columns, counts)


def _is_filled(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & (pl.col(column) != "")

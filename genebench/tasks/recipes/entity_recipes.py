"""Recipes whose samples are single entities."""

from typing import Literal

import polars as pl
from pydantic import Field

from genebench.errors import DegenerateTask
from genebench.tasks.declaration import Labelled, Task
from genebench.tasks.recipes.rows import (
    EntityArguments,
    GroupPattern,
    HierarchyArguments,
    Pattern,
    Resolvers,
    Tables,
    drop_unnamed,
    keep,
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
        column: The column with the class or the number.
        extract: A regular expression; its first group is the class, no match is no value.
        remove: A regular expression; what it matches is taken out of the value.
        rename: Value in the source to class name.
        others: The class of values that `rename` does not name; without it they stay as they are.
        drop: Values that count as missing.
        conflicts: What to do with an entity whose rows disagree: leave it out, or keep the first.
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


def column(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Read one column as class or number, one row an entity.

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
            # No value at all is none of the others.
            others = value.is_not_null() & ~value.is_in(list(arguments.rename))
            value = (
                pl.when(others)
                .then(pl.lit(arguments.others))
                .otherwise(value.replace(arguments.rename))
            )
    rows = rows.select("entity_id", "standing", value.alias("value"))
    rows = rows.filter(
        pl.col("value").is_not_null()
        & (pl.col("value") != "")
        & ~pl.col("value").is_in(arguments.drop)
    )
    counts["without a value"] = counts["rows"] - rows.height
    rows = drop_unnamed(rows, counts)
    if task.kind == "regression":
        return number_samples(task, rows, arguments.transform, counts)
    return class_samples(task, rows, arguments.conflicts, counts)


class SplitArguments(EntityArguments):
    """Arguments of `split`.

    Args:
        column: The column with several labels in one value.
        by: The separators, tried one after the other: older releases used other ones.
        remove: A regular expression; what it matches is taken out of each label.
    """

    column: str
    by: list[str] = Field(min_length=1)
    remove: Pattern | None = None


def split(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Read a delimited column as labels; an entity's rows give the union of their labels.

    Entities without any label are not in the task: the source does not say that they have none.
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
    rows = rows.select("entity_id", "standing", labels.alias("label"))
    has_label = (pl.col("label").list.len() > 0).fill_null(False)
    rows = drop_unnamed(keep(rows, has_label, "without a value", counts), counts)
    return label_set_samples(task, rows.explode("label"), counts)


class KeywordsArguments(EntityArguments):
    """Arguments of `keywords`.

    Args:
        label: The column with one label a row.
    """

    label: str


def keywords(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Read rows of (entity, label) as labels; entities without any are not in the task."""
    arguments = KeywordsArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.label])
    rows = rows.rename({arguments.label: "label"})
    rows = keep(rows, _is_filled("label"), "without a value", counts)
    return label_set_samples(task, drop_unnamed(rows, counts), counts)


class MembershipArguments(EntityArguments, HierarchyArguments):
    """Arguments of `membership`; the task's sources are annotations, edges and names, in order.

    Args:
        node: The column of the annotations that names a node of the hierarchy.
        node_id: The column of the names with the node.
        node_name: The column of the names with its title.
        root: The node whose branch gives the labels; without it every top node is a root.
        depth: Labels are the nodes whose shortest way from a root has this many steps of
            `relations[0]` (0: the roots themselves).
        only: A regular expression that nodes must match, such as a species prefix.
    """

    node: str
    node_id: str
    node_name: str
    root: str | None = None
    depth: int = Field(default=0, ge=0)
    only: Pattern | None = None


def membership(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Give each entity the labels of all ancestors of its nodes, by the true-path rule.

    The rule is the Gene Ontology's: what is annotated to a term is annotated to all its ancestors
    (https://geneontology.org/docs/go-annotations/). Reactome's pathways nest in the same way.
    """
    arguments = MembershipArguments.model_validate(task.arguments)
    annotation_file, edge_file, name_file = task.source
    rows, counts = pick_entities(
        tables, task, arguments, resolvers, [arguments.node], [annotation_file]
    )
    relation = [arguments.relation] if arguments.relation else []
    edges = pick_columns(tables, edge_file, [arguments.child, arguments.parent, *relation])
    if arguments.only:
        edges = edges.filter(
            pl.col(arguments.child).str.contains(arguments.only)
            & pl.col(arguments.parent).str.contains(arguments.only)
        )
    names = pick_columns(tables, name_file, [arguments.node_id, arguments.node_name])
    titles = dict(names.select(arguments.node_id, arguments.node_name).iter_rows())
    levels = arguments.hierarchy(edges, arguments.relations[:1])
    inheritance = arguments.hierarchy(edges, arguments.relations)
    tops = [arguments.root] if arguments.root else levels.roots
    pairs = pl.DataFrame(
        [
            (node, titles.get(label, label))
            for label in levels.at_depth(tops, arguments.depth)
            for node in sorted(inheritance.under(label))
        ],
        schema={"node": pl.String, "label": pl.String},
        orient="row",
    )
    rows = rows.rename({arguments.node: "node"})
    is_under = pl.col("node").is_in(pairs["node"].implode()).fill_null(False)
    rows = drop_unnamed(keep(rows, is_under, "under no label", counts), counts)
    return label_set_samples(task, rows.join(pairs, on="node"), counts)


class CountArguments(EntityArguments):
    """Arguments of `count`.

    Args:
        column: The column whose distinct values are counted.
        transform: `log1p` for heavy-tailed counts.
    """

    column: str
    transform: Literal["none", "log1p"] = "none"


def count(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Count an entity's distinct values of a column; entities without a row are not in the task."""
    arguments = CountArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, [arguments.column])
    rows = rows.rename({arguments.column: "item"})
    rows = drop_unnamed(keep(rows, _is_filled("item"), "without a value", counts), counts)
    rows = rows.group_by("entity_id").agg(pl.col("item").n_unique().cast(pl.String).alias("value"))
    return number_samples(task, rows, arguments.transform, counts)


class FlagsArguments(EntityArguments):
    """Arguments of `flags`.

    Args:
        columns: The columns, one a label; a cell says whether the row's entity has it.
        present: What a cell holds where it has.
        absent: What it holds where it has not; an empty cell says so too.
    """

    columns: list[str] = Field(min_length=1)
    present: tuple[str, ...] = ("1", "1.0", "True", "true")
    absent: tuple[str, ...] = ("0", "0.0", "False", "false")


def flags(tables: Tables, task: Task, resolvers: Resolvers) -> Labelled:
    """Read a column for each label; every row is a sample, also one without any label.

    Raises:
        DegenerateTask: A cell says neither yes nor no, or no row is left.
    """
    arguments = FlagsArguments.model_validate(task.arguments)
    rows, counts = pick_entities(tables, task, arguments, resolvers, arguments.columns)
    rows = drop_unnamed(rows, counts)
    cells = rows.unpivot(on=arguments.columns, index="entity_id", variable_name="label")
    known = [*arguments.present, *arguments.absent]
    strange = cells.filter(~pl.col("value").is_in(known))
    if strange.height:
        raise DegenerateTask(
            f"{task.id}: {strange['label'][0]} holds {strange['value'][0]!r}, which is neither of "
            f"{', '.join(known)}"
        )
    found = cells.filter(pl.col("value").is_in(arguments.present)).select("entity_id", "label")
    return flag_samples(task, rows["entity_id"], found.unique(), arguments.columns, counts)


def _is_filled(column: str) -> pl.Expr:
    return pl.col(column).is_not_null() & (pl.col(column) != "")

"""Catalogue of recipes, which build the samples and labels of a task from raw rows.

A recipe is a pure function of the raw tables of a task's sources, the task's declaration and the
resolvers of its entity types. By default an identifier that does not resolve to exactly one
entity is left out. `LabelledSamples.counts` records how many rows were used or dropped, by reason.
"""

from collections.abc import Callable
from dataclasses import dataclass

from genebench.registry.yaml_reader import validate
from genebench.tasks.declaration import TEMPORAL, LabelledSamples, Task
from genebench.tasks.recipes.entity_recipes import (
    ColumnArguments,
    CountArguments,
    FlagsArguments,
    KeywordsArguments,
    MembershipArguments,
    SplitArguments,
    column,
    count,
    flags,
    keywords,
    membership,
    split,
)
from genebench.tasks.recipes.gained_recipe import GainedArguments, gained
from genebench.tasks.recipes.pair_recipes import (
    AssociationArguments,
    CoMembershipArguments,
    PairsArguments,
    association,
    co_membership,
    pairs,
)
from genebench.tasks.recipes.rows import RecipeArguments, Resolvers, Tables


@dataclass(frozen=True)
class Recipe:
    """A recipe, its arguments, and the kinds of task that it builds.

    `files` names what each source file contains, in order; without it, all files contain rows
    with the same columns.
    """

    build: Callable[[Tables, Task, Resolvers], LabelledSamples]
    arguments: type[RecipeArguments]
    kinds: frozenset[str]
    files: tuple[str, ...] = ()


RECIPES: dict[str, Recipe] = {
    "column": Recipe(column, ColumnArguments, frozenset({"binary", "multiclass", "regression"})),
    "split": Recipe(split, SplitArguments, frozenset({"multilabel"})),
    "keywords": Recipe(keywords, KeywordsArguments, frozenset({"multilabel"})),
    "membership": Recipe(
        membership,
        MembershipArguments,
        frozenset({"multilabel"}),
        files=("annotations", "edges", "names"),
    ),
    "gained": Recipe(
        gained,
        GainedArguments,
        frozenset({"multilabel"}),
        files=("annotations", "edges", "names", "past annotations", "past edges", "past names"),
    ),
    "flags": Recipe(flags, FlagsArguments, frozenset({"multilabel"})),
    "count": Recipe(count, CountArguments, frozenset({"regression"})),
    "pairs": Recipe(pairs, PairsArguments, frozenset({"binary"})),
    "association": Recipe(association, AssociationArguments, frozenset({"regression"})),
    "co_membership": Recipe(
        co_membership,
        CoMembershipArguments,
        frozenset({"binary"}),
        files=("annotations", "edges"),
    ),
}


def build(tables: Tables, task: Task, resolvers: Resolvers) -> LabelledSamples:
    """Build the samples and labels of a task from the raw tables of its sources.

    Args:
        tables: File id (`hpa.proteinatlas`) to its raw rows, all columns strings.
        task: The declaration.
        resolvers: Entity type to its resolver.

    Raises:
        DegenerateTask: The sources lack a column or classes that the task needs, or no row is
            left.
        UnresolvedEntities: More than the declared share of identifiers does not resolve.
    """
    return RECIPES[task.recipe].build(tables, task, resolvers)


def check_arguments(task: Task) -> list[str]:
    """Return the mistakes in a task's recipe and arguments."""
    recipe = RECIPES[task.recipe]
    mistakes: list[str] = []
    if task.kind not in recipe.kinds:
        kinds = ", ".join(sorted(recipe.kinds))
        mistakes.append(f"recipe {task.recipe!r} builds {kinds} tasks, not {task.kind}")
    if (task.recipe == "gained") != (task.family == TEMPORAL):
        mistakes.append(
            f"tasks of the family {TEMPORAL!r}, and no others, are built by the recipe 'gained'; "
            "no mean over families has them"
        )
    if recipe.files and len(task.source) != len(recipe.files):
        mistakes.append(
            f"recipe {task.recipe!r} reads {len(recipe.files)} source files "
            f"({', '.join(recipe.files)}), the task has {len(task.source)}"
        )
    mistakes.extend(validate(recipe.arguments, task.arguments, "with")[1])
    return mistakes

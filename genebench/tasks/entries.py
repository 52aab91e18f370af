"""Reads task entries from YAML files: applies defaults, expands `foreach`, reports all mistakes."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genebench.registry.yaml_reader import read_yaml, suggest, validate
from genebench.tasks.declaration import Task, slugify
from genebench.tasks.recipes.recipe import RECIPES, check_arguments

TASK_KEYS = {"title", "kind", "entity", "source", "recipe", "with", "expand"} | {
    "positive", "description", "deviation", "paper", "superseded_by", "foreach",
}  # fmt: skip


def load_tasks(root: Path, profile: str, mistakes: list[str]) -> dict[str, Task]:
    """Read the tasks of a profile: `tasks/declared/<profile>/<family>.yaml` below the root.

    Args:
        root: The folder of all declarations.
        profile: Id of the profile.
        mistakes: List to which a message is appended for each mistake.
    """
    tasks: dict[str, Task] = {}
    for path in sorted((root / "tasks" / "declared" / profile).glob("*.yaml")):
        where = f"tasks/declared/{profile}/{path.name}"
        fixed = {"profile": profile, "family": path.stem}
        data, problems = read_yaml(path)
        mistakes += [problem.replace(str(path), where) for problem in problems]
        for task in read_entries(data, where, fixed, mistakes):
            if task.id in tasks:
                mistakes.append(f"{where}: {task.id}: declared twice")
            tasks[task.id] = task
    return tasks


def read_entries(
    data: Mapping[str, Any], where: str, fixed: Mapping[str, Any], mistakes: list[str]
) -> Iterator[Task]:
    """Read the tasks of one file.

    Args:
        data: Entries by task id, and optionally `defaults` for all of them.
        where: The file's name in messages.
        fixed: Keys that every task gets regardless of its entry, such as its profile.
        mistakes: List to which a message is appended for each mistake.
    """
    entries = dict(data)
    defaults = entries.pop("defaults", {})
    if not isinstance(defaults, dict):
        mistakes.append(f"{where}: defaults: expected a mapping")
        defaults = {}
    for task_id, entry in _expand(entries, where, mistakes):
        merged = _merge(defaults, entry)
        for key in sorted(set(merged) - TASK_KEYS, key=str):
            mistakes.append(f"{where}: {task_id}: unknown key {key!r}{suggest(key, TASK_KEYS)}")
            del merged[key]
        task, problems = validate(Task, {**merged, **fixed, "id": task_id}, f"{where}: {task_id}")
        mistakes += problems
        if task is None:
            continue
        if task.recipe not in RECIPES:
            hint = suggest(task.recipe, RECIPES)
            mistakes.append(f"{where}: {task_id}: unknown recipe {task.recipe!r}{hint}")
        else:
            mistakes += [f"{where}: {task_id}: {m}" for m in check_arguments(task)]
        yield task


def _merge(defaults: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Merge an entry into its file's defaults.

    Defaults with a source apply only to entries without a source.
    """
    if "source" in defaults and "source" in entry:
        return dict(entry)
    merged = {**defaults, **entry}
    if isinstance(defaults.get("with"), dict) and isinstance(entry.get("with"), dict):
        merged["with"] = {**defaults["with"], **entry["with"]}
    return merged


def _expand(
    entries: Mapping[str, Any], where: str, mistakes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Expand `foreach` into entries with every `{name}` substituted.

    A mapping of lists yields an entry for each combination, a list of mappings one for each item.
    """
    for task_id, entry in entries.items():
        if not isinstance(entry, dict):
            mistakes.append(f"{where}: {task_id}: expected a mapping")
            continue
        body = dict(entry)
        loops = body.pop("foreach", None)
        if loops is None:
            yield task_id, body
            continue
        problem = _loop_problem(task_id, loops)
        if problem:
            mistakes.append(f"{where}: {task_id}: {problem}")
            continue
        for values in _combinations(loops):
            slugs = {name: slugify(str(value)) for name, value in values.items()}
            yield _substitute(task_id, slugs), _substitute(body, values)


def _combinations(loops: Any) -> Iterator[dict[str, Any]]:
    if isinstance(loops, list):
        yield from loops
        return
    for values in itertools.product(*loops.values()):
        yield dict(zip(loops, values, strict=True))


def _loop_problem(task_id: str, loops: Any) -> str | None:
    """Describe the mistake in a `foreach`; None if it is valid."""
    if isinstance(loops, dict) and loops:
        if not all(isinstance(values, list) and values for values in loops.values()):
            return "foreach: each name needs a list of values"
        unused = [name for name in loops if f"{{{name}}}" not in task_id]
        return f"the id does not use {{{unused[0]}}} of foreach" if unused else None
    if isinstance(loops, list) and loops and all(isinstance(item, dict) for item in loops):
        if len({frozenset(item) for item in loops}) > 1:
            return "foreach: every entry of the list needs the same names"
        if not any(f"{{{name}}}" in task_id for name in loops[0]):
            return "the id uses no name of foreach"
        return None
    return "foreach: expected lists by name, or a list of mappings"


def _substitute(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", str(text))
        return value
    if isinstance(value, dict):
        return {key: _substitute(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, names) for item in value]
    return value

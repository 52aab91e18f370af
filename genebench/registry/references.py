"""Finds references between declarations that lead nowhere, such as a misspelt source file."""

from collections.abc import Iterator

from genebench.registry.profiles import PROFILES
from genebench.registry.registry import Registry
from genebench.registry.yaml_reader import suggest
from genebench.tasks.declaration import Task


def broken_references(registry: Registry) -> Iterator[str]:
    """Yield a message for each name in a declaration that refers to nothing."""
    files = {f"{s.id}.{name}" for s in registry.sources.values() for name in s.files}
    yield from _broken_in_profile(registry, files)
    for task in registry.tasks.values():
        yield from _broken_in_task(registry, task, files)
    for encoder in registry.encoders.values():
        where = f"encoders/declared/{encoder.id}.yaml"
        for base in encoder.bases():
            if base not in registry.encoders:
                yield f"{where}: base: no encoder {base!r}{suggest(base, registry.encoders)}"
        if encoder.probe and encoder.probe not in registry.probes:
            yield f"{where}: no probe {encoder.probe!r}{suggest(encoder.probe, registry.probes)}"


def _broken_in_profile(registry: Registry, files: set[str]) -> Iterator[str]:
    profile = registry.profile
    where = f"{PROFILES}: {profile.id}"
    for encoder_id in profile.encoders:
        if encoder_id not in registry.encoders:
            hint = suggest(encoder_id, registry.encoders)
            yield f"{where}: encoders: no encoder {encoder_id!r}{hint}"
    for task_id in profile.sensitivity:
        if task_id not in registry.tasks:
            hint = suggest(task_id, registry.tasks)
            yield f"{where}: sensitivity: no task {task_id!r}{hint}"
    named = [*profile.catalogues.values(), *profile.optional]
    named += [profile.withdrawn] if profile.withdrawn else []
    named += [declared.source for declared in profile.inputs]
    for name in named:
        if name not in files:
            yield f"{where}: no source file {name!r}{suggest(name, files)}"
    for name in profile.versions:
        if name not in files and name not in registry.sources:
            hint = suggest(name, {*files, *registry.sources})
            yield f"{where}: versions: no source or file {name!r}{hint}"


def _broken_in_task(registry: Registry, task: Task, files: set[str]) -> Iterator[str]:
    where = f"tasks/declared/{task.profile}/{task.family}.yaml: {task.id}"
    if task.id in registry.user_tasks:
        where = str(registry.user_tasks[task.id].path)
        files = {*files, *task.source}
    for entity_type in task.entity:
        if entity_type not in registry.profile.catalogues:
            hint = suggest(entity_type, registry.profile.catalogues)
            yield f"{where}: no catalogue for entity type {entity_type!r}{hint}"
    if task.superseded_by and task.superseded_by not in registry.tasks:
        hint = suggest(task.superseded_by, registry.tasks)
        yield f"{where}: superseded_by: no task {task.superseded_by!r}{hint}"
    for name in task.source:
        if name not in files:
            yield f"{where}: no source file {name!r}{suggest(name, files)}"

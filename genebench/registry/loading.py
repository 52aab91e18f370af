"""The registry: every declaration, read whole or not at all, with all mistakes reported at once."""

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genebench.encoders.declaration import Encoder
from genebench.encoders.files import read_encoders
from genebench.errors import RegistryError
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.registry.profiles import Profile
from genebench.registry.yaml_reader import Model, read_yaml, suggest, validate
from genebench.sources.declaration import Source
from genebench.tasks.declaration import Task
from genebench.tasks.entries import load_tasks
from genebench.tasks.user_tasks import UserTask, read_user_tasks

DECLARATIONS = Path(__file__).parents[1]
PROFILES = Path("registry", "profiles.yaml")


def declarations_folder(kind: str, root: Path = DECLARATIONS) -> Path:
    """The folder with the declarations of one kind.

    Args:
        kind: `sources`, `tasks`, `encoders`, `probes` or `protocols`.
        root: The folder that holds the folders of all kinds.
    """
    return root / kind / "declared"


@dataclass(frozen=True)
class Registry:
    """All declarations of one profile, by id.

    `own_encoders` and `own_tasks` are those of the user's files; the tasks are among `tasks` too.
    """

    profile: Profile
    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    encoders: Mapping[str, Encoder]
    probes: Mapping[str, Probe]
    protocols: Mapping[str, Protocol]
    own_encoders: frozenset[str] = frozenset()
    own_tasks: Mapping[str, UserTask] = field(default_factory=dict)

    @property
    def source_files(self) -> list[str]:
        """The source files that this profile reads, such as `hpa.proteinatlas`, in order."""
        wanted = [*self.profile.catalogues.values(), *(i.source for i in self.profile.inputs)]
        wanted += [self.profile.withdrawn] if self.profile.withdrawn else []
        for task in self.tasks.values():
            wanted += [] if task.id in self.own_tasks else task.source
        return sorted(set(wanted))

    @property
    def wanted_versions(self) -> dict[str, str]:
        """Source file to the version wanted, for those that say one by file or by source."""
        chosen = self.profile.versions
        found = {
            name: chosen.get(name, chosen.get(name.split(".")[0])) for name in self.source_files
        }
        return {name: version for name, version in found.items() if version}

    def own_probes(self) -> dict[str, Probe]:
        """Encoder to the probe that always reads it, for the encoders that name one."""
        return {e.id: self.probes[e.probe] for e in self.encoders.values() if e.probe}

    def select_tasks(
        self,
        patterns: Iterable[str] = (),
        families: Iterable[str] = (),
        curated: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Name the tasks that match any of the glob patterns and any of the families.

        Args:
            patterns: Globs; all tasks where there are none.
            families: Families; all where there are none.
            curated: Task to family of those that a lake has, which may not be declared here.

        Raises:
            RegistryError: A pattern or a family matches nothing; says what is near.
        """
        families = list(families)
        known = {task.id: task.family for task in self.tasks.values()} | dict(curated or {})
        there = sorted(set(known.values()))
        mistakes = [
            f"no family {name!r} (there are {', '.join(there)}){suggest(name, there)}"
            for name in families
            if name not in there
        ]
        if mistakes:
            raise RegistryError(mistakes)
        chosen = _select(patterns, known, "task")
        return [task for task in chosen if not families or known[task] in families]

    def choose_protocol(self, protocol_id: str) -> Protocol:
        """A protocol by its id.

        Raises:
            RegistryError: There is none; suggests what is near.
        """
        return self.protocols[_one(protocol_id, self.protocols, "protocol")]

    def choose_probe(self, probe_id: str) -> Probe:
        """A probe by its id.

        Raises:
            RegistryError: There is none; suggests what is near.
        """
        return self.probes[_one(probe_id, self.probes, "probe")]

    def select_encoders(self, patterns: Iterable[str] = ()) -> list[str]:
        """Name the encoders that match; without patterns, those the profile runs by default."""
        patterns = list(patterns)
        if not patterns:
            return list(self.profile.encoders)
        return _select(patterns, self.encoders, "encoder")

    def select_files(self, patterns: Iterable[str] = ()) -> list[str]:
        """Name the source files of the given sources or files; without patterns, all."""
        known = self.source_files
        patterns = list(patterns)
        if not patterns:
            return known
        chosen: list[str] = []
        mistakes = []
        for pattern in patterns:
            matched = [
                f for f in known if fnmatch.fnmatch(f, pattern) or f.split(".")[0] == pattern
            ]
            if not matched:
                options = {*known, *(f.split(".")[0] for f in known)}
                mistakes.append(
                    f"no source {pattern!r} in profile {self.profile.id}{suggest(pattern, options)}"
                )
            chosen += matched
        if mistakes:
            raise RegistryError(mistakes)
        return list(dict.fromkeys(chosen))


def _select(patterns: Iterable[str], known: Mapping[str, Any], noun: str) -> list[str]:
    patterns = list(patterns)
    if not patterns:
        return list(known)
    mistakes = [
        f"no {noun} matches {pattern!r}{suggest(pattern, known)}; `genebench ls {noun}s` lists them"
        for pattern in patterns
        if not fnmatch.filter(known, pattern)
    ]
    if mistakes:
        raise RegistryError(mistakes)
    return [name for name in known if any(fnmatch.fnmatch(name, p) for p in patterns)]


def _one(word: str, known: Mapping[str, object], noun: str) -> str:
    if word not in known:
        raise RegistryError(
            [f"no {noun} {word!r} (there are {', '.join(known)}){suggest(word, known)}"]
        )
    return word


def load_registry(
    profile: str = "embedded",
    root: Path = DECLARATIONS,
    encoder_files: Iterable[str] = (),
    task_paths: Iterable[Path] = (),
    versions: Mapping[str, str] | None = None,
) -> Registry:
    """Read all declarations.

    Args:
        profile: Id of the profile.
        root: Folder with `registry/profiles.yaml` and the folders `sources/declared/`,
            `tasks/declared/`, `encoders/declared/`, `probes/declared/`, `protocols/declared/`.
        encoder_files: Encoder declarations of the user's own.
        task_paths: Tasks of the user's own; see `genebench.tasks.user_tasks`.
        versions: Source, or source file, to the version wanted; goes before the profile's.

    Raises:
        RegistryError: Some declaration is wrong; lists every mistake of all files.
    """
    mistakes: list[str] = []
    profiles = _load_profiles(root, mistakes)
    if profile not in profiles:
        known = ", ".join(profiles) or "none"
        mistakes.append(f"no profile {profile!r} (known: {known}){suggest(profile, profiles)}")
        raise RegistryError(mistakes)
    sources = _load_files(root, "sources", Source, mistakes)
    encoders = _load_files(root, "encoders", Encoder, mistakes)
    own: set[str] = set()
    for name in encoder_files:
        try:
            given = read_encoders(Path(name))
        except RegistryError as error:
            mistakes += error.mistakes
            continue
        encoders |= {encoder.id: encoder for encoder in given}
        own.update(encoder.id for encoder in given)
    probes = _load_files(root, "probes", Probe, mistakes)
    protocols = _load_files(root, "protocols", Protocol, mistakes)
    tasks = load_tasks(root, profile, mistakes)
    own_tasks = {}
    for path in task_paths:
        for one in read_user_tasks(path, profile, mistakes):
            if one.task.id in tasks:
                mistakes.append(f"{path}: {one.task.id}: there is a task of this name already")
            own_tasks[one.task.id] = one
            tasks[one.task.id] = one.task
    chosen = profiles[profile]
    chosen = chosen.model_copy(update={"versions": {**chosen.versions, **(versions or {})}})
    registry = Registry(
        chosen, sources, tasks, encoders, probes, protocols, frozenset(own), own_tasks
    )
    mistakes += _broken_references(registry)
    if mistakes:
        raise RegistryError(mistakes)
    return registry


def profile_ids(root: Path = DECLARATIONS) -> list[str]:
    """The ids of all profiles, in their order."""
    entries, problems = read_yaml(root / PROFILES)
    if problems:
        raise RegistryError([_shorten(problem, root) for problem in problems])
    return list(entries)


def _load_profiles(root: Path, mistakes: list[str]) -> dict[str, Profile]:
    path = root / PROFILES
    entries, problems = read_yaml(path)
    mistakes += [_shorten(problem, root) for problem in problems]
    profiles = {}
    for profile_id, entry in entries.items():
        data = {**entry, "id": profile_id} if isinstance(entry, dict) else {}
        profile, problems = validate(Profile, data, f"{PROFILES}: {profile_id}")
        mistakes += problems
        if profile:
            profiles[profile_id] = profile
    return profiles


def _load_files(
    root: Path, folder: str, model: type[Model], mistakes: list[str]
) -> dict[str, Model]:
    """Read a folder with one declaration a file, named by its id."""
    loaded: dict[str, Model] = {}
    for path in sorted(declarations_folder(folder, root).glob("*.yaml")):
        if path.name.endswith(".lock.yaml"):
            continue
        data, problems = read_yaml(path)
        mistakes += [_shorten(problem, root) for problem in problems]
        if problems:
            continue
        where = f"{folder}/declared/{path.name}"
        if data.get("id") != path.stem:
            mistakes.append(f"{where}: id {data.get('id')!r} is not the file's name {path.stem!r}")
        item, problems = validate(model, data, where)
        mistakes += problems
        if item:
            loaded[path.stem] = item
    return loaded


def _broken_references(registry: Registry) -> Iterator[str]:
    """Every name of a declaration that nothing has."""
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
    if task.id in registry.own_tasks:
        where = str(registry.own_tasks[task.id].path)
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


def _shorten(mistake: str, root: Path) -> str:
    return mistake.replace(f"{root}/", "")

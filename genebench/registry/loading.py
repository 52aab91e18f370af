"""Loads all declarations of a profile into a `Registry`, or reports all mistakes at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_reader import read_encoders
from genebench.errors import RegistryError
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.registry.profiles import PROFILES, Profile
from genebench.registry.references import broken_references
from genebench.registry.registry import Registry
from genebench.registry.yaml_reader import Model, read_yaml, suggest, validate
from genebench.sources.declaration import Source
from genebench.tasks.declaration import Task
from genebench.tasks.entries import load_tasks
from genebench.tasks.user_tasks import read_user_tasks

DECLARATIONS = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Declarations:
    """The declarations below one root, each by its id, and the mistakes found in them."""

    profile: Profile
    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    encoders: Mapping[str, Encoder]
    probes: Mapping[str, Probe]
    protocols: Mapping[str, Protocol]
    mistakes: tuple[str, ...]


def declarations_folder(kind: str, root: Path = DECLARATIONS) -> Path:
    """Return the folder with the declarations of one kind.

    Args:
        kind: `sources`, `tasks`, `encoders`, `probes` or `protocols`.
        root: The folder that contains the folders of all kinds.
    """
    return root / kind / "declared"


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
        encoder_files: Files with declarations of user encoders.
        task_paths: Folders and files with user tasks; see `genebench.tasks.user_tasks`.
        versions: Source, or source file, to its wanted version; overrides the profile's.

    Raises:
        RegistryError: A declaration is invalid; lists every mistake in all files.
    """
    # Every task run opens a context: the package's own files are read once by each process.
    read = _read_packaged if root == DECLARATIONS else _read_declarations
    declared = read(root, profile)
    mistakes = list(declared.mistakes)
    encoders, tasks = dict(declared.encoders), dict(declared.tasks)
    user_encoders: set[str] = set()
    for name in encoder_files:
        try:
            found = read_encoders(Path(name))
        except RegistryError as error:
            mistakes += error.mistakes
            continue
        encoders |= {encoder.id: encoder for encoder in found}
        user_encoders.update(encoder.id for encoder in found)
    user_tasks = {}
    for path in task_paths:
        for user_task in read_user_tasks(path, profile, mistakes):
            task_id = user_task.task.id
            if task_id in tasks:
                mistakes.append(
                    f"{path}: {task_id}: another task has this id; rename the folder or the entry"
                )
            user_tasks[task_id] = user_task
            tasks[task_id] = user_task.task
    chosen = declared.profile
    chosen = chosen.model_copy(update={"versions": {**chosen.versions, **(versions or {})}})
    registry = Registry(
        chosen,
        declared.sources,
        tasks,
        encoders,
        declared.probes,
        declared.protocols,
        frozenset(user_encoders),
        user_tasks,
    )
    mistakes += broken_references(registry)
    if mistakes:
        raise RegistryError(mistakes)
    return registry


def _read_declarations(root: Path, profile: str) -> _Declarations:
    """Read all files below a root; raise RegistryError if there is no such profile."""
    mistakes: list[str] = []
    profiles = _load_profiles(root, mistakes)
    if profile not in profiles:
        known = ", ".join(profiles) or "none"
        mistakes.append(f"no profile {profile!r} (known: {known}){suggest(profile, profiles)}")
        raise RegistryError(mistakes)
    return _Declarations(
        profiles[profile],
        _load_files(root, "sources", Source, mistakes),
        load_tasks(root, profile, mistakes),
        _load_files(root, "encoders", Encoder, mistakes),
        _load_files(root, "probes", Probe, mistakes),
        _load_files(root, "protocols", Protocol, mistakes),
        tuple(mistakes),
    )


_read_packaged = cache(_read_declarations)


def profile_ids(root: Path = DECLARATIONS) -> list[str]:
    """Return the ids of all profiles, in the order of `profiles.yaml`."""
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
    """Read a folder with one declaration per file; the file's name is the id."""
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
            mistakes.append(
                f"{where}: id {data.get('id')!r} differs from the file's name {path.stem!r}"
            )
        item, problems = validate(model, data, where)
        mistakes += problems
        if item:
            loaded[path.stem] = item
    return loaded


def _shorten(mistake: str, root: Path) -> str:
    return mistake.replace(f"{root}/", "")

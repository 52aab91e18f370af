"""`Registry`: all declarations of one profile by id, and their selection by name or pattern."""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from genebench.encoders.declaration import Encoder
from genebench.errors import RegistryError
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.registry.profiles import Profile
from genebench.registry.yaml_reader import suggest
from genebench.sources.declaration import Source
from genebench.tasks.declaration import Task
from genebench.tasks.user_tasks import UserTask


@dataclass(frozen=True)
class Registry:
    """All declarations of one profile, by id.

    `tasks` and `encoders` include those declared in the user's files; `user_tasks` and
    `user_encoders` tell which these are.
    """

    profile: Profile
    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    encoders: Mapping[str, Encoder]
    probes: Mapping[str, Probe]
    protocols: Mapping[str, Protocol]
    user_encoders: frozenset[str] = frozenset()
    user_tasks: Mapping[str, UserTask] = field(default_factory=dict)

    @property
    def source_files(self) -> list[str]:
        """Source files that this profile reads, such as `hpa.proteinatlas`, sorted."""
        wanted = [*self.profile.catalogues.values(), *(i.source for i in self.profile.inputs)]
        wanted += [self.profile.withdrawn] if self.profile.withdrawn else []
        for task in self.tasks.values():
            wanted += [] if task.id in self.user_tasks else task.source
        return sorted(set(wanted))

    @property
    def wanted_versions(self) -> dict[str, str]:
        """Source file to its wanted version, where one is set for the file or its source."""
        chosen = self.profile.versions
        found = {
            name: chosen.get(name, chosen.get(name.split(".")[0])) for name in self.source_files
        }
        return {name: version for name, version in found.items() if version}

    def declared_probes(self) -> dict[str, Probe]:
        """Return the fixed probe of each encoder whose declaration names one."""
        return {e.id: self.probes[e.probe] for e in self.encoders.values() if e.probe}

    def select_tasks(
        self,
        patterns: Iterable[str] = (),
        families: Iterable[str] = (),
        curated: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Return the ids of tasks that match any of the patterns and belong to any of the families.

        Args:
            patterns: Glob patterns; empty for all tasks.
            families: Families; empty for all families.
            curated: Task to family of the tasks in a lake, which need not be declared here.

        Raises:
            RegistryError: A pattern or a family matches nothing; suggests similar names.
        """
        families = list(families)
        known = {task.id: task.family for task in self.tasks.values()} | dict(curated or {})
        known_families = sorted(set(known.values()))
        mistakes = [
            f"no family {name!r} (known: {', '.join(known_families)})"
            f"{suggest(name, known_families)}"
            for name in families
            if name not in known_families
        ]
        if mistakes:
            raise RegistryError(mistakes)
        chosen = _select(patterns, known, "task")
        return [task for task in chosen if not families or known[task] in families]

    def choose_protocol(self, protocol_id: str) -> Protocol:
        """Return a protocol by its id.

        Raises:
            RegistryError: No protocol has this id; suggests similar ids.
        """
        return self.protocols[_require_known(protocol_id, self.protocols, "protocol")]

    def choose_probe(self, probe_id: str) -> Probe:
        """Return a probe by its id.

        Raises:
            RegistryError: No probe has this id; suggests similar ids.
        """
        return self.probes[_require_known(probe_id, self.probes, "probe")]

    def select_encoders(self, patterns: Iterable[str] = ()) -> list[str]:
        """Return the ids of encoders that match any pattern; without patterns, the default ones.

        Raises:
            RegistryError: A pattern matches nothing; suggests similar ids.
        """
        patterns = list(patterns)
        if not patterns:
            return list(self.profile.encoders)
        return _select(patterns, self.encoders, "encoder")

    def select_files(self, patterns: Iterable[str] = ()) -> list[str]:
        """Return the source files that match a pattern or belong to a source; by default all.

        Raises:
            RegistryError: A pattern matches nothing; suggests similar names.
        """
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


def _require_known(name: str, known: Mapping[str, object], noun: str) -> str:
    if name not in known:
        raise RegistryError(
            [f"no {noun} {name!r} (known: {', '.join(known)}){suggest(name, known)}"]
        )
    return name

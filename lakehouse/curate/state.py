"""Whether the silver tables are those of the bytes and declarations at hand."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from genebench.digest import digest_json
from genebench.errors import LakeError
from genebench.registry.loading import Registry
from lakehouse.tables.time_travel import Tables

# Raised when the same bytes and declarations would give other silver tables.
REVISION = 3
CURATED = (
    "silver.entities",
    "silver.xrefs",
    "silver.inputs",
    "silver.samples",
    "silver.labels",
    "silver.tasks",
)


def choose_snapshots(lake: Tables, registry: Registry) -> dict[str, str]:
    """The snapshot of each source file that the profile reads and the lake has.

    A version that the settings or the profile name goes before the last one fetched.

    Raises:
        LakeError: A catalogue was never refreshed; without it nothing can be built.
    """
    found = lake.current_snapshots(registry.source_files, registry.wanted_versions)
    missing = [name for name in registry.profile.catalogues.values() if name not in found]
    if missing:
        raise LakeError(
            f"the lake {lake.delta.storage.root} has no snapshot of "
            f"{', '.join(_with_version(registry, name) for name in missing)}; "
            f"run `genebench refresh {' '.join(missing)}`"
        )
    return found


def missing_files(registry: Registry, snapshots: Mapping[str, str]) -> dict[str, list[str]]:
    """The source files that the lake has no snapshot of, with the tasks that wait for each."""
    return {
        _with_version(registry, name): [t.id for t in registry.tasks.values() if name in t.source]
        for name in registry.source_files
        if name not in snapshots and name not in registry.profile.optional
    }


def _with_version(registry: Registry, file_id: str) -> str:
    version = registry.wanted_versions.get(file_id)
    return f"{file_id} (version {version})" if version else file_id


def reader_digest(lake: Tables, registry: Registry, file_id: str) -> str | None:
    """The digest of how a file's raw table was read last; None where that is not on record."""
    source_id, _, name = file_id.partition(".")
    table = registry.sources[source_id].table_of(name)
    return lake.delta.last_write(f"bronze.{table}").get("reading")


def curation_key(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> str:
    """Digest of all that decides the silver tables: raw tables, declarations, code's revision."""
    tasks = [task.model_dump(mode="json") for task in registry.tasks.values()]
    profile = registry.profile.model_dump(mode="json", include={"id", "catalogues", "inputs"})
    own = {name: one.snapshot_id for name, one in registry.own_tasks.items()}
    readings = {name: reader_digest(lake, registry, name) for name in snapshots}
    return digest_json([REVISION, dict(snapshots), readings, profile, tasks, own])


def own_task_paths(lake: Tables) -> list[str]:
    """The folders and files of the user's own tasks that the lake was last curated with."""
    for commit in lake.delta.history("silver.tasks"):
        if "curation_key" in commit:
            return list(json.loads(commit.get("own_tasks", "[]")))
    return []


def add_own_tasks(
    remembered: Iterable[str], given: Iterable[str], settings: Iterable[Path]
) -> list[str]:
    """The folders and files of own tasks to curate with: those remembered, then those given.

    Args:
        remembered: Of the last curation; absolute.
        given: Of this one.
        settings: Those that the settings name, which are read anyhow.

    Raises:
        LakeError: One that is remembered is gone; says how its tasks leave.
    """
    gone = [name for name in remembered if not Path(name).exists()]
    if gone:
        raise LakeError(
            f"{gone[0]} is gone, whose tasks are in this lake; put it back, or run `genebench "
            "curate --forget-own-tasks` with the --task-folder and --task-file that shall stay"
        )
    known = {str(path.resolve()) for path in settings}
    wanted = [*remembered, *(str(Path(name).resolve()) for name in given)]
    return [name for name in dict.fromkeys(wanted) if name not in known]


def is_curated(lake: Tables, key: str) -> bool:
    """Whether every silver table was last written for this key; an interrupted run's were not."""
    return all(lake.delta.last_write(name).get("curation_key") == key for name in CURATED)


def failed_tasks(lake: Tables) -> dict[str, str]:
    """The tasks that went wrong in the last curation and are not in the lake, with the reasons."""
    found = lake.delta.last_write("silver.tasks").get("failed_tasks", "{}")
    return dict(json.loads(found))


def refuse_half_curated(lake: Tables) -> None:
    """Stop before work on silver tables that an interrupted curate left disagreeing.

    Raises:
        LakeError: They are of different curations, or there are none.
    """
    keys = {lake.delta.last_write(name).get("curation_key") for name in CURATED}
    if keys == {None}:
        raise LakeError(
            f"the lake {lake.delta.storage.root} has no tasks yet; run `genebench refresh`, then "
            "`genebench curate`"
        )
    if len(keys) > 1:
        raise LakeError(
            "the silver tables are of different curations, one was interrupted; "
            "run `genebench curate` again"
        )

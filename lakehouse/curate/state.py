"""The state of the curation: the key that decides the silver tables, and whether they match it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from genebench.digest import digest_json
from genebench.errors import LakeError
from genebench.registry.registry import Registry
from lakehouse.tables.time_travel import Tables

# Increase it when the code builds other silver tables from the same snapshots and declarations.
REVISION = 3
CURATED_TABLES = (
    "silver.entities",
    "silver.xrefs",
    "silver.inputs",
    "silver.samples",
    "silver.labels",
    "silver.tasks",
)


def choose_snapshots(lake: Tables, registry: Registry) -> dict[str, str]:
    """Choose the snapshot to read of each source file of the profile that the lake has.

    It is the version named by the settings or the profile, else the one fetched last.

    Raises:
        LakeError: The lake has no snapshot of an entity catalogue.
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
    """The source files that the lake has no snapshot of, with the tasks that need each."""
    return {
        _with_version(registry, name): [t.id for t in registry.tasks.values() if name in t.source]
        for name in registry.source_files
        if name not in snapshots and name not in registry.profile.optional
    }


def _with_version(registry: Registry, file_id: str) -> str:
    version = registry.wanted_versions.get(file_id)
    return f"{file_id} (version {version})" if version else file_id


def reader_digest(lake: Tables, registry: Registry, file_id: str) -> str | None:
    """The digest of the reader that last wrote a file's bronze table; None where unrecorded."""
    source_id, _, name = file_id.partition(".")
    table = registry.sources[source_id].table_of(name)
    return lake.delta.last_write(f"bronze.{table}").get("reading")


def curation_key(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> str:
    """Digest of everything that decides the silver tables: snapshots, declarations, `REVISION`."""
    tasks = [task.model_dump(mode="json") for task in registry.tasks.values()]
    profile = registry.profile.model_dump(mode="json", include={"id", "catalogues", "inputs"})
    user_tasks = {name: one.snapshot_id for name, one in registry.user_tasks.items()}
    readings = {name: reader_digest(lake, registry, name) for name in snapshots}
    return digest_json([REVISION, dict(snapshots), readings, profile, tasks, user_tasks])


def user_task_paths(lake: Tables) -> list[str]:
    """The folders and files of user tasks of the last curation."""
    for commit in lake.delta.history("silver.tasks"):
        if "curation_key" in commit:
            return list(json.loads(commit.get("own_tasks", "[]")))
    return []


def merge_user_task_paths(
    previous: Iterable[str], given: Iterable[str], settings: Iterable[Path]
) -> list[str]:
    """Merge the folders and files of user tasks of the last curation with those given now.

    Args:
        previous: Absolute paths of the last curation.
        given: Paths given for this curation.
        settings: Paths in the settings; left out of the result, since they are always read.

    Raises:
        LakeError: A path of the last curation does not exist any more.
    """
    missing = [name for name in previous if not Path(name).exists()]
    if missing:
        raise LakeError(
            f"{missing[0]} is missing, but its tasks are in this lake; restore it, or run "
            "`genebench curate --forget-own-tasks`, with --task-folder and --task-file for the "
            "tasks to keep"
        )
    known = {str(path.resolve()) for path in settings}
    wanted = [*previous, *(str(Path(name).resolve()) for name in given)]
    return [name for name in dict.fromkeys(wanted) if name not in known]


def is_curated(lake: Tables, key: str) -> bool:
    """Whether the last write of every silver table has this curation key."""
    return all(lake.delta.last_write(name).get("curation_key") == key for name in CURATED_TABLES)


def failed_tasks(lake: Tables) -> dict[str, str]:
    """The tasks that could not be built in the last curation, with the reasons."""
    found = lake.delta.last_write("silver.tasks").get("failed_tasks", "{}")
    return dict(json.loads(found))


def require_curated(lake: Tables) -> None:
    """Check that all silver tables were written by one curation.

    Raises:
        LakeError: They were written by different curations, or the lake has none.
    """
    keys = {lake.delta.last_write(name).get("curation_key") for name in CURATED_TABLES}
    if keys == {None}:
        raise LakeError(
            f"the lake {lake.delta.storage.root} has no tasks yet; run `genebench refresh`, then "
            "`genebench curate`"
        )
    if len(keys) > 1:
        raise LakeError(
            "the silver tables were written by different curations, because one was interrupted; "
            "run `genebench curate` again"
        )

"""The state of the curation: what is recorded of it, and the key that decides the silver tables."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from genebench.digest import digest_json
from genebench.errors import LakeError
from genebench.registry.registry import Registry
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.manifest import CURATE, CURATED_TABLES, RUNS, run_rows
from lakehouse.tables.time_travel import Tables

# Increase it when the code builds other silver tables from the same snapshots and declarations.
REVISION = 3


@dataclass(frozen=True)
class Curation:
    """What is recorded of the current curation.

    Attributes:
        key: See `curation_key`.
        user_tasks: The folders and files of user tasks, absolute paths.
        failed_tasks: The tasks that could not be built, with the reasons.
    """

    key: str
    user_tasks: tuple[str, ...] = ()
    failed_tasks: Mapping[str, str] = field(default_factory=dict)


def read_curation(lake: Tables) -> Curation | None:
    """Read the record of the current curation; None where no curation has finished."""
    finished = lake.delta.curations()
    if not finished:
        return _read_commits(lake)
    last = finished[-1]
    rows = lake.delta.scan("silver.curations").filter(pl.col("run_id") == last.run_id).collect()
    row = rows.sort("curated_at").row(-1, named=True)
    failed = json.loads(row["failed_tasks"])
    return Curation(row["curation_key"], tuple(row["user_tasks"]), failed)


def read_curated_snapshots(lake: Tables) -> dict[str, str]:
    """Read which snapshot of each source file the current curation read; {} where none is recorded.

    In a lake at an earlier time, it is the curation that was current then.
    """
    curation = lake.curation()
    if curation is None:
        return {}
    of_run = pl.col("run_id") == curation.run_id
    rows = lake.delta.scan("silver.curations").filter(of_run).collect().sort("curated_at")
    snapshots: dict[str, str] = json.loads(rows["snapshots"][-1])
    return snapshots


def _read_commits(lake: Tables) -> Curation | None:
    """Read the curation from the commit metadata, where an earlier version of genebench kept it."""
    commits = [lake.delta.last_write(name) for name in CURATED_TABLES]
    keys = {commit.get("curation_key") for commit in commits}
    if len(keys) > 1 or None in keys:
        return None
    last = commits[-1]
    tasks = tuple(json.loads(last.get("own_tasks", "[]")))
    return Curation(str(keys.pop()), tasks, json.loads(last.get("failed_tasks", "{}")))


def record_curation(
    delta: Delta,
    curation: Curation,
    snapshots: Mapping[str, str],
    versions: Mapping[str, int],
    commit: Commit,
) -> None:
    """Record a curation whose tables are written; from then on, readers read its tables.

    Args:
        delta: The tables of the lake.
        curation: The curation.
        snapshots: Source file to the snapshot that was read.
        versions: Table to the version that the run wrote.
        commit: The metadata of the commits.
    """
    declared = table("silver.curations")
    row = {
        "run_id": commit.flow_run,
        "curation_key": curation.key,
        "profile_id": commit.profile,
        "user_tasks": list(curation.user_tasks),
        "failed_tasks": json.dumps(dict(curation.failed_tasks)),
        "snapshots": json.dumps(dict(snapshots), sort_keys=True),
        "curated_at": dt.datetime.now(dt.UTC),
    }
    delta.append(declared.name, pl.DataFrame([row], schema=declared.schema), commit)
    last = next(reversed(delta.curations()), None)
    delta.append(RUNS, run_rows(CURATE, versions, commit, last), commit)


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


def record_earlier_curation(lake: Tables, snapshots: Mapping[str, str], commit: Commit) -> None:
    """Record the curation of a lake that an earlier version of genebench curated.

    Args:
        lake: The tables of the lake.
        snapshots: Source file to the snapshot that was read.
        commit: The metadata of the commits.
    """
    curation = None if lake.delta.curations() else _read_commits(lake)
    if curation is not None:
        versions = {name: lake.delta.version(name) for name in CURATED_TABLES}
        record_curation(lake.delta, curation, snapshots, versions, commit)


def reader_digest(lake: Tables, registry: Registry, file_id: str) -> str | None:
    """The digest of the reader that last parsed a file; None where unrecorded."""
    source_id, _, name = file_id.partition(".")
    is_of_file = (pl.col("source") == source_id) & (pl.col("file") == name)
    rows = lake.delta.scan("bronze.readings").filter(is_of_file).collect().sort("read_at")
    if rows.height:
        return str(rows["reading_digest"][-1])
    # An earlier version of genebench kept it in the commit metadata of the file's table.
    bronze = registry.sources[source_id].table_of(name)
    return lake.delta.last_write(f"bronze.{bronze}").get("reading")


def curation_key(lake: Tables, registry: Registry, snapshots: Mapping[str, str]) -> str:
    """Digest of everything that decides the silver tables: snapshots, declarations, `REVISION`."""
    tasks = [task.model_dump(mode="json") for task in registry.tasks.values()]
    profile = registry.profile.model_dump(mode="json", include={"id", "catalogues", "inputs"})
    user_tasks = {name: one.snapshot_id for name, one in registry.user_tasks.items()}
    readings = {name: reader_digest(lake, registry, name) for name in snapshots}
    return digest_json([REVISION, dict(snapshots), readings, profile, tasks, user_tasks])


def user_task_paths(lake: Tables) -> list[str]:
    """The folders and files of user tasks of the last curation."""
    curation = read_curation(lake)
    if curation is not None:
        return list(curation.user_tasks)
    # A lake of an earlier version whose last curation was interrupted.
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
    """Whether the silver tables were built with this curation key, and are all there."""
    curation = read_curation(lake)
    return curation is not None and curation.key == key and not _lost_tables(lake)


def _lost_tables(lake: Tables) -> list[str]:
    return [name for name in CURATED_TABLES if not lake.delta.exists(name)]


def failed_tasks(lake: Tables) -> dict[str, str]:
    """The tasks that could not be built in the last curation, with the reasons."""
    curation = read_curation(lake)
    return {} if curation is None else dict(curation.failed_tasks)


def require_curated(lake: Tables) -> None:
    """Check that a curation has finished.

    Raises:
        LakeError: The lake has none, its first one was interrupted, or a table of it is gone.
    """
    if read_curation(lake) is not None:
        if lost := _lost_tables(lake):
            raise LakeError(
                f"the lake {lake.delta.storage.root} has lost {', '.join(lost)}; run "
                "`genebench curate`, which builds the silver tables again"
            )
        return
    if any(lake.delta.last_write(name).get("curation_key") for name in CURATED_TABLES):
        raise LakeError(
            "the silver tables were written by different curations, because one was interrupted; "
            "run `genebench curate` again"
        )
    raise LakeError(
        f"the lake {lake.delta.storage.root} has no tasks yet; run `genebench refresh`, then "
        "`genebench curate`"
    )

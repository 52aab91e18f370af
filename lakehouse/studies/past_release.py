"""Labels of a task by an earlier release of its source, named by version or by month."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from genebench.entities.identifiers import Resolver
from genebench.errors import LakeError
from genebench.registry.registry import Registry
from genebench.sources.declaration import version_order
from genebench.tasks.recipes.recipe import build
from lakehouse.tables.names import did_you_mean
from lakehouse.tables.time_travel import Tables

MONTH = re.compile(r"\d{4}-\d{2}")


@dataclass(frozen=True)
class PastRelease:
    """The samples and labels of a task as an earlier release of its source gives them.

    Attributes:
        name: Source and version, such as `bioconductor 3.16.0`.
        samples: Rows of samples of the task.
        labels: Rows of labels of the task.
    """

    name: str
    samples: pl.DataFrame
    labels: pl.DataFrame


@dataclass(frozen=True)
class _Release:
    """A version of a source in the lake: the source that holds its files, and its month."""

    version: str
    holder: str
    month: str | None


def is_release(as_of: str) -> bool:
    """Whether a text names a release (`bioconductor=3.16.0`) or a month (`2022-09`), not a day."""
    return "=" in as_of or MONTH.fullmatch(as_of) is not None


def read_past_release(
    tables: Tables, registry: Registry, row: Mapping[str, Any], as_of: str
) -> PastRelease:
    """Build a task from an earlier release of its source that is in the lake.

    The release is a version of the source itself that the lake fetched, or that of a source that
    declares to be its past (`past_of`). A file that the release lacks stays as it is now. Entities
    are those of the current catalogue.

    Args:
        tables: The tables of the lake.
        registry: The declarations.
        row: The task's row of `silver.tasks`.
        as_of: `source=version`, or a month: the newest release that is as old.

    Raises:
        LakeError: The task is not declared or does not read the source, the lake has no such
            release, or the release is not older than the current one.
    """
    task = registry.tasks.get(row["task_id"])
    if task is None:
        raise LakeError(f"{row['task_id']} is not a declared task; give --as-of a day")
    sources = list(dict.fromkeys(name.partition(".")[0] for name in task.source))
    source, _, version = as_of.partition("=") if "=" in as_of else (sources[0], "", "")
    if source not in sources:
        raise LakeError(
            f"{task.id} does not read the source {source!r}{did_you_mean(source, sources)}; it "
            f"reads {', '.join(sources)}"
        )
    current = tables.current_snapshots(task.source)
    retrieved = tables.table("bronze.snapshots").collect()
    read = retrieved.filter(pl.col("snapshot_id").is_in(list(current.values())))
    now = read.filter(source=source)["version"][0]
    releases = _list_releases(retrieved, registry, source)
    if not version:
        version = _choose_by_month(source, releases, as_of)
    known = ", ".join(sorted(releases, key=version_order))
    if version not in releases:
        raise LakeError(f"the lake has no release {version!r} of {source}; it has {known}")
    if version_order(version) >= version_order(now):
        raise LakeError(
            f"{source} {version} is not older than {now}, the current release; the lake has {known}"
        )
    holder = releases[version].holder
    moved = {name: f"{holder}.{name.partition('.')[2]}" for name in task.source}
    moved = {name: new for name, new in moved.items() if name.startswith(f"{source}.")}
    found = tables.current_snapshots(list(moved.values()), dict.fromkeys(moved.values(), version))
    raw = {}
    for name in task.source:
        file_id = moved.get(name, name)
        snapshot_id = found.get(file_id)
        raw[name] = tables.raw(*((file_id, snapshot_id) if snapshot_id else (name, current[name])))
    xrefs = tables.table("silver.xrefs").collect()
    built = build(raw, task, {kind: Resolver(xrefs, kind) for kind in set(task.entity)})
    return PastRelease(f"{source} {version}", built.samples, built.labels)


def _list_releases(retrieved: pl.DataFrame, registry: Registry, source: str) -> dict[str, _Release]:
    """List the versions of a source that the lake holds, under itself or under a past of it."""
    releases: dict[str, _Release] = {}
    for holder, declared in registry.sources.items():
        if source not in (holder, declared.past_of):
            continue
        rows = retrieved.filter(source=holder).sort("retrieved_at")
        for version, published_on in rows.select("version", "published_on").iter_rows():
            day = declared.release_day(version) or published_on
            month = str(day)[:7] if day else None
            releases.setdefault(version, _Release(version, holder, month))
    return releases


def _choose_by_month(source: str, releases: Mapping[str, _Release], month: str) -> str:
    dated = {version: one.month for version, one in releases.items() if one.month}
    old = [version for version, released in dated.items() if released <= month]
    if not old:
        known = ", ".join(f"{version} of {released}" for version, released in sorted(dated.items()))
        raise LakeError(
            f"the lake has no release of {source} that is as old as {month}; it has "
            f"{known or 'none with a date'}"
        )
    return max(old, key=version_order)

"""Prints the version, age and state of the sources of a lake, now or at an earlier time."""

from flows.cli.inspect import open_registry
from flows.cli.render import print_line, print_rows
from genebench.errors import LakeError
from lakehouse import open_lake
from lakehouse.refresh.freshness import freshness_cells, read_freshness


def print_freshness(profile: str | None, at: str | None = None) -> None:
    """Print the version and age of each source.

    Args:
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        at: A time, such as 2026-11-20; default is now.

    Raises:
        LakeError: The time is not a time.
    """
    lake = open_lake() if at is None else open_lake().at(at)
    if lake.table("bronze.snapshots").limit(1).collect().is_empty():
        return
    registry = open_registry(profile)
    rows = read_freshness(lake, registry.sources, registry.source_files, registry.wanted_versions)
    print_rows("sources", *freshness_cells(rows))


def print_status_at(profile: str | None, at: str) -> None:
    """Print the rows of each table and the age of each source as they were at a time.

    Raises:
        LakeError: The lake had no tables then.
    """
    lake = open_lake().at(at)
    counts = {name: n for name, n in lake.counts().items() if n}
    if not counts:
        raise LakeError(
            f"the lake {lake.delta.storage.root} had no rows at {at}; choose a later day"
        )
    rows = [[name, f"{n:,}"] for name, n in counts.items()]
    print_rows(f"lake {lake.delta.storage.root} at {at}", ["table", "rows"], rows)
    print_freshness(profile, at)
    print_line("what is pending is told of now only: `genebench status`")

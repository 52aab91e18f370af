"""Prints the version, age and state of the sources of a lake, now or at an earlier time."""

from flows.cli.inspect import open_registry
from flows.cli.render import print_line, print_rows
from genebench.errors import LakeError
from lakehouse import open_lake
from lakehouse.query.lake import Lake
from lakehouse.refresh.freshness import freshness_cells, read_freshness


def print_freshness(profile: str | None) -> None:
    """Print the version and age of each source; the error where they cannot be read."""
    try:
        _print_ages(open_lake(), profile)
    except LakeError as error:
        # A table that cannot be read is what a reader of the status has to know.
        print_rows("sources", ["source", "state"], [["–", f"cannot be told: {error}"]])


def print_status_at(profile: str | None, at: str) -> None:
    """Print the rows of each table and the age of each source as they were at a time.

    Raises:
        LakeError: The time is not a time, or the lake had no rows then.
    """
    lake = open_lake().at(at)
    counts = {name: n for name, n in lake.counts().items() if n}
    if not counts:
        raise LakeError(
            f"the lake {lake.delta.storage.root} had no rows at {at}; choose a later day"
        )
    rows = [[name, f"{n:,}"] for name, n in counts.items()]
    print_rows(f"lake {lake.delta.storage.root} at {at}", ["table", "rows"], rows)
    _print_ages(lake, profile)
    print_line("pending work is listed for now only: `genebench status`")


def _print_ages(lake: Lake, profile: str | None) -> None:
    if lake.table("bronze.snapshots").limit(1).collect().is_empty():
        return
    registry = open_registry(profile)
    rows = read_freshness(lake, registry.sources, registry.source_files, registry.wanted_versions)
    print_rows("sources", *freshness_cells(rows))

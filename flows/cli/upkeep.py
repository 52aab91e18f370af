"""The commands for the upkeep of a lake: doctor, tidy."""

from typing import Annotated

import typer


def tidy(
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it. Default: only tell what would be done.")
    ] = False,
) -> None:
    """Remove rows of interrupted runs, merge small files and delete unused ones.

    Files are deleted if no version of the last 30 days uses them, no version that a finished run
    recorded, and no last version of a day: every day and every release stays readable.
    """
    from flows.cli.render import print_line, print_rows
    from flows.run.context import code_version
    from genebench.errors import LakeError
    from lakehouse import open_lake
    from lakehouse.score.tidy import tidy_lake
    from lakehouse.tables.commits import Commit
    from lakehouse.tables.lake_lock import open_lock

    lake = open_lake()
    lock = open_lock(lake.delta.storage)
    if not lake.delta.list_tables():
        print_line(f"the lake {lake.delta.storage.root} is empty")
        return
    if apply and not lock.try_acquire():
        raise LakeError(f"{lock.holder()} is writing to the lake; tidy it when that has ended")
    try:
        commit = Commit("tidy", code_version(), profile=lake.profile() or "")
        done = tidy_lake(lake, commit, is_dry=not apply)
    finally:
        lock.release()
    if not done:
        print_line("nothing to tidy")
        return
    print_rows("done" if apply else "to do", ["table", "what"], done.items())
    if not apply:
        print_line("nothing was changed; `genebench tidy --apply` does it")


def doctor(
    digests: Annotated[
        bool,
        typer.Option("--digests", help="Read every source file and compare its SHA-256."),
    ] = False,
) -> None:
    """Check a lake; say what is wrong and which command mends it. Exit code 2 if something is.

    Nothing is written. What can be tidied, or is work of the next run, is listed and is no fault.
    """
    from flows.cli.render import print_line
    from lakehouse import open_lake
    from lakehouse.upkeep.doctor import examine_lake
    from lakehouse.upkeep.findings import FaultsFound

    lake = open_lake()
    found = examine_lake(lake, has_digests=digests)
    faults = [one for one in found if one.is_fault]
    for one in found:
        print_line(f"{'fault' if one.is_fault else 'note'}: {one.where}: {one.what}")
        print_line(f"  mend it: {one.mend}")
    if faults:
        n = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise FaultsFound(f"the lake {lake.delta.storage.root} has {n}")
    print_line(f"the lake {lake.delta.storage.root} has no faults")

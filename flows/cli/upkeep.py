"""The commands for the upkeep of a lake: doctor, tidy, backup, restore."""

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
    from lakehouse.upkeep.backup import refuse_unfinished_restore

    lake = open_lake()
    refuse_unfinished_restore(lake.delta.storage)
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


Place = Annotated[str, typer.Argument(help="Folder or S3 URL of the backup.")]


def backup(folder: Place) -> None:
    """Copy the lake into an empty folder, as of its newest finished run, and verify the copy.

    The writer lock is held meanwhile. The same command completes a backup that was interrupted.
    """
    from flows.cli.render import print_line
    from flows.run.context import code_version
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.tables.storage import Storage
    from lakehouse.upkeep.backup import back_up

    lake = open_lake()
    done = back_up(lake, Storage(folder, get_settings().storage_options), code_version())
    print_line(f"{done.n_files:,} files ({done.n_bytes:,} bytes) are in {folder}, and verified")


def restore(folder: Place) -> None:
    """Copy a backup into the lake of the setting GENEBENCH_LAKE, which must be empty or missing.

    Every file is verified. The same command completes a restore that was interrupted.
    """
    from flows.cli.render import print_line
    from genebench.settings import get_settings
    from lakehouse.tables.storage import Storage
    from lakehouse.upkeep.backup import restore_lake

    settings = get_settings()
    options = settings.storage_options
    done = restore_lake(Storage(folder, options), Storage(settings.lake, options))
    print_line(f"{done.n_files:,} files ({done.n_bytes:,} bytes) are in the lake {settings.lake}")

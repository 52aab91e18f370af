"""A Prefect database whose migrations are done, copied to the folders of the servers of tests.

Creating the tables takes Prefect ten seconds of work for each new folder.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "prefect.db"
_FOLDER = "GENEBENCH_TEST_DATABASE"


def prepare_database(folder: Path) -> None:
    """Create the database where an earlier test run has not; remember where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_FOLDER] = str(folder)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "done").exists():
            return
        # What a migration that was stopped has left.
        for left in folder.glob(f"{NAME}*"):
            left.unlink()
        # No database that the developer's own settings name.
        kept = {key: text for key, text in os.environ.items() if not key.startswith("PREFECT_")}
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**kept, "PREFECT_HOME": str(folder)},
            check=True,
            capture_output=True,
        )
        (folder / "done").touch()


def copy_database(home: Path) -> None:
    """Copy the database to the home of a server that starts for the first time."""
    home.mkdir(parents=True, exist_ok=True)
    source = Path(os.environ[_FOLDER])
    for suffix in ("-wal", ""):
        if (source / f"{NAME}{suffix}").exists() and not (home / NAME).exists():
            shutil.copy(source / f"{NAME}{suffix}", home / f"{NAME}{suffix}")

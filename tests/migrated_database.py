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
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**os.environ, "PREFECT_HOME": str(folder)},
            check=True,
            capture_output=True,
        )
        (folder / "done").touch()


def copy_database(home: Path, name: str = NAME) -> Path:
    """Copy the database to the home of a server that starts for the first time."""
    home.mkdir(parents=True, exist_ok=True)
    source = Path(os.environ[_FOLDER])
    for suffix in ("-wal", ""):
        if (source / f"{NAME}{suffix}").exists() and not (home / name).exists():
            shutil.copy(source / f"{NAME}{suffix}", home / f"{name}{suffix}")
    return home

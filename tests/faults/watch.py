"""Lists the programs that a process starts and the files that it writes outside of a folder."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen")
# Events with the path that is made, changed or removed as their first argument.
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.chmod")
# The version of the code is asked of git; libraries ask which processor this is.
_KNOWN = ("git", "file", "lscpu")
# Found here, because finding it opens a file.
_TEMPORARY = Path(tempfile.gettempdir()).resolve()
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Watch:
    """What Python's audit events tell while it is open.

    Libraries that open files without Python's `open` (polars, HDF5) are not seen. Entries of the
    folder for temporary files are left out.
    """

    folder: str = ""
    programs: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    def hear(self, event: str, arguments: tuple[object, ...]) -> None:
        """Take an audit event."""
        if not self.folder:
            return
        if event in _STARTS:
            if Path(os.fsdecode(arguments[0])).name not in _KNOWN:
                self.programs.append(f"{event} {arguments[:2]}")
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and bool(flags & _WRITING)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._write_to(path)
        elif event in _CHANGES:
            self._write_to(arguments[0])

    def _write_to(self, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        found = os.path.realpath(os.fsdecode(path))
        is_temporary = Path(found).parent == _TEMPORARY
        if not is_temporary and not found.startswith((self.folder, "/dev/")):
            self.written.append(found)


WATCH = Watch()
_installed: list[bool] = []


def begin_watch(folder: Path) -> None:
    """Watch this process from now on; an audit hook cannot be removed."""
    if not _installed:
        sys.addaudithook(WATCH.hear)
        _installed.append(True)
    WATCH.programs, WATCH.written = [], []
    WATCH.folder = os.path.realpath(folder)


@contextmanager
def watch(folder: Path) -> Iterator[Watch]:
    """Watch this process while the context is open."""
    begin_watch(folder)
    try:
        yield WATCH
    finally:
        WATCH.folder = ""

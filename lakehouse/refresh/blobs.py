"""Content-addressed storage of source files: `<lake>/snapshots/<sha256>`."""

import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from genebench.errors import ChecksumMismatch, LakeError, SourceError
from lakehouse.refresh.http import CHUNK_BYTES, FetchError, check_content
from lakehouse.tables.storage import Storage

FOLDER = "snapshots"
LEFTOVER_SECONDS = 7 * 24 * 3600
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Blobs:
    """The content-addressed files of a lake.

    Args:
        storage: The location of the lake.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._files, self._root = storage.open_filesystem()
        # Incomplete files are in the lake's folder, so that storing one is a rename on one disk.
        # For an object store they are in a temporary folder named after the user.
        self._work = (
            Path(storage.uri(FOLDER, ".parts"))
            if storage.is_local
            else Path(tempfile.gettempdir()) / f"genebench-snapshots-{os.getuid()}"
        )

    def work_folder(self) -> Path:
        """The folder of incomplete files (`.part`), created when missing.

        Raises:
            LakeError: The lake's folder cannot be written.
        """
        try:
            mode = 0o777 if self.storage.is_local else 0o700
            self._work.mkdir(mode, parents=True, exist_ok=True)
            self._refuse_foreign_folder()
            self._clear_leftovers()
        except OSError as error:
            raise LakeError(
                f"the lake's folder is not writable: {error}; set GENEBENCH_LAKE to a folder "
                "that is"
            ) from error
        return self._work

    def _refuse_foreign_folder(self) -> None:
        """Refuse a work folder that another user made or can write to."""
        if self.storage.is_local:
            return
        found = self._work.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LakeError(
                f"the work folder {self._work} is not a folder that only its owner can use; delete "
                "it, or set TMPDIR to a folder of your own"
            )

    def is_stored(self, sha256: str, size_bytes: int | None = None) -> bool:
        """Whether the lake has a file of this hash and, where given, of this size."""
        found = self._files.get_file_info(self._blob(sha256))
        return bool(found.type == pafs.FileType.File and size_bytes in (None, found.size))

    def store(self, part: Path) -> tuple[str, int]:
        """Move a complete file to the address of its hash.

        Returns:
            Its SHA-256 and its size in bytes.
        """
        sha256, size_bytes = _hash(part)
        if self.storage.is_local:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(self.storage.uri(FOLDER, sha256))
        elif not self.is_stored(sha256, size_bytes):
            # An interrupted upload leaves a truncated object. `is_stored` rejects it by its size,
            # so it is written again.
            with (
                part.open("rb") as stream,
                self._files.open_output_stream(self._blob(sha256)) as out,
            ):
                shutil.copyfileobj(stream, out, CHUNK_BYTES)
        part.unlink(missing_ok=True)
        return sha256, size_bytes

    def open(self, sha256: str) -> pa.NativeFile:
        """Open a stored file for reading, without a check of its hash."""
        return self._files.open_input_stream(self._blob(sha256))

    def path(self, sha256: str) -> Path:
        """A local path to a stored file; its hash is verified first.

        Raises:
            ChecksumMismatch: The file has changed since it was stored; it is deleted.
            SourceError: The lake has no file of this hash.
        """
        if not self.is_stored(sha256):
            raise SourceError(f"the lake has no file of SHA-256 {sha256}; run `genebench refresh`")
        address = self.storage.uri(FOLDER, sha256)
        path = Path(address)
        if not self.storage.is_local:
            path = self.work_folder() / sha256
            if path.exists() and _hash(path)[0] == sha256:
                return path
            part = self._new_part()
            with self._files.open_input_stream(self._blob(sha256)) as stream:
                _copy(stream, part)
            part.replace(path)
        found, _ = _hash(path)
        if found != sha256:
            path.unlink()
            if not self.storage.is_local:
                self._files.delete_file(self._blob(sha256))
            raise ChecksumMismatch(
                f"the stored file {address} has changed (its SHA-256 is now {found}) and was "
                "deleted; run `genebench refresh` to fetch it again"
            )
        return path

    def copy_in(self, path: Path, max_bytes: int) -> Path:
        """Copy a local file into the work folder and return the copy.

        Raises:
            FetchError: The file does not exist, is too large, empty or a web page.
        """
        if not path.is_file():
            raise FetchError("there is no such file")
        size = path.stat().st_size
        if size > max_bytes:
            raise FetchError(f"it has {size:,} bytes, more than the {max_bytes:,} declared")
        check_content(path)
        self.work_folder()
        part = self._new_part()
        with path.open("rb") as stream:
            _copy(stream, part)
        return part

    def pack(self, parts: list[tuple[str, Path]], max_bytes: int) -> Path:
        """Pack the parts of one source file into one zip archive, always with the same bytes.

        Raises:
            FetchError: There are no parts, or they are too large.
        """
        if not parts:
            raise FetchError("the folder has no file that matches options: parts")
        if sum(path.stat().st_size for _, path in parts) > max_bytes:
            raise FetchError(f"its parts have more than the {max_bytes:,} bytes declared")
        self.work_folder()
        packed = self._new_part()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for name, path in parts:
                entry = zipfile.ZipInfo(name, ZIP_EPOCH)
                with path.open("rb") as stream, archive.open(entry, "w", force_zip64=True) as out:
                    shutil.copyfileobj(stream, out, CHUNK_BYTES)
        return packed

    def _clear_leftovers(self) -> None:
        """Delete incomplete files of interrupted runs that are older than a week."""
        for left in self._work.iterdir():
            # A file of another run may be moved to its address at any time.
            with suppress(FileNotFoundError):
                found = left.stat()
                is_old = time.time() - found.st_mtime > LEFTOVER_SECONDS
                if stat.S_ISREG(found.st_mode) and is_old:
                    left.unlink()

    def _new_part(self) -> Path:
        return self._work / f"{uuid.uuid4().hex}.part"

    def _blob(self, sha256: str) -> str:
        return f"{self._root}/{FOLDER}/{sha256}"


def _hash(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size


def _copy(stream: Any, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out, CHUNK_BYTES)

"""Bytes under their own hash: `<lake>/snapshots/<sha256>`, whole or not counted as kept."""

import hashlib
import os
import shutil
import tempfile
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from genebench.errors import ChecksumMismatch, LakeError, SourceError
from lakehouse.refresh.http import CHUNK_BYTES, Fault, refuse_content
from lakehouse.tables.storage import Storage

FOLDER = "snapshots"
LEFTOVER_SECONDS = 7 * 24 * 3600
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Blobs:
    """The content-addressed files of a lake.

    Args:
        storage: Where the lake is.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._files, self._root = storage.open_filesystem()
        # Parts lie beside the kept files, so that keeping one is a rename on one disk; those of an
        # object store in a folder that no other user of the machine can have taken.
        self._work = (
            Path(storage.uri(FOLDER, ".parts"))
            if storage.is_local
            else Path(tempfile.gettempdir()) / f"genebench-snapshots-{os.getuid()}"
        )

    def open_work(self) -> Path:
        """The folder for files that are still arriving, created when missing.

        Raises:
            LakeError: The lake's folder cannot be written.
        """
        try:
            mode = 0o777 if self.storage.is_local else 0o700
            self._work.mkdir(mode, parents=True, exist_ok=True)
            self._clear_leftovers()
        except OSError as error:
            raise LakeError(
                f"the lake's folder cannot be written: {error}; set GENEBENCH_LAKE to a folder "
                "that can"
            ) from error
        return self._work

    def is_kept(self, sha256: str, size_bytes: int | None = None) -> bool:
        """Whether the lake holds bytes of this hash, all of them where their number is given."""
        found = self._files.get_file_info(self._blob(sha256))
        return bool(found.type == pafs.FileType.File and size_bytes in (None, found.size))

    def store(self, part: Path) -> tuple[str, int]:
        """Move a whole file to its hash; until the move nothing of it can be seen.

        Returns:
            Its sha256 and its number of bytes.
        """
        sha256, size_bytes = _hash(part)
        if self.storage.is_local:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.replace(self.storage.uri(FOLDER, sha256))
        elif not self.is_kept(sha256, size_bytes):
            # An upload that an error stops is closed, and so shown, with the bytes it had so far;
            # such an object is too short, is not counted as kept and is written again.
            with (
                part.open("rb") as stream,
                self._files.open_output_stream(self._blob(sha256)) as out,
            ):
                shutil.copyfileobj(stream, out, CHUNK_BYTES)
        part.unlink(missing_ok=True)
        return sha256, size_bytes

    def path(self, sha256: str) -> Path:
        """A local path to kept bytes, which are hashed again before they are trusted.

        Raises:
            ChecksumMismatch: The bytes on disk are no longer those that were kept.
            SourceError: No such bytes are kept.
        """
        if not self.is_kept(sha256):
            raise SourceError(f"no bytes {sha256} are kept in the lake; run `genebench refresh`")
        address = self.storage.uri(FOLDER, sha256)
        path = Path(address)
        if not self.storage.is_local:
            path = self.open_work() / sha256
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
                f"the kept file {address} has changed since (now {found}) and was removed; "
                "run `genebench refresh` to fetch it again"
            )
        return path

    def take(self, path: Path, max_bytes: int) -> Path:
        """Copy a local file into a part.

        Raises:
            Fault: There is no such file, or it is too large, empty or a web page.
        """
        if not path.is_file():
            raise Fault("there is no such file")
        size = path.stat().st_size
        if size > max_bytes:
            raise Fault(f"it has {size:,} bytes, more than the {max_bytes:,} declared")
        refuse_content(path)
        self.open_work()
        part = self._new_part()
        with path.open("rb") as stream:
            _copy(stream, part)
        return part

    def pack(self, parts: list[tuple[str, Path]], max_bytes: int) -> Path:
        """Put the parts of one table into one archive: the same bytes for the same parts.

        Raises:
            Fault: There are no parts, or they are too large.
        """
        if not parts:
            raise Fault("the folder holds no file that matches options: parts")
        if sum(path.stat().st_size for _, path in parts) > max_bytes:
            raise Fault(f"its parts are larger than the {max_bytes:,} bytes declared")
        self.open_work()
        packed = self._new_part()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for name, path in parts:
                entry = zipfile.ZipInfo(name, ZIP_EPOCH)
                with path.open("rb") as stream, archive.open(entry, "w", force_zip64=True) as out:
                    shutil.copyfileobj(stream, out, CHUNK_BYTES)
        return packed

    def _clear_leftovers(self) -> None:
        """Remove parts that killed runs left and no later run took up."""
        for left in self._work.iterdir():
            if left.is_file() and time.time() - left.stat().st_mtime > LEFTOVER_SECONDS:
                left.unlink(missing_ok=True)

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

"""Fetches source files and stores each version as a snapshot.

`locate` decides where a file comes from, `http` downloads it, `blobs` stores it under its hash,
`pins` compares it with the lock file; `snapshot_rows` describes it as a row of `bronze.snapshots`.
"""

import datetime as dt
import difflib
import hashlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path

import polars as pl

from genebench.errors import SnapshotDrift, SourceError
from genebench.sources.declaration import EMBEDDED, EMBEDDED_FOLDER, Source, SourceFile
from lakehouse.refresh.blobs import Blobs
from lakehouse.refresh.http import Download, FetchError, RetryPolicy, download
from lakehouse.refresh.locate import Location, Mirror, list_parts, locate, read_page
from lakehouse.refresh.pins import LOCK, check_pin, read_lock
from lakehouse.refresh.snapshot_rows import Snapshot, read_snapshot
from lakehouse.tables.catalogue import table
from lakehouse.tables.storage import Storage

HASH_IN_ID = 8


@dataclass(frozen=True)
class _Stored:
    sha256: str
    size_bytes: int
    etag: str | None = None
    published_on: str | None = None


class Snapshots:
    """The source files stored in a lake.

    Args:
        storage: The location of the lake.
        known: The rows of `bronze.snapshots` so far.
        mirror: A folder or URL to fetch files from instead of their own addresses.
        lock: The lock file.
        policy: Timeout and retries of downloads.
        on_progress: Called during downloads with the bytes so far and, where known, the total.
    """

    def __init__(
        self,
        storage: Storage,
        known: pl.DataFrame | None = None,
        *,
        mirror: str | None = None,
        lock: Path = LOCK,
        policy: RetryPolicy | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.known = table("bronze.snapshots").empty() if known is None else known
        self.mirror = mirror
        self.lock = read_lock(lock)
        self.policy = policy
        self.on_progress = on_progress
        self._opened_mirror: Mirror | None = None
        self.blobs = Blobs(storage)

    def path(self, found: Snapshot) -> Path:
        """A local path to the bytes of a snapshot; their hash is verified first.

        Raises:
            ChecksumMismatch: The stored bytes have changed.
            SourceError: The lake no longer has them.
        """
        return self.blobs.path(found.sha256)

    def fetch(
        self, source: Source, file_name: str, version: str | None = None, *, is_pinned: bool = False
    ) -> Snapshot:
        """Fetch one version of a file and store its bytes.

        The current snapshot of a file is the one retrieved last. Fetching its bytes again returns
        that snapshot, with `is_new` false. Fetching the bytes of an older snapshot returns that
        snapshot with `is_new` true, so that it becomes current again.

        Args:
            source: The source.
            file_name: One of its files.
            version: A version; by default the newest of the mirror, or else the declared one.
            is_pinned: Fetch the version in the lock file and compare its hash. Files embedded in
                the package are always compared where the lock file has them.

        Raises:
            SourceError: The file is missing, truncated, empty, too large or a web page, or cannot
                be written. The message has the source, version, address and current snapshot.
            ChecksumMismatch: The bytes are not those pinned in the lock file.

        Warns:
            SnapshotDrift: The version has other bytes than when it was fetched last.
        """
        file = _declared_file(source, file_name)
        if is_pinned:
            version = version or self._locked_version(source, file_name)
        location = None
        try:
            location = locate(source, file_name, version, self._open_mirror())
            found = self._fetch(source, file_name, file, location)
        except (FetchError, OSError) as fault:
            what = fault if isinstance(fault, FetchError) else f"cannot be read or stored: {fault}"
            version = location.version if location else version or source.version
            address = location.address if location else self.mirror or file.url_for(version)
            raise SourceError(
                f"source {source.id}, file {file_name}, version {version} ({address}): {what}; "
                f"{self._describe_last(source, file_name)}"
            ) from fault
        if is_pinned or location.address.startswith(EMBEDDED):
            for one in (found, *found.companions.values()):
                if expected := self.lock.get(one.file_id):
                    check_pin(one, expected)
        self._warn_of_drift(found)
        return found

    def _fetch(
        self, source: Source, file_name: str, file: SourceFile, location: Location
    ) -> Snapshot:
        companions = {}
        for role, address in location.companions.items():
            companions[role] = self._fetch(
                source,
                f"{file_name}_{role}",
                file,
                replace(location, address=address, companions={}),
            )
        earlier = self._find_earlier(source.id, file_name, location)
        stored = self._store(file, location, earlier)
        hashes = [stored.sha256, *(companions[role].sha256 for role in sorted(companions))]
        digest = hashlib.sha256(":".join(hashes).encode()).hexdigest() if companions else hashes[0]
        snapshot_id = _slug(source.id, location.version, file_name, digest[:HASH_IN_ID])
        last = self._find_last(source.id, file_name)
        if last.height and last["snapshot_id"].item() == snapshot_id:
            return Snapshot(**read_snapshot(last), is_new=False, companions=companions)
        now = dt.datetime.now(dt.UTC)
        if last.height:
            # The snapshot retrieved last is current, even if the clock was set back since.
            now = max(now, last["retrieved_at"].item() + dt.timedelta(microseconds=1))
        return Snapshot(
            snapshot_id=snapshot_id,
            source=source.id,
            version=location.version,
            file=file_name,
            url=_to_url(location.address),
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            retrieved_at=now,
            published_on=stored.published_on,
            etag=stored.etag,
            license=source.license,
            is_complete=location.is_complete,
            is_composite=location.is_composite,
            companions=companions,
        )

    def _store(self, file: SourceFile, location: Location, earlier: Snapshot | None) -> _Stored:
        """Store the bytes in the lake; downloads only a file that changed since `earlier`."""
        address, blobs = location.address, self.blobs
        if not location.is_remote:
            path = _local_path(address)
            if path.is_dir():
                pattern = file.options.get("parts", "*")
                parts = sorted(one for one in path.glob(pattern) if one.is_file())
                named = [(one.name, one) for one in parts]
                return _Stored(*blobs.store(blobs.pack(named, file.max_bytes)))
            return _Stored(*blobs.store(blobs.copy_in(path, file.max_bytes)))
        if address.endswith("/"):
            return self._store_parts(file, address)
        found = self._download(address, file, _conditions(earlier))
        if found is not None:
            return _Stored(*blobs.store(found.path), found.etag, found.published_on)
        if earlier is None:
            raise FetchError("the server answered 304 Not Modified to a first request")
        return _Stored(earlier.sha256, earlier.size_bytes, earlier.etag, earlier.published_on)

    def _store_parts(self, file: SourceFile, address: str) -> _Stored:
        """Download the parts listed on a server's folder page and store them as one archive."""
        work = self.blobs.work_folder()
        page = read_page(address, work, self.policy)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            parts = []
            for link in list_parts(page, address, file.options.get("parts", "*")):
                if found := self._download(link, file, {}):
                    name = link.rpartition("/")[2]
                    parts.append((name, Path(shutil.move(found.path, Path(folder) / name))))
            return _Stored(*self.blobs.store(self.blobs.pack(parts, file.max_bytes)))

    def _download(
        self, address: str, file: SourceFile, conditions: Mapping[str, str]
    ) -> Download | None:
        return download(
            address,
            self.blobs.work_folder(),
            file.max_bytes,
            conditions=conditions,
            policy=self.policy,
            on_progress=self.on_progress,
        )

    def _find_earlier(self, source: str, file: str, location: Location) -> Snapshot | None:
        """The last snapshot of the same version from the same address whose bytes are stored."""
        same = self.known.filter(
            pl.col("source") == source,
            pl.col("file") == file,
            pl.col("version") == location.version,
            pl.col("url") == _to_url(location.address),
        ).sort("retrieved_at")
        if not same.height:
            return None
        last = Snapshot(**read_snapshot(same.tail(1)), is_new=False)
        return last if self.blobs.is_stored(last.sha256, last.size_bytes) else None

    def _locked_version(self, source: Source, file_name: str) -> str:
        locked = self.lock.get(f"{source.id}.{file_name}")
        if locked is None:
            raise SourceError(
                f"source {source.id}, file {file_name}: the lock file does not pin it; "
                "run `genebench refresh --lock`"
            )
        return str(locked["version"])

    def _warn_of_drift(self, found: Snapshot) -> None:
        known = self._find_last(found.source, found.file, found.version)
        if not known.height or known["snapshot_id"].item() == found.snapshot_id:
            return
        last = known["snapshot_id"].item()
        is_earlier = found.snapshot_id in self.known["snapshot_id"]
        change = (
            f"has earlier bytes again; {found.snapshot_id} is current in place of {last}"
            if is_earlier
            else f"has new bytes; {found.snapshot_id} is stored beside {last}"
        )
        warnings.warn(
            f"source {found.source}, file {found.file}: version {found.version} {change}",
            SnapshotDrift,
            stacklevel=3,
        )

    def _find_last(self, source: str, file: str, version: str | None = None) -> pl.DataFrame:
        """The row retrieved last for a file, or for one version of it; no row where none exists."""
        mine = self.known.filter(pl.col("source") == source, pl.col("file") == file)
        if version is not None:
            mine = mine.filter(pl.col("version") == version)
        return mine.sort("retrieved_at").tail(1)

    def _describe_last(self, source: Source, file_name: str) -> str:
        earlier = self._find_last(source.id, file_name)
        if not earlier.height:
            return "there is no earlier snapshot"
        last = read_snapshot(earlier)
        return (
            f"the last good snapshot, {last['snapshot_id']} of "
            f"{last['retrieved_at']:%Y-%m-%d}, stays current"
        )

    def _open_mirror(self) -> Mirror | None:
        if self.mirror is None:
            return None
        if self._opened_mirror is None:
            self._opened_mirror = Mirror(self.mirror, self.policy)
        return self._opened_mirror


def _declared_file(source: Source, file_name: str) -> SourceFile:
    if file_name not in source.files:
        near = difflib.get_close_matches(file_name, source.files, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(source.files)}"
        raise SourceError(f"source {source.id} has no file {file_name!r}; {hint}")
    return source.files[file_name]


def _conditions(earlier: Snapshot | None) -> dict[str, str]:
    if earlier is None:
        return {}
    if earlier.etag:
        return {"If-None-Match": earlier.etag}
    since = earlier.retrieved_at.astimezone(dt.UTC)
    if earlier.published_on:
        # A file modified before the last request may have been published after it.
        day = dt.date.fromisoformat(earlier.published_on)
        since = min(since, dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC))
    return {"If-Modified-Since": format_datetime(since, usegmt=True)}


def _local_path(address: str) -> Path:
    if address.startswith(EMBEDDED):
        return EMBEDDED_FOLDER / address.removeprefix(EMBEDDED)
    return Path(address)


def _to_url(address: str) -> str:
    if "://" in address or address.startswith(EMBEDDED):
        return address
    return Path(address).absolute().as_uri()


def _slug(*parts: str) -> str:
    return "_".join(re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in parts)

"""Keeping source files: every byte under its own hash, every version on record, none half-kept.

A file is fetched (`downloads`) from where `deliveries` says it is and kept in `blobs`; what it
was is a row of `bronze.snapshots`. Hashes that a person has confirmed are in the `lock`.
"""

import datetime as dt
import difflib
import hashlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl

from genebench.errors import ChecksumMismatch, SnapshotDrift, SourceError
from genebench.sources.declaration import EMBEDDED, EMBEDDED_FOLDER, Source, SourceFile
from lakehouse.refresh.blobs import Blobs
from lakehouse.refresh.http import Download, Fault, Policy, download
from lakehouse.refresh.locate import Delivery, Mirror, list_parts, locate, read_page
from lakehouse.refresh.pins import LOCK, read_lock, write_lock
from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import conform
from lakehouse.tables.storage import Storage

HASH_IN_ID = 8


@dataclass(frozen=True)
class Snapshot:
    """The bytes of one file of one version of a source, as kept.

    Args:
        snapshot_id: `hpa_23_0_proteinatlas_a1b2c3d4`: source, version, file, start of the hash.
        source: Id of the source.
        version: The version, as its owner counts.
        file: Name of the file within its source.
        url: Where it came from.
        sha256: Hash of the bytes, and their name below `snapshots/`.
        size_bytes: Their number.
        retrieved_at: When it was fetched, UTC.
        published_on: `YYYY-MM-DD`, where the server says.
        etag: The server's validator, if any.
        license: The licence its owner states.
        is_complete: Whether it holds all of its version.
        is_composite: Whether it mixes versions.
        is_new: Whether it is not the file's current snapshot: never on record, or not the last.
        companions: Files read beside it, by role.
    """

    snapshot_id: str
    source: str
    version: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    retrieved_at: dt.datetime
    published_on: str | None
    etag: str | None
    license: str
    is_complete: bool
    is_composite: bool
    is_new: bool = True
    companions: Mapping[str, "Snapshot"] = field(default_factory=dict)

    @property
    def file_id(self) -> str:
        """`source.file`, the name used in tasks, mirrors and the lock."""
        return f"{self.source}.{self.file}"


@dataclass(frozen=True)
class _Kept:
    sha256: str
    size_bytes: int
    etag: str | None = None
    published_on: str | None = None


class Snapshots:
    """The kept source files of a lake.

    Args:
        storage: Where the lake is.
        known: The rows of `bronze.snapshots` so far.
        place: A folder or address that files come from instead of their own addresses.
        lock: The lock file.
        policy: Timeout and retries of downloads.
        on_progress: Called during downloads with bytes so far and, where known, in all.
    """

    def __init__(
        self,
        storage: Storage,
        known: pl.DataFrame | None = None,
        *,
        place: str | None = None,
        lock: Path = LOCK,
        policy: Policy | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.known = table("bronze.snapshots").empty() if known is None else known
        self.place = place
        self.lock = read_lock(lock)
        self.policy = policy
        self.on_progress = on_progress
        self._mirror: Mirror | None = None
        self.blobs = Blobs(storage)

    def path(self, found: Snapshot) -> Path:
        """A local path to the bytes of a snapshot, hashed again before they are trusted.

        Raises:
            ChecksumMismatch: The kept bytes have changed on disk.
            SourceError: They are no longer kept.
        """
        return self.blobs.path(found.sha256)

    def fetch(
        self, source: Source, file_name: str, version: str | None = None, *, is_pinned: bool = False
    ) -> Snapshot:
        """Fetch one version of a file and keep its bytes.

        Bytes that are the file's current snapshot, the last retrieved, give that snapshot again.
        Bytes that were current before and are back give their snapshot as new, so that it becomes
        current again. The same version with other bytes than before gives a warning.

        Args:
            source: The source.
            file_name: One of its files.
            version: A version; by default the newest that its place offers.
            is_pinned: Take the version in the lock and nothing but its bytes. Files that the
                package carries are always held to the lock where it names them.

        Raises:
            SourceError: The file is missing, moved, cut short, empty, too large or a web page, or
                cannot be written; names source, version, address and the last good snapshot.
            ChecksumMismatch: The bytes are not those of the lock.
        """
        file = _declared_file(source, file_name)
        if is_pinned:
            version = version or self._locked_version(source, file_name)
        delivery = None
        try:
            delivery = locate(source, file_name, version, self._open_mirror())
            found = self._fetch(source, file_name, file, delivery)
        except (Fault, OSError) as fault:
            what = fault if isinstance(fault, Fault) else f"cannot be read or kept: {fault}"
            version = delivery.version if delivery else version or source.version
            address = delivery.address if delivery else self.place or file.url_for(version)
            raise SourceError(
                f"source {source.id}, file {file_name}, version {version} ({address}): {what}; "
                f"{self._describe_last(source, file_name)}"
            ) from fault
        if is_pinned or delivery.address.startswith(EMBEDDED):
            for one in (found, *found.companions.values()):
                if expected := self.lock.get(one.file_id):
                    _compare_with_lock(one, expected)
        self._warn_of_drift(found)
        return found

    def _fetch(
        self, source: Source, file_name: str, file: SourceFile, delivery: Delivery
    ) -> Snapshot:
        companions = {}
        for role, address in delivery.companions.items():
            companions[role] = self._fetch(
                source,
                f"{file_name}_{role}",
                file,
                replace(delivery, address=address, companions={}),
            )
        earlier = self._find_earlier(source.id, file_name, delivery)
        kept = self._keep(file, delivery, earlier)
        hashes = [kept.sha256, *(companions[role].sha256 for role in sorted(companions))]
        digest = hashlib.sha256(":".join(hashes).encode()).hexdigest() if companions else hashes[0]
        snapshot_id = _slug(source.id, delivery.version, file_name, digest[:HASH_IN_ID])
        last = self._find_last(source.id, file_name)
        if last.height and last["snapshot_id"].item() == snapshot_id:
            return Snapshot(**_row(last), is_new=False, companions=companions)
        now = dt.datetime.now(dt.UTC)
        if last.height:
            # What was retrieved last is current, also where the clock was set back meanwhile.
            now = max(now, last["retrieved_at"].item() + dt.timedelta(microseconds=1))
        return Snapshot(
            snapshot_id=snapshot_id,
            source=source.id,
            version=delivery.version,
            file=file_name,
            url=_name_address(delivery.address),
            sha256=kept.sha256,
            size_bytes=kept.size_bytes,
            retrieved_at=now,
            published_on=kept.published_on,
            etag=kept.etag,
            license=source.license,
            is_complete=delivery.is_complete,
            is_composite=delivery.is_composite,
            companions=companions,
        )

    def _keep(self, file: SourceFile, delivery: Delivery, earlier: Snapshot | None) -> _Kept:
        """Bring the bytes into the lake; asks only for what is newer than an earlier snapshot."""
        address, blobs = delivery.address, self.blobs
        if not delivery.is_remote:
            path = _local_path(address)
            if path.is_dir():
                pattern = file.options.get("parts", "*")
                parts = sorted(one for one in path.glob(pattern) if one.is_file())
                named = [(one.name, one) for one in parts]
                return _Kept(*blobs.store(blobs.pack(named, file.max_bytes)))
            return _Kept(*blobs.store(blobs.take(path, file.max_bytes)))
        if address.endswith("/"):
            return self._keep_parts(file, address)
        found = self._download(address, file, _conditions(earlier))
        if found is not None:
            return _Kept(*blobs.store(found.path), found.etag, found.published_on)
        if earlier is None:
            raise Fault("the server says that it has not changed, but nothing is kept of it")
        return _Kept(earlier.sha256, earlier.size_bytes, earlier.etag, earlier.published_on)

    def _keep_parts(self, file: SourceFile, address: str) -> _Kept:
        """Fetch the parts that a server's folder page lists, and keep them as one archive."""
        work = self.blobs.open_work()
        page = read_page(address, work, self.policy)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            parts = []
            for link in list_parts(page, address, file.options.get("parts", "*")):
                if found := self._download(link, file, {}):
                    name = link.rpartition("/")[2]
                    parts.append((name, Path(shutil.move(found.path, Path(folder) / name))))
            return _Kept(*self.blobs.store(self.blobs.pack(parts, file.max_bytes)))

    def _download(
        self, address: str, file: SourceFile, conditions: Mapping[str, str]
    ) -> Download | None:
        return download(
            address,
            self.blobs.open_work(),
            file.max_bytes,
            conditions=conditions,
            policy=self.policy,
            on_progress=self.on_progress,
        )

    def _find_earlier(self, source: str, file: str, delivery: Delivery) -> Snapshot | None:
        """The last snapshot of the same version from the same address whose bytes are kept."""
        same = self.known.filter(
            pl.col("source") == source,
            pl.col("file") == file,
            pl.col("version") == delivery.version,
            pl.col("url") == _name_address(delivery.address),
        ).sort("retrieved_at")
        if not same.height:
            return None
        last = Snapshot(**_row(same.tail(1)), is_new=False)
        return last if self.blobs.is_kept(last.sha256, last.size_bytes) else None

    def _locked_version(self, source: Source, file_name: str) -> str:
        locked = self.lock.get(f"{source.id}.{file_name}")
        if locked is None:
            raise SourceError(
                f"source {source.id}, file {file_name}: pinned, but the lock does not name it; "
                "run `genebench refresh --lock`"
            )
        return str(locked["version"])

    def _warn_of_drift(self, found: Snapshot) -> None:
        known = self._find_last(found.source, found.file, found.version)
        if not known.height or known["snapshot_id"].item() == found.snapshot_id:
            return
        last = known["snapshot_id"].item()
        is_back = found.snapshot_id in self.known["snapshot_id"]
        words = (
            f"has earlier bytes again; {found.snapshot_id} is current in place of {last}"
            if is_back
            else f"has new bytes; {found.snapshot_id} is kept beside {last}"
        )
        warnings.warn(
            f"source {found.source}, file {found.file}: version {found.version} {words}",
            SnapshotDrift,
            stacklevel=3,
        )

    def _find_last(self, source: str, file: str, version: str | None = None) -> pl.DataFrame:
        """The last retrieved row of a file, or of one version of it; none where there is none."""
        mine = self.known.filter(pl.col("source") == source, pl.col("file") == file)
        if version is not None:
            mine = mine.filter(pl.col("version") == version)
        return mine.sort("retrieved_at").tail(1)

    def _describe_last(self, source: Source, file_name: str) -> str:
        earlier = self._find_last(source.id, file_name)
        if not earlier.height:
            return "no earlier snapshot of it is kept"
        last = _row(earlier)
        return (
            f"the last good snapshot, {last['snapshot_id']} of "
            f"{last['retrieved_at']:%Y-%m-%d}, stays current"
        )

    def _open_mirror(self) -> Mirror | None:
        if self.place is None:
            return None
        if self._mirror is None:
            self._mirror = Mirror(self.place, self.policy)
        return self._mirror


def to_frame(snapshots: Iterable[Snapshot], run_id: str) -> pl.DataFrame:
    """The rows of `bronze.snapshots` for those snapshots, and companions, that are new."""
    flat = [one for found in snapshots for one in (*found.companions.values(), found)]
    declared = table("bronze.snapshots")
    rows = {
        (found.snapshot_id, found.retrieved_at): {
            name: run_id if name == "run_id" else getattr(found, name) for name in declared.columns
        }
        for found in flat
        if found.is_new
    }
    return conform(declared, pl.DataFrame(list(rows.values()), schema=declared.schema))


def to_rows(delivered: pl.DataFrame, found: Snapshot) -> pl.DataFrame:
    """The rows of a file's bronze table: as delivered, numbered from 0, under their snapshot."""
    return delivered.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row_number"),
        pl.lit(found.snapshot_id).alias("snapshot_id"),
    )


def lock_snapshots(snapshots: Iterable[Snapshot], path: Path = LOCK) -> None:
    """Confirm what was fetched: write version, hash and size of each file into the lock."""
    write_lock(
        {
            one.file_id: {
                "version": one.version,
                "sha256": one.sha256,
                "size_bytes": one.size_bytes,
            }
            for found in snapshots
            for one in (found, *found.companions.values())
        },
        path,
    )


def _compare_with_lock(found: Snapshot, locked: Mapping[str, Any]) -> None:
    if found.version != str(locked["version"]) or found.sha256 != locked["sha256"]:
        raise ChecksumMismatch(
            f"source {found.source}, file {found.file}: the bytes of version {found.version} "
            f"({found.url}) are {found.sha256}, the lock says {locked['sha256']} for version "
            f"{locked['version']}; look what changed, then run `genebench refresh --lock`"
        )


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
        # A file made before we last asked may have been put up after it.
        day = dt.date.fromisoformat(earlier.published_on)
        since = min(since, dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC))
    return {"If-Modified-Since": format_datetime(since, usegmt=True)}


def _local_path(address: str) -> Path:
    if address.startswith(EMBEDDED):
        return EMBEDDED_FOLDER / address.removeprefix(EMBEDDED)
    return Path(address)


def _name_address(address: str) -> str:
    if "://" in address or address.startswith(EMBEDDED):
        return address
    return Path(address).absolute().as_uri()


def _slug(*parts: str) -> str:
    return "_".join(re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in parts)


def _row(found: pl.DataFrame) -> dict[str, Any]:
    return found.drop("run_id").row(0, named=True)

"""Locates source files: in the package, in a mirror, or at their own address."""

import difflib
import fnmatch
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from genebench.registry.yaml_reader import read_yaml
from genebench.sources.declaration import Source, embedded_path
from lakehouse.refresh.http import FetchError, RetryPolicy, download

MANIFEST = "sources.yaml"
MAX_PAGE_BYTES = 10_000_000

# Characters of a URL path that are not percent-encoded.
_SAFE = "/%?&=:;,+@!$'()*~"


@dataclass(frozen=True)
class Location:
    """The address of one version of a source file.

    Args:
        version: The version, in the numbering of the source.
        address: An `http(s)` address, `embedded:<path>`, or the path of a local file or folder.
        is_complete: Whether it contains the whole version.
        is_composite: Whether it mixes versions.
        companions: Addresses of the files read together with it, by role.
    """

    version: str
    address: str
    is_complete: bool = True
    is_composite: bool = False
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Whether it is an http(s) address."""
        return "://" in self.address


class Mirror:
    """A mirror: a folder or URL with source files and a `sources.yaml` that lists them.

    Args:
        place: A local folder or an `http(s)` URL.
        policy: Timeout and retries, for a URL.

    Raises:
        FetchError: The mirror has no readable `sources.yaml`.
    """

    def __init__(self, place: str, policy: RetryPolicy | None = None) -> None:
        self.place = place
        self.is_remote = place.startswith(("http://", "https://"))
        self.entries = self._read(policy)

    def find(self, file_id: str, roles: list[str], version: str | None) -> Location:
        """Locate one version of a file; by default the last listed one that is not composite.

        Raises:
            FetchError: The mirror does not list the file or version.
        """
        entries = self.entries.get(file_id)
        if not entries:
            near = difflib.get_close_matches(file_id, self.entries, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise FetchError(f"{self._manifest} does not list the file {file_id}{hint}")
        if version is None:
            whole = [entry for entry in entries if not entry.get("composite")]
            chosen = (whole or entries)[-1]
        else:
            same = [entry for entry in entries if str(entry["version"]) == version]
            if not same:
                held = ", ".join(str(entry["version"]) for entry in entries)
                raise FetchError(
                    f"{self._manifest} does not list version {version!r} of {file_id}, but {held}"
                )
            chosen = same[-1]
        missing = [role for role in roles if role not in chosen]
        if missing:
            raise FetchError(
                f"{self._manifest} has no {missing[0]!r} in an entry of {file_id}; add its path"
            )
        wrong = [key for key in ("path", *roles) if not isinstance(chosen[key], str)]
        if wrong:
            raise FetchError(
                f"{self._manifest}: {wrong[0]!r} in an entry of {file_id} is no text; write a path"
            )
        return Location(
            version=str(chosen["version"]),
            address=self._address(chosen["path"]),
            is_complete=bool(chosen.get("complete", True)),
            is_composite=bool(chosen.get("composite", False)),
            companions={role: self._address(chosen[role]) for role in roles},
        )

    @property
    def _manifest(self) -> str:
        return self._address(MANIFEST)

    def _address(self, path: str) -> str:
        if self.is_remote:
            return urljoin(self.place.rstrip("/") + "/", quote(path, safe=_SAFE))
        return str(Path(self.place).expanduser() / path)

    def _read(self, policy: RetryPolicy | None) -> dict[str, list[dict[str, Any]]]:
        if self.is_remote:
            with tempfile.TemporaryDirectory() as folder:
                found = download(self._manifest, Path(folder), MAX_PAGE_BYTES, policy=policy)
                entries, mistakes = read_yaml(found.path if found else Path(folder))
        else:
            entries, mistakes = read_yaml(Path(self._manifest))
        for name, versions in entries.items():
            if not isinstance(versions, list) or not all(
                isinstance(entry, dict) and {"version", "path"} <= entry.keys()
                for entry in versions
            ):
                mistakes.append(f"{self._manifest}: {name}: expected a list of version and path")
                continue
            mistakes += [
                f"{self._manifest}: {name}: YAML reads version {entry['version']} as a number "
                "and drops trailing zeros; write it in quotes"
                for entry in versions
                if isinstance(entry["version"], float)
            ]
        if mistakes:
            raise FetchError(f"the mirror cannot be used: {'; '.join(mistakes)}")
        return entries


def locate(
    source: Source, file_name: str, version: str | None = None, mirror: Mirror | None = None
) -> Location:
    """Decide which address a source file is fetched from.

    Args:
        source: The source.
        file_name: One of its files.
        version: A version; by default the mirror's last, or else the declared one.
        mirror: Where files are fetched instead of at their own addresses. Only a file that is
            embedded in the package may be missing in it.

    Raises:
        FetchError: The mirror does not list it, or the package contains another version.
    """
    file = source.files[file_name]
    file_id = f"{source.id}.{file_name}"
    if mirror is not None and (file_id in mirror.entries or not file.is_embedded):
        return mirror.find(file_id, list(file.companions), version)
    if file.is_embedded:
        if version not in (None, source.version):
            raise FetchError(f"the package contains version {source.version}, not {version}")
        if not embedded_path(file).is_file():
            raise FetchError(f"{embedded_path(file)} is missing; reinstall genebench")
        return Location(source.version, file.url, companions=file.companions)
    chosen = version or source.version
    return Location(
        chosen,
        file.url_for(chosen),
        companions={role: file.url_for(chosen, role) for role in file.companions},
    )


def find_newest_version(source: Source, policy: RetryPolicy | None = None) -> str:
    """The newest version on the source's discovery page; the declared version without a page.

    Raises:
        FetchError: The page cannot be read or has no version.
    """
    if source.discover is None:
        return source.version
    with tempfile.TemporaryDirectory() as folder:
        text = read_page(source.discover.page, Path(folder), policy)
    versions = source.discover.find_versions(text)
    if not versions:
        raise FetchError(f"no version on {source.discover.page} matches the declared pattern")
    return versions[-1]


def list_parts(page: str, url: str, pattern: str) -> list[str]:
    """The links on a server's folder page whose file names match a glob, sorted."""
    links = set()
    for link in re.findall(r'href="([^"?#]+)"', page):
        # A link that is no address (`//[x`) is none of the parts.
        with suppress(ValueError):
            links.add(urljoin(url, link))
    return sorted(
        link
        for link in links
        if link.startswith(url) and fnmatch.fnmatchcase(link.rpartition("/")[2], pattern)
    )


def read_page(url: str, folder: Path, policy: RetryPolicy | None = None) -> str:
    """Download a web page and return its text."""
    found = download(url, folder, MAX_PAGE_BYTES, policy=policy, is_page=True)
    return found.path.read_text(encoding="utf-8", errors="replace") if found else ""

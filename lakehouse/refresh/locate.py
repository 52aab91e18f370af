"""Which version of a source file comes from where: the package, a mirror, or its own address."""

import difflib
import fnmatch
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from genebench.registry.yaml_reader import read_yaml
from genebench.sources.declaration import Source, embedded_path
from lakehouse.refresh.http import Fault, Policy, download

MANIFEST = "sources.yaml"
MAX_PAGE_BYTES = 10_000_000

# What stands for itself in the path of an address; above all blanks do not.
_OF_ADDRESSES = "/%?&=:;,+@!$'()*~"


@dataclass(frozen=True)
class Delivery:
    """One version of a file, and where it is.

    Args:
        version: The version, as its owner counts.
        address: An `http(s)` address, `embedded:<name>`, or the path of a local file or folder.
        is_complete: Whether it holds all of that version.
        is_composite: Whether it mixes versions.
        companions: Addresses of the files read beside it, by role.
    """

    version: str
    address: str
    is_complete: bool = True
    is_composite: bool = False
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Whether it is fetched over the network."""
        return "://" in self.address


class Mirror:
    """A folder, or an address, that holds source files and a `sources.yaml` that names them.

    Args:
        place: A local folder or an `http(s)` address.
        policy: Timeout and retries, for an address.

    Raises:
        Fault: The place has no readable `sources.yaml`.
    """

    def __init__(self, place: str, policy: Policy | None = None) -> None:
        self.place = place
        self.is_remote = place.startswith(("http://", "https://"))
        self.entries = self._read(policy)

    def find(self, file_id: str, roles: list[str], version: str | None) -> Delivery:
        """The delivery of one version; the last that is not composite, unless one is asked for.

        Raises:
            Fault: The mirror holds no such file or version; says which it holds.
        """
        entries = self.entries.get(file_id)
        if not entries:
            near = difflib.get_close_matches(file_id, self.entries, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Fault(f"{self._manifest} names no file {file_id}{hint}")
        if version is None:
            whole = [entry for entry in entries if not entry.get("composite")]
            chosen = (whole or entries)[-1]
        else:
            same = [entry for entry in entries if str(entry["version"]) == version]
            if not same:
                held = ", ".join(str(entry["version"]) for entry in entries)
                raise Fault(f"{self._manifest} holds no version {version!r} of it, but {held}")
            chosen = same[-1]
        missing = [role for role in roles if role not in chosen]
        if missing:
            raise Fault(f"{self._manifest} does not say where its {missing[0]} are")
        return Delivery(
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
            return urljoin(self.place.rstrip("/") + "/", quote(path, safe=_OF_ADDRESSES))
        return str(Path(self.place).expanduser() / path)

    def _read(self, policy: Policy | None) -> dict[str, list[dict[str, Any]]]:
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
                f"{self._manifest}: {name}: version {entry['version']} is a number to YAML, which "
                "drops zeros at its end; write it in quotes"
                for entry in versions
                if isinstance(entry["version"], float)
            ]
        if mistakes:
            raise Fault(f"the mirror cannot be used: {'; '.join(mistakes)}")
        return entries


def locate(
    source: Source, file_name: str, version: str | None = None, mirror: Mirror | None = None
) -> Delivery:
    """Decide where a source file comes from.

    Args:
        source: The source.
        file_name: One of its files.
        version: A version; by default the mirror's last, or else the declared one.
        mirror: Where files come from instead of their addresses; a file that the package carries
            may be missing there.

    Raises:
        Fault: The mirror does not hold it, or the package carries another version.
    """
    file = source.files[file_name]
    file_id = f"{source.id}.{file_name}"
    if mirror is not None and (file_id in mirror.entries or not file.is_embedded):
        return mirror.find(file_id, list(file.companions), version)
    if file.is_embedded:
        if version not in (None, source.version):
            raise Fault(f"the package carries version {source.version}, not {version}")
        if not embedded_path(file).is_file():
            raise Fault(f"{embedded_path(file)} is missing; install genebench again")
        return Delivery(source.version, file.url, companions=file.companions)
    chosen = version or source.version
    return Delivery(
        chosen,
        file.url_for(chosen),
        companions={role: file.url_for(chosen, role) for role in file.companions},
    )


def find_newest_version(source: Source, policy: Policy | None = None) -> str:
    """The newest version that the source's discovery page names; the declared one without a page.

    Raises:
        Fault: The page cannot be read or names no version.
    """
    if source.discover is None:
        return source.version
    with tempfile.TemporaryDirectory() as folder:
        text = read_page(source.discover.page, Path(folder), policy)
    versions = source.discover.find_versions(text)
    if not versions:
        raise Fault(f"{source.discover.page} names no version that fits the declared pattern")
    return versions[-1]


def list_parts(page: str, url: str, pattern: str) -> list[str]:
    """The addresses on a server's folder page whose file names fit a pattern, sorted."""
    links = {urljoin(url, link) for link in re.findall(r'href="([^"?#]+)"', page)}
    return sorted(
        link
        for link in links
        if link.startswith(url) and fnmatch.fnmatchcase(link.rpartition("/")[2], pattern)
    )


def read_page(url: str, folder: Path, policy: Policy | None = None) -> str:
    """The text of a web page."""
    found = download(url, folder, MAX_PAGE_BYTES, policy=policy, is_page=True)
    return found.path.read_text(encoding="utf-8", errors="replace") if found else ""

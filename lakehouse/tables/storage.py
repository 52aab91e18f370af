"""The location of a lake: a local folder or an S3 address with its options."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow.fs as pafs

from genebench.errors import LakeError

# delta-rs supports more stores, but source files are stored through pyarrow's S3 file system.
S3_SCHEMES = ("s3", "s3a")

# delta-rs (1.6.6) panics on some of these characters or writes to another folder, and polars (2.1)
# reads a folder above the table such as run=3 as a partition.
# Names that delta-rs takes for the same option; pyarrow's file system gets the same values.
_ALIASES = {
    "AWS_ENDPOINT": "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION": "AWS_REGION",
    "AWS_TOKEN": "AWS_SESSION_TOKEN",
}
_UNUSABLE = re.compile(r"[\[\]|^\\=]|%[0-9A-Fa-f]{2}")


class Storage:
    """The root of a lake.

    Args:
        root: A local folder, or the address of a bucket and prefix such as `s3://bucket/lake`.
        options: Options of the object store in delta-rs's names (`AWS_ACCESS_KEY_ID`,
            `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`).

    Raises:
        LakeError: The root or a folder above it is a file, the path has a character that Delta
            tables cannot have in theirs, or the address is not an S3 address.
    """

    def __init__(self, root: str | Path, options: Mapping[str, str] | None = None) -> None:
        self.options = {_option_name(name): value for name, value in (options or {}).items()}
        self.is_local = "://" not in str(root)
        if self.is_local:
            folder = Path(root).expanduser().absolute()
            if found := _UNUSABLE.search(str(folder)):
                raise LakeError(
                    f"the lake cannot be at {folder}: Delta tables do not support "
                    f"{found.group()!r} in their path; set GENEBENCH_LAKE to another folder"
                )
            for place in (folder, *folder.parents):
                if place.exists() and not place.is_dir():
                    raise LakeError(
                        f"the lake cannot be at {folder}: {place} is a file; "
                        "set GENEBENCH_LAKE to a folder"
                    )
            self.root = str(folder)
        else:
            scheme = str(root).partition("://")[0]
            if scheme not in S3_SCHEMES:
                raise LakeError(
                    f"the lake cannot be at {root}: S3 is the only supported object store; set "
                    "GENEBENCH_LAKE to an address such as s3://bucket/lake, or to a folder"
                )
            self.root = str(root).rstrip("/")

    def uri(self, *parts: str) -> str:
        """The address of a path below the root."""
        return "/".join((self.root, *parts))

    def open_filesystem(self) -> tuple[pafs.FileSystem, str]:
        """The file system that holds the root, and the root's path in it."""
        if self.is_local:
            return pafs.LocalFileSystem(), self.root
        return self._open_s3(), self.root.partition("://")[2]

    def list_folders(self, *parts: str) -> list[str]:
        """The names of the folders directly below `parts`, sorted; [] where `parts` is missing."""
        files, root = self.open_filesystem()
        selector = pafs.FileSelector("/".join((root, *parts)), allow_not_found=True)
        return sorted(
            info.base_name
            for info in files.get_file_info(selector)
            if info.type == pafs.FileType.Directory
        )

    def read_options(self) -> dict[str, str]:
        """The options of the object store, with what they leave open from the environment.

        delta-rs does the same.
        """
        named = {_option_name(name): name for name in os.environ if name.startswith("AWS_")}
        return {name: os.environ[origin] for name, origin in named.items()} | self.options

    def _open_s3(self) -> pafs.FileSystem:
        given = self.read_options()
        endpoint = given.get("AWS_ENDPOINT_URL")
        scheme, _, address = (endpoint or "https://").partition("://")
        return pafs.S3FileSystem(
            access_key=given.get("AWS_ACCESS_KEY_ID"),
            secret_key=given.get("AWS_SECRET_ACCESS_KEY"),
            session_token=given.get("AWS_SESSION_TOKEN"),
            region=given.get("AWS_REGION"),
            endpoint_override=address or None,
            scheme=scheme,
        )


def _option_name(name: str) -> str:
    """Return the one name of an option: `region` and `aws_default_region` are `AWS_REGION`."""
    upper = name.upper()
    full = upper if upper.startswith("AWS_") else f"AWS_{upper}"
    return _ALIASES.get(full, full)

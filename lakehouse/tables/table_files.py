"""The data files of a Delta table: those that its log names, and those that are stored."""

import pyarrow.fs as pafs

from lakehouse.tables.catalogue import table
from lakehouse.tables.delta import Delta
from lakehouse.tables.delta_table import open_table
from lakehouse.tables.storage import Storage

LOG_FOLDER = "_delta_log"


def list_files(storage: Storage, *parts: str) -> dict[str, int]:
    """List all files below a path of the lake.

    Returns:
        Path relative to the root of the lake, to the size in bytes; {} where the path is missing.
    """
    files, root = storage.open_filesystem()
    selector = pafs.FileSelector("/".join((root, *parts)), allow_not_found=True, recursive=True)
    prefix = f"{root.rstrip('/')}/"
    return {
        info.path.removeprefix(prefix): info.size
        for info in files.get_file_info(selector)
        if info.type == pafs.FileType.File
    }


def find_damaged_files(delta: Delta, name: str, version: int | None = None) -> list[str]:
    """Find the data files that a version of a table needs and that are missing or truncated.

    Args:
        delta: The tables of the lake.
        name: The table.
        version: The version; the newest by default.

    Raises:
        LakeError: The version cannot be opened.
    """
    declared = table(name)
    found = open_table(delta.storage, declared, version)
    if found is None:
        return []
    actions = found.get_add_actions(flatten=True)
    # Names of data files are unique; folders of partitions are percent-encoded in the log.
    sizes = {
        path.rpartition("/")[2]: size
        for path, size in list_files(delta.storage, *declared.path.split("/")).items()
    }
    paths, wanted = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
    return [
        path
        for path, size in zip(paths, wanted, strict=True)
        if sizes.get(path.rpartition("/")[2]) != size
    ]

"""The lakehouse: a Delta lake and the steps that fill it, each a package.

- `tables`: declarations of the tables, reading and writing them
- `refresh`: source files to bronze tables
- `curate`: bronze tables to entities and tasks
- `embed`: vectors of entities
- `score`: evaluations of encoders on tasks
- `report`: leaderboards, comparisons, releases, exports and the results page
- `upkeep`: finding what is wrong with a lake, backing up, restoring
- `studies`: leakage, temporal hold-out and label sensitivity
- `query`: reading a lake, also by SQL

>>> from lakehouse import open_lake
>>> open_lake("lake").leaderboard()                       # doctest: +SKIP
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakehouse.query.lake import Lake

__all__ = ["open_lake"]


def open_lake(root: str | Path | None = None) -> "Lake":
    """Open a lake for reading.

    Args:
        root: Folder or S3 URL; by default the setting `GENEBENCH_LAKE`.

    Raises:
        LakeError: The root is a file, or a URL that is not an S3 URL.
    """
    from genebench.settings import get_settings
    from lakehouse.query.lake import Lake

    settings = get_settings()
    return Lake(settings.lake if root is None else root, settings.storage_options)

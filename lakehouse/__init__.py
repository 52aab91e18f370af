"""The Delta tables of a lake: `open_lake()` gives the named reads.

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
        root: Folder or S3 URL; by default the setting `GENEBENCH_LAKE` (`./lake`).

    Raises:
        LakeError: The place is a file, or an address that is not of S3.
    """
    from genebench.settings import get_settings
    from lakehouse.query.lake import Lake

    settings = get_settings()
    return Lake(settings.lake if root is None else root, settings.storage_options)

"""Freezes a release under a permanent name."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.significance import comparison_rows, stored_rows, verdict_rows
from lakehouse.score.plan import CURRENT, require_release_name
from lakehouse.score.scores import list_releases, read_release
from lakehouse.tables.time_travel import Tables


@dataclass(frozen=True)
class FrozenRelease:
    """The rows that a frozen release adds.

    Attributes:
        rows: Table to its rows, in the order of writing. `gold.releases` comes last, so that a
            release exists only when all its other rows do.
        n_pending: Number of the release's evaluations that are not finished.
    """

    rows: Mapping[str, pl.DataFrame]
    n_pending: int


def freeze_release(
    tables: Tables, name: str, source: str = CURRENT, *, allow_pending: bool = False
) -> FrozenRelease:
    """Copy a release under a permanent name.

    Args:
        tables: The tables of the lake.
        name: The new release: lower case letters, digits and . _ -.
        source: The release that is frozen.
        allow_pending: Freeze even if evaluations are pending.

    Returns:
        The rows to write. They are computed from the current scores, not copied from the last
        `genebench report`.

    Raises:
        LakeError: The name is not valid, is taken by a release with other evaluations, or is
            reserved for `genebench score`; the source does not exist or has pending evaluations.
    """
    require_release_name(name)
    known = list_releases(tables)
    items = read_release(tables, source)
    taken = known.filter(pl.col("release_id") == name)
    if taken.height and taken["is_foreign"][0]:
        raise LakeError(f"{name!r} is an imported release; choose another name")
    if taken.height:
        before = set(read_release(tables, name)["evaluation_key"])
        n_other = len(before ^ set(items["evaluation_key"]))
        if n_other:
            raise LakeError(
                f"release {name!r} is frozen and {source!r} differs from it by {n_other:,} "
                f"evaluations; choose another name. `genebench diff {name} {source}` lists the "
                "differences"
            )
    finished = tables.table("gold.evaluations").filter(pl.col("status") != "failed")
    pending = items.lazy().join(finished, on="evaluation_key", how="anti").collect()
    if pending.height and not allow_pending:
        raise LakeError(
            f"release {source!r} has {pending.height:,} evaluations that are not finished; run "
            "`genebench score`, or freeze it without them with --allow-pending"
        )
    # Computed anew: the scores may have changed after the last `genebench report`.
    comparisons = comparison_rows(tables, source)
    rows = {
        "gold.universes": stored_rows(tables, "gold.universes", source),
        "gold.leaderboard": leaderboard_rows(tables, source),
        "gold.comparisons": comparisons,
        "gold.verdicts": verdict_rows(tables, source, comparisons),
        "gold.releases": items,
    }
    renamed = pl.lit(name).alias("release_id")
    return FrozenRelease(
        {table: found.with_columns(renamed) for table, found in rows.items()}, pending.height
    )

"""All differences of two states of a lake, as frames."""

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from genebench.errors import LakeError
from genebench.tasks.declaration import Task
from lakehouse.curate.changes import changed_samples_between
from lakehouse.curate.entity_changes import (
    entity_changes_between,
    term_changes_between,
    term_files,
)
from lakehouse.curate.state import read_curated_snapshots
from lakehouse.report.diff.lake_states import LakeState, is_same_state, state_at, state_now
from lakehouse.report.diff.score_changes import (
    SCORE_CHANGES_SCHEMA,
    compare_scores,
    count_by_fate,
    select_changed,
)
from lakehouse.tables.time_travel import Tables

_UNIVERSES_SCHEMA = pl.Schema(
    {"entity_type": pl.String}
    | dict.fromkeys(("n_before", "n_now", "n_added", "n_gone"), pl.UInt32())
)


@dataclass(frozen=True)
class LakeDiff:
    """The differences of two states.

    Attributes:
        before: The name of the earlier state.
        after: The name of the later state.
        versions: source, version_before and version_now of each source whose snapshots differ.
        entities: `entity_changes.ENTITY_CHANGES_SCHEMA`.
        terms: `entity_changes.TERM_CHANGES_SCHEMA`.
        samples: `changes.CHANGES_SCHEMA`.
        universes: See `compare_universes`.
        scores: See `score_changes.compare_scores`.
    """

    before: str
    after: str
    versions: pl.DataFrame
    entities: pl.DataFrame
    terms: pl.DataFrame
    samples: pl.DataFrame
    universes: pl.DataFrame
    scores: pl.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """The number of evaluations by what became of them; see `count_by_fate`."""
        return count_by_fate(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """The differences as JSON values; evaluations that were kept are left out."""
        frames = {
            "versions": self.versions,
            "entities": self.entities,
            "terms": self.terms,
            "samples": self.samples,
            "universes": self.universes,
            "scores": select_changed(self.scores),
        }
        names = {"before": self.before, "after": self.after, "counts": self.counts}
        return names | {name: frame.to_dicts() for name, frame in frames.items()}

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        counts = self.counts
        frames = (self.versions, self.entities, self.terms, self.samples, self.universes)
        differs = counts["computed"] + counts["removed"] + counts["unexplained"]
        return not differs and all(frame.is_empty() for frame in frames)


def diff_states(
    before: LakeState, after: LakeState, tasks: Iterable[Task], metric: str | None = None
) -> LakeDiff:
    """Compare two states of a lake.

    Args:
        before: The earlier state.
        after: The later state.
        tasks: The declared tasks; they name the files with terms.
        metric: One metric; the main one of each kind of task by default.

    Raises:
        LakeError: Rows of one of the two are gone.
    """
    curations = diff_curations(before.tables, after.tables, tasks)
    with _missing_files():
        return replace(
            curations,
            before=before.name,
            after=after.name,
            universes=compare_universes(before, after),
            scores=compare_scores(before, after, metric),
        )


@contextmanager
def _missing_files() -> Iterator[None]:
    """Raise one error for earlier tables that cannot be read any more."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"the two cannot be compared, for rows of an earlier table are gone: {error}; choose a "
            "release, a run, or a day: `genebench tidy` keeps their versions"
        ) from error


def diff_since(
    tables: Tables, when: dt.datetime, release_id: str, tasks: Iterable[Task]
) -> LakeDiff | None:
    """Compare a lake now with a time; None where it had no curation then, or is the same.

    Args:
        tables: The tables of the lake.
        when: The time.
        release_id: The release whose evaluations are compared.
        tasks: The declared tasks; they name the files with terms.
    """
    if tables.at(when).curation() is None:
        return None
    before, now = state_at(tables, when, release_id), state_now(tables, release_id)
    return None if is_same_state(before, now) else diff_states(before, now, tasks)


def diff_curations(before: Tables, after: Tables, tasks: Iterable[Task]) -> LakeDiff:
    """Compare the curations of two states of a lake, without scores.

    Raises:
        LakeError: Rows of one of the two are gone.
    """
    with _missing_files():
        return LakeDiff(
            "before",
            "now",
            compare_versions(before, after),
            entity_changes_between(before, after),
            term_changes_between(before, after, term_files(tasks)),
            changed_samples_between(before, after),
            pl.DataFrame(schema=_UNIVERSES_SCHEMA),
            pl.DataFrame(schema=SCORE_CHANGES_SCHEMA),
        )


def compare_universes(before: LakeState, after: LakeState) -> pl.DataFrame:
    """Count the entities of two universes, those of one of them and those of both.

    Returns:
        entity_type, n_before, n_now, n_added and n_gone of each type whose entities differ.
    """
    key = ["entity_type", "entity_id"]
    old, new = (
        state.tables.table("gold.universes")
        .filter(pl.col("release_id") == state.release_id)
        .select(*key, pl.lit(True).alias("is_in"))
        .unique()
        .collect()
        for state in (before, after)
    )
    both = old.join(new, on=key, how="full", suffix="_now", coalesce=True)
    was_in, is_in = pl.col("is_in").is_not_null(), pl.col("is_in_now").is_not_null()
    counts = both.group_by("entity_type").agg(
        was_in.sum().alias("n_before"),
        is_in.sum().alias("n_now"),
        (is_in & ~was_in).sum().alias("n_added"),
        (was_in & ~is_in).sum().alias("n_gone"),
    )
    return counts.filter((pl.col("n_added") > 0) | (pl.col("n_gone") > 0)).sort("entity_type")


def compare_versions(before: Tables, after: Tables) -> pl.DataFrame:
    """List the sources whose snapshots differ.

    Returns:
        source, version_before, version_now and n_files.
    """
    old, new = (_read_versions(tables) for tables in (before, after))
    both = old.join(new, on=["source", "file"], how="full", suffix="_now", coalesce=True)
    return (
        both.filter(pl.col("snapshot_id").ne_missing(pl.col("snapshot_id_now")))
        .group_by("source")
        .agg(
            pl.col("version").drop_nulls().unique().sort().str.join(", ").alias("version_before"),
            pl.col("version_now").drop_nulls().unique().sort().str.join(", ").alias("version_now"),
            pl.len().alias("n_files"),
        )
        .sort("source")
    )


def _read_versions(tables: Tables) -> pl.DataFrame:
    """source, file, version and snapshot_id of the snapshots that the curation read."""
    used = pl.Series(list(read_curated_snapshots(tables).values()), dtype=pl.String)
    rows = tables.table("bronze.snapshots").collect()
    return (
        rows.filter(pl.col("snapshot_id").is_in(used.implode()))
        .unique("snapshot_id")
        .select("source", "file", "version", "snapshot_id")
    )

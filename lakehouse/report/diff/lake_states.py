"""The states of a lake that can be compared: releases, finished runs, and times."""

import datetime as dt
from dataclasses import dataclass

import polars as pl

from genebench.errors import LakeError
from lakehouse.curate.changes import release_time
from lakehouse.score.plan import CURRENT, current_release
from lakehouse.score.scores import list_releases, read_release
from lakehouse.tables.manifest import RUNS, FinishedRun, finished_runs
from lakehouse.tables.names import did_you_mean
from lakehouse.tables.time_travel import Tables, read_time

_SCORE = "score"
_RELEASES = "gold.releases"
N_RUNS_SHOWN = 5
MIN_ID_LENGTH = 6


@dataclass(frozen=True)
class LakeState:
    """A release of a lake, with the tables as they were.

    Attributes:
        name: The release, run or time by which the state was found.
        release_id: The release whose evaluations are compared.
        tables: All tables when the release was frozen, when the run ended, or at the time.
        scored: All tables when the release was planned: its digests are of these.
    """

    name: str
    release_id: str
    tables: Tables
    scored: Tables

    def items(self) -> pl.DataFrame:
        """Read the rows of `gold.releases`; none where the release did not exist yet."""
        return _release_rows(self.tables, self.release_id)


def find_state(tables: Tables, name: str, release_id: str) -> LakeState:
    """Find a state by the name of a release, the id of a run (or its start), or a time.

    Args:
        tables: The tables of the lake.
        name: Such as `2026.1`, `current`, `1f0c9b72` or `2026-11-20`.
        release_id: The release to read of a run or a time.

    Raises:
        LakeError: Nothing has this name; the message lists what can be compared.
    """
    releases = _computed_releases(tables)
    if name in releases or not releases:
        return _release_state(tables, name)
    runs = [run for run in _runs(tables) if run.run_id.startswith(name)]
    ids = {run.run_id for run in runs}
    if len(name) >= MIN_ID_LENGTH and len(ids) == 1:
        return state_at(tables, runs[-1].finished_at, release_id, name)
    try:
        when = read_time(name)
    except LakeError:
        raise LakeError(
            f"there is no release, run or day {name!r}{did_you_mean(name, releases)}; "
            f"{describe_choices(tables, release_id)}"
        ) from None
    state = state_at(tables, when, release_id, name)
    if state.tables.table("silver.tasks").limit(1).collect().is_empty():
        raise LakeError(
            f"the lake {tables.delta.storage.root} had no tasks on {when:%Y-%m-%d %H:%M} UTC; "
            f"{describe_choices(tables, release_id)}"
        )
    return state


def choose_states(
    tables: Tables, release_id: str, before: str | None = None, after: str | None = None
) -> tuple[LakeState, LakeState]:
    """Find two states by name; by default the newest release and the one before.

    Args:
        tables: The tables of the lake.
        release_id: The release to read of a run or a time.
        before: The name of the earlier state; see `find_state`.
        after: The name of the later state; by default `release_id`.

    Raises:
        LakeError: Nothing has the name, the lake has one state only, or the first is the later one.
    """
    if before is None:
        return default_states(tables, release_id)
    names = (before, after or release_id)
    first, second = (find_state(tables, name, release_id) for name in names)
    now = dt.datetime.now(dt.UTC)
    if (first.tables.as_of or now) > (second.tables.as_of or now):
        raise LakeError(
            f"{first.name} is later than {second.name}; the earlier one comes first: "
            f"`genebench diff {second.name} {first.name}`"
        )
    return first, second


def state_at(
    tables: Tables, when: dt.datetime, release_id: str, name: str | None = None
) -> LakeState:
    """The state of a release at a time; by default it is named by the time."""
    seen = tables.at(when)
    scored = _scored(tables, _release_rows(seen, release_id), seen)
    return LakeState(name or f"{when:%Y-%m-%d %H:%M}", release_id, seen, scored)


def state_now(tables: Tables, release_id: str) -> LakeState:
    """The state of a release that score rewrites, as it is now."""
    items = _release_rows(tables, release_id)
    return LakeState(release_id, release_id, tables, _scored(tables, items, tables))


def default_states(tables: Tables, release_id: str) -> tuple[LakeState, LakeState]:
    """Find the newest release and the one before.

    The newest is `release_id` where it differs from the release frozen last. Where no other release
    is frozen, the one before is the state of `release_id` before its last change.

    Raises:
        LakeError: The lake has only one state; the message lists what can be compared.
    """
    newest = _release_state(tables, release_id)
    for name in _frozen_releases(tables, release_id)[-1:]:
        frozen = _release_state(tables, name)
        newest = frozen if is_same_state(frozen, newest) else newest
    before = state_before(tables, newest.name)
    if before is None:
        raise LakeError(
            f"release {newest.name!r} has no earlier state to compare with; refresh and score "
            "again, or freeze a release now (`genebench release 2026.1`) and compare later; "
            f"{describe_choices(tables, release_id)}"
        )
    return before, newest


def state_before(tables: Tables, release_id: str) -> LakeState | None:
    """Find the release frozen before a release, or its own state before; None where none is."""
    newest = _release_state(tables, release_id)
    frozen = [_release_state(tables, name) for name in _frozen_releases(tables, release_id)]
    names = [state.name for state in frozen]
    earlier = frozen[: names.index(release_id)] if release_id in names else frozen
    different = [state for state in earlier if not is_same_state(state, newest)]
    return different[-1] if different else _state_before(tables, newest)


def is_same_state(one: LakeState, other: LakeState) -> bool:
    """Whether two states have the same evaluations and the same curation."""
    keys = [set(state.items()["evaluation_key"]) for state in (one, other)]
    return keys[0] == keys[1] and one.tables.curation() == other.tables.curation()


def describe_choices(tables: Tables, release_id: str) -> str:
    """List what can be compared: releases, the last runs that changed one, and days."""
    releases = _computed_releases(tables)
    runs = [f"{one.run_id[:8]} ({one.finished_at:%Y-%m-%d %H:%M})" for one in _score_runs(tables)]
    parts = [f"releases: {', '.join(releases) or 'none'}"]
    if runs:
        parts.append(f"runs of score: {', '.join(runs[-N_RUNS_SHOWN:])}")
    parts.append(f"or a day, such as {dt.datetime.now(dt.UTC):%Y-%m-%d}, of {release_id!r}")
    return "there are " + "; ".join(parts)


def _computed_releases(tables: Tables) -> list[str]:
    releases = list_releases(tables)
    return releases.filter(~pl.col("is_foreign"))["release_id"].to_list()


def _frozen_releases(tables: Tables, release_id: str) -> list[str]:
    """The frozen releases of the same protocol as a release, the earliest first."""
    protocols = set(_release_rows(tables, release_id)["protocol_id"])
    times = {}
    for name in _computed_releases(tables):
        same = set(_release_rows(tables, name)["protocol_id"]) & protocols
        written = release_time(tables, name)
        if same and written and not name.startswith(CURRENT):
            times[name] = written
    return sorted(times, key=lambda name: (times[name], name))


def _release_rows(tables: Tables, release_id: str) -> pl.DataFrame:
    return tables.table(_RELEASES).filter(pl.col("release_id") == release_id).collect()


def _release_state(tables: Tables, name: str) -> LakeState:
    """The state of a release: as it is now if score rewrites it, else when it was frozen."""
    items = read_release(tables, name)
    written = None if name.startswith(CURRENT) else release_time(tables, name)
    seen = tables if written is None else tables.at(written)
    return LakeState(name, name, seen, _scored(tables, items, seen))


def _scored(tables: Tables, items: pl.DataFrame, seen: Tables) -> Tables:
    """The tables when the run that planned a release had ended; `seen` where that is unknown."""
    planned = set(items["run_id"].drop_nulls())
    ended = [run.finished_at for run in _runs(tables) if run.run_id in planned]
    return tables.at(max(ended)) if ended else seen


def _runs(tables: Tables) -> list[FinishedRun]:
    return finished_runs(tables.table(RUNS).collect())


def _score_runs(tables: Tables) -> list[FinishedRun]:
    """The runs of score that changed a release, the earliest first."""
    rows = tables.table(RUNS).filter(pl.col("verb") == _SCORE).collect()
    return [run for run in finished_runs(rows) if _RELEASES in run.versions]


def _state_before(tables: Tables, newest: LakeState) -> LakeState | None:
    """The state that an earlier run of score left of the same release; None where there is none.

    A frozen release is a copy of the release that score rewrites under its protocol.
    """
    items, limit = newest.items(), newest.tables.as_of
    is_frozen = not newest.release_id.startswith(CURRENT)
    release_id = current_release(items["protocol_id"][0]) if is_frozen else newest.release_id
    for run in reversed(_score_runs(tables)):
        if limit is not None and run.finished_at > limit:
            continue
        state = state_at(tables, run.finished_at, release_id, run.run_id[:8])
        if run.run_id in set(state.items()["run_id"]) and not is_same_state(state, newest):
            return state
    return None

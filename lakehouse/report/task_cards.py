"""Task cards: what a task is, where it comes from, how large it is and how large it was."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from genebench.registry.loading import Registry
from genebench.tasks.declaration import FAMILY_TITLES, Task
from lakehouse.tables.time_travel import Tables

HEAD = ("task", "kind", "rows", "labels", "published rows", "reason of a difference")
SHARED_SYMBOLS = "the paper counts after the restriction to symbols shared by all of its models"


@dataclass(frozen=True)
class Card:
    """One declared task beside what the lake holds of it.

    Attributes:
        task: The declaration.
        row: Its row of `silver.tasks`; None where it could not be built.
        snapshots: The rows of `bronze.snapshots` that it was built from.
        pinned: Source to the version that its declaration names, the paper's where it states one.
        absence: Why it could not be built.
    """

    task: Task
    row: Mapping[str, Any] | None
    snapshots: tuple[Mapping[str, Any], ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    absence: str | None = None

    @property
    def n_samples(self) -> int | None:
        """How many samples the lake holds, before any universe."""
        return None if self.row is None else int(self.row["n_samples"])

    @property
    def published(self) -> int | None:
        """The published number of rows."""
        return self.task.paper.size if self.task.paper else None

    @property
    def counts(self) -> dict[str, int]:
        """What became of the source's rows, by reason."""
        return {} if self.row is None else json.loads(self.row["counts"])

    @property
    def versions(self) -> list[str]:
        """Each source's version, and whether the file at hand is all of it."""
        return sorted({_version_words(one) for one in self.snapshots})

    @property
    def balance(self) -> str:
        """How the labels are spread."""
        if self.row is None:
            return ""
        row, kind = self.row, self.task.kind
        if kind == "binary":
            return f"{row['label_density']:.1%} {row['positive']}"
        if kind == "multiclass":
            return f"{row['n_labels']} classes, the smallest of {row['n_smallest_class']:,}"
        if kind == "multilabel":
            present = row["label_density"] * row["n_labels"]
            rarest = f"the rarest on {row['n_smallest_class']:,}"
            return f"{row['n_labels']} labels, {present:.1f} a sample, {rarest}"
        return "numbers"

    @property
    def difference(self) -> str:
        """Why the number of rows is not the published one; empty where it is."""
        if self.row is None:
            return f"not applicable: {self.absence}" if self.absence else "not built yet"
        if self.task.paper is None:
            return "not in the paper"
        if self.published is None:
            return "the paper gives no number"
        if self.n_samples == self.published:
            return ""
        causes: list[str | None] = [self.task.paper.reason]
        causes += [_version_cause(one, self.pinned) for one in self.snapshots]
        if self.task.deviation and not self.task.paper.reason:
            causes.append("its definition deviates, as its card says")
        told = list(dict.fromkeys(cause for cause in causes if cause))
        return "; ".join(told) or SHARED_SYMBOLS

    @property
    def cells(self) -> tuple[str, ...]:
        """One line of a table of tasks; see `HEAD`."""
        labels = "" if self.row is None else f"{self.row['n_labels']:,}"
        return (
            f"`{self.task.id}`",
            self.task.kind,
            _number(self.n_samples),
            labels,
            _number(self.published),
            self.difference,
        )


def make_cards(
    registry: Registry,
    tasks: pl.DataFrame,
    snapshots: pl.DataFrame,
    absences: Mapping[str, str] | None = None,
) -> list[Card]:
    """The cards of all declared tasks, by family in the paper's order.

    Args:
        registry: The declarations.
        tasks: Rows of `silver.tasks`.
        snapshots: Rows of `bronze.snapshots`.
        absences: Task to the reason why it could not be built.
    """
    rows = {row["task_id"]: row for row in tasks.iter_rows(named=True)}
    retrieved = snapshots.sort("retrieved_at")
    known = {row["snapshot_id"]: row for row in retrieved.iter_rows(named=True)}
    order = list(FAMILY_TITLES)
    cards = []
    for task in sorted(registry.tasks.values(), key=lambda task: order.index(task.family)):
        row = rows.get(task.id)
        used = dict.fromkeys(row["snapshot_id"].split(",")) if row else {}
        pinned = {
            name: registry.sources[name].version
            for name in {file_id.split(".")[0] for file_id in task.source} & set(registry.sources)
        }
        found = tuple(known[snapshot_id] for snapshot_id in used if snapshot_id in known)
        cards.append(Card(task, row, found, pinned, (absences or {}).get(task.id)))
    return cards


def read_cards(
    lake: Tables, registry: Registry, absences: Mapping[str, str] | None = None
) -> list[Card]:
    """The cards of all declared tasks, with what a lake holds of them."""
    tasks = lake.table("silver.tasks").collect()
    return make_cards(registry, tasks, lake.table("bronze.snapshots").collect(), absences)


def curated_markdown(lake: Tables, registry: Registry, absences: Mapping[str, str]) -> str:
    """All tasks beside their published sizes, for the artifact of a run."""
    cards = read_cards(lake, registry, absences)
    built = sum(card.row is not None for card in cards)
    equal = sum(card.row is not None and card.n_samples == card.published for card in cards)
    lines = [
        f"**{built} of {len(cards)} tasks are built, {equal} with the published number of rows.**",
        "",
        *_table(HEAD, (card.cells for card in cards)),
        "",
        "`genebench show TASK` says more of each.",
        "`genebench validations --html FILE` writes what was expected of every table and found.",
    ]
    return "\n".join(lines) + "\n"


def card_rows(card: Card) -> list[tuple[str, str]]:
    """A card as lines of name and value."""
    task = card.task
    rows = [
        ("title", task.title),
        ("definition", task.description),
        ("family", FAMILY_TITLES[task.family]),
        ("kind", task.kind),
        ("entities", " and ".join(task.entity)),
        ("source", ", ".join(dict.fromkeys(task.source))),
        ("versions", "; ".join(card.versions)),
        ("recipe", f"{task.recipe} {json.dumps(task.arguments, ensure_ascii=False)}"),
        ("deviates from the published", task.deviation or ""),
        ("published as", task.paper.task if task.paper else ""),
        ("published rows", _number(card.published)),
        ("rows", _number(card.n_samples)),
        ("why they differ", card.difference),
        ("labels", card.balance),
        ("rows left out, or kept apart", _told(card.counts)),
        ("superseded by", task.superseded_by or ""),
    ]
    return [(name, value) for name, value in rows if value]


def render_task_cards(cards: Iterable[Card]) -> str:
    """The page of all task cards, in Markdown."""
    cards = list(cards)
    lines = [
        "# Tasks of the paper",
        "",
        "Made by `genebench cards docs/tasks.md` from `genebench/tasks/paper/` and a lake.",
        "Rows are samples before any universe; each card names the versions of its sources.",
    ]
    for family, title in FAMILY_TITLES.items():
        mine = [card for card in cards if card.task.family == family]
        if not mine:
            continue
        lines += ["", f"## {title}", "", *_table(HEAD, (card.cells for card in mine))]
        for card in mine:
            lines += ["", f"### {card.task.id}", ""]
            lines += [f"- **{name}**: {_escape(value)}" for name, value in card_rows(card)]
    return "\n".join(lines) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _told(counts: Mapping[str, int]) -> str:
    left = {name: n for name, n in counts.items() if n and name not in ("rows", "source rows")}
    return ", ".join(f"{name} {n:,}" for name, n in left.items())


def _version_words(snapshot: Mapping[str, Any]) -> str:
    words = f"{snapshot['source']} {snapshot['version']}"
    if snapshot["is_composite"]:
        return f"{words} (mixes versions)"
    return words if snapshot["is_complete"] else f"{words} (in part)"


def _version_cause(snapshot: Mapping[str, Any], pinned: Mapping[str, str]) -> str | None:
    source, version = snapshot["source"], snapshot["version"]
    wanted = pinned.get(source, version)
    if snapshot["is_composite"]:
        return f"{source} {version} mixes versions and holds part of {wanted}"
    causes = []
    if wanted not in (version, "current"):
        causes.append(f"{source} {version} instead of {wanted}")
    if not snapshot["is_complete"]:
        causes.append(f"the file holds part of {source} {version}")
    return ", ".join(causes) or None

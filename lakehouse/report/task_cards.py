"""Task cards: definition, sources, sizes and published sizes of each declared task."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from genebench.registry.registry import Registry
from genebench.tasks.declaration import FAMILY_TITLES, Task
from lakehouse.tables.time_travel import Tables

TABLE_HEADER = ("task", "kind", "rows", "labels", "published rows", "reason for the difference")
SHARED_SYMBOLS = "the paper counts after the restriction to symbols shared by all of its models"


@dataclass(frozen=True)
class TaskCard:
    """A declared task and its state in the lake.

    Attributes:
        task: The declaration.
        row: The task's row of `silver.tasks`; None if it was not built.
        snapshots: The rows of `bronze.snapshots` that the task was built from.
        pinned: Source to its declared version.
        absence: Why the task could not be built.
    """

    task: Task
    row: Mapping[str, Any] | None
    snapshots: tuple[Mapping[str, Any], ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    absence: str | None = None

    @property
    def n_samples(self) -> int | None:
        """The number of samples in the lake, before any universe; None if it was not built."""
        return None if self.row is None else int(self.row["n_samples"])

    @property
    def published(self) -> int | None:
        """The published number of rows."""
        return self.task.paper.size if self.task.paper else None

    @property
    def counts(self) -> dict[str, int]:
        """The number of source rows by what was done with them, such as `unresolved`."""
        return {} if self.row is None else json.loads(self.row["counts"])

    @property
    def versions(self) -> list[str]:
        """The version of each source, with a note if its file is incomplete or mixes versions."""
        return sorted({_describe_version(one) for one in self.snapshots})

    @property
    def balance(self) -> str:
        """The label balance as text."""
        if self.row is None:
            return ""
        row, kind = self.row, self.task.kind
        if kind == "binary":
            return f"{row['label_density']:.1%} {row['positive']}"
        if kind == "multiclass":
            return (
                f"{row['n_labels']} classes, the smallest has {row['n_smallest_class']:,} samples"
            )
        if kind == "multilabel":
            present = row["label_density"] * row["n_labels"]
            rarest = f"the rarest has {row['n_smallest_class']:,} samples"
            return f"{row['n_labels']} labels, {present:.1f} per sample, {rarest}"
        return "numbers"

    @property
    def difference(self) -> str:
        """Why the number of rows differs from the published one; empty if it does not."""
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
            causes.append("its definition deviates from the paper's, see its card")
        known = list(dict.fromkeys(cause for cause in causes if cause))
        return "; ".join(known) or SHARED_SYMBOLS

    @property
    def cells(self) -> tuple[str, ...]:
        """The task's row of the task table, with the columns of `TABLE_HEADER`."""
        labels = "" if self.row is None else f"{self.row['n_labels']:,}"
        return (
            f"`{self.task.id}`",
            self.task.kind,
            _number(self.n_samples),
            labels,
            _number(self.published),
            self.difference,
        )


def make_task_cards(
    registry: Registry,
    tasks: pl.DataFrame,
    snapshots: pl.DataFrame,
    absences: Mapping[str, str] | None = None,
) -> list[TaskCard]:
    """Build the cards of all declared tasks, sorted by family in the paper's order.

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
        cards.append(TaskCard(task, row, found, pinned, (absences or {}).get(task.id)))
    return cards


def read_task_cards(
    tables: Tables, registry: Registry, absences: Mapping[str, str] | None = None
) -> list[TaskCard]:
    """Read the lake and build the cards of all declared tasks."""
    tasks = tables.table("silver.tasks").collect()
    return make_task_cards(registry, tasks, tables.table("bronze.snapshots").collect(), absences)


def curated_markdown(tables: Tables, registry: Registry, absences: Mapping[str, str]) -> str:
    """Render all tasks with their published sizes as Markdown, for the artifact of a run."""
    cards = read_task_cards(tables, registry, absences)
    built = sum(card.row is not None for card in cards)
    equal = sum(card.row is not None and card.n_samples == card.published for card in cards)
    lines = [
        f"**{built} of {len(cards)} tasks were built, {equal} with the published number of rows.**",
        "",
        *_table(TABLE_HEADER, (card.cells for card in cards)),
        "",
        "`genebench show TASK` prints the card of a task.",
        "`genebench validations --html FILE` writes the results of all table validations.",
    ]
    return "\n".join(lines) + "\n"


def card_rows(card: TaskCard) -> list[tuple[str, str]]:
    """Return a card as pairs of name and value, without empty values."""
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
        ("deviation from the paper", task.deviation or ""),
        ("published as", task.paper.task if task.paper else ""),
        ("published rows", _number(card.published)),
        ("rows", _number(card.n_samples)),
        ("reason for the difference", card.difference),
        ("labels", card.balance),
        ("excluded or merged rows", _format_counts(card.counts)),
        ("superseded by", task.superseded_by or ""),
    ]
    return [(name, value) for name, value in rows if value]


def render_task_cards(cards: Iterable[TaskCard]) -> str:
    """Render all task cards as one Markdown page."""
    cards = list(cards)
    lines = [
        "# Tasks of the paper",
        "",
        "Generated by `genebench cards docs/tasks.md` from a lake and the declarations in",
        "`genebench/tasks/declared/paper/`.",
        "Rows are samples before any universe. Each card lists the versions of its sources.",
    ]
    for family, title in FAMILY_TITLES.items():
        of_family = [card for card in cards if card.task.family == family]
        if not of_family:
            continue
        lines += ["", f"## {title}", "", *_table(TABLE_HEADER, (card.cells for card in of_family))]
        for card in of_family:
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


def _format_counts(counts: Mapping[str, int]) -> str:
    reasons = {name: n for name, n in counts.items() if n and name not in ("rows", "source rows")}
    return ", ".join(f"{name} {n:,}" for name, n in reasons.items())


def _describe_version(snapshot: Mapping[str, Any]) -> str:
    text = f"{snapshot['source']} {snapshot['version']}"
    if snapshot["is_composite"]:
        return f"{text} (mixes versions)"
    return text if snapshot["is_complete"] else f"{text} (incomplete)"


def _version_cause(snapshot: Mapping[str, Any], pinned: Mapping[str, str]) -> str | None:
    source, version = snapshot["source"], snapshot["version"]
    wanted = pinned.get(source, version)
    if snapshot["is_composite"]:
        return f"{source} {version} mixes versions and holds a part of {wanted}"
    causes = []
    if wanted not in (version, "current"):
        causes.append(f"{source} {version} instead of {wanted}")
    if not snapshot["is_complete"]:
        causes.append(f"the file holds a part of {source} {version}")
    return ", ".join(causes) or None

"""The summary of a flow run: what it did, skipped and refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from genebench.errors import GenebenchError

# What the entries of a summary are, by verb.
UNITS = {
    "refresh": "source files",
    "curate": "tables and tasks",
    "embed": "encoders",
    "score": "encoders",
    "report": "tables and files",
}


@dataclass
class RunSummary:
    """What one flow run did: printed in a terminal, and saved as an artifact of the run.

    Attributes:
        verb: The flow.
        done: What was written, with a description.
        skipped: What was there already, with a description.
        refused: What could not be done, with the reason.
        seconds: How long the run took; set by `benchmark`.
    """

    verb: str
    done: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def headline(self) -> str:
        """One line: the numbers of things done, skipped and refused."""
        return f"{self.verb}: {self._counts()}"

    @property
    def stage_line(self) -> str:
        """The headline as one line of a benchmark, in columns, with the time that it took."""
        counts = self._counts(UNITS.get(self.verb, ""))
        time = "" if self.seconds is None else _duration(self.seconds)
        return f"{self.verb:<8} {counts:<50} {time:>12}".rstrip()

    def _counts(self, unit: str = "") -> str:
        parts = [f"{len(self.done)} {unit} done".replace("  ", " ")]
        parts.append(f"{len(self.skipped)} already there")
        if self.refused:
            parts.append(f"{len(self.refused)} refused")
        return ", ".join(parts)

    def to_markdown(self) -> str:
        """A Markdown table of what was done, was already there, and was refused."""
        lines = [f"**{self.headline}**", "", "| what | state | |", "|---|---|---|"]
        for state, entries in (
            ("done", self.done),
            ("already there", self.skipped),
            ("refused", self.refused),
        ):
            lines += [f"| `{name}` | {state} | {_cell(text)} |" for name, text in entries.items()]
        return "\n".join(lines)


class Unfinished(GenebenchError):
    """Part of a flow run failed; the rest is done and kept.

    Args:
        summary: The summary of the run.
        failures: What failed, with the reasons.
    """

    exit_code = 2

    def __init__(self, summary: RunSummary, failures: Mapping[str, str]) -> None:
        self.summary = summary
        self.failures = dict(failures)
        listed = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        super().__init__(
            f"{summary.verb}: {len(failures)} failed, the rest is done and kept:\n{listed}"
        )

    def __reduce__(self) -> tuple[type["Unfinished"], tuple[RunSummary, dict[str, str]]]:
        return type(self), (self.summary, self.failures)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")

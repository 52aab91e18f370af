"""What a flow did, skipped and refused: printed in a terminal, kept as the run's artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from genebench.errors import GenebenchError

# Names of final states. Automations tell by them whether the next verb has anything to do.
NOTHING_NEW = "NothingNew"
PARTLY_DONE = "PartlyDone"


@dataclass
class RunSummary:
    """The account of one flow run.

    Attributes:
        verb: The flow.
        done: What was written, with a word about it.
        skipped: What was there already.
        refused: What could not be done, with the reason.
    """

    verb: str
    done: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """One line: how much was done, skipped and refused."""
        parts = [f"{len(self.done)} done", f"{len(self.skipped)} already there"]
        if self.refused:
            parts.append(f"{len(self.refused)} refused")
        return f"{self.verb}: {', '.join(parts)}"

    def to_markdown(self) -> str:
        """A table of everything the run did, did not need to do, and could not do."""
        lines = [f"**{self.headline}**", "", "| what | state | |", "|---|---|---|"]
        for state, entries in (
            ("done", self.done),
            ("already there", self.skipped),
            ("refused", self.refused),
        ):
            lines += [f"| `{name}` | {state} | {_cell(word)} |" for name, word in entries.items()]
        return "\n".join(lines)


class Unfinished(GenebenchError):
    """Some of a run's work failed; the rest is done and kept.

    Args:
        outcome: The account of the run.
        failures: What failed, with the reasons.
    """

    def __init__(self, outcome: RunSummary, failures: Mapping[str, str]) -> None:
        self.outcome = outcome
        self.failures = dict(failures)
        listed = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        super().__init__(
            f"{outcome.verb}: {len(failures)} failed, the rest is done and kept:\n{listed}"
        )

    def __reduce__(self) -> tuple[type["Unfinished"], tuple[RunSummary, dict[str, str]]]:
        return type(self), (self.outcome, self.failures)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")

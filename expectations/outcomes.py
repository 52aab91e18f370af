"""What a check found, as rows for the audit tables and as text for people."""

import datetime as dt
from dataclasses import dataclass, field

import polars as pl

from genebench.errors import ExpectationFailed
from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import conform

N_QUARANTINED = 1000


@dataclass(frozen=True)
class Outcome:
    """What came of one expectation.

    Args:
        expectation_id: Its name within the table.
        severity: `critical` or `warning`.
        because: What goes wrong where it is not met.
        is_met: Whether it holds; never where it raised.
        has_raised: Whether it could not be computed, say because a column is missing.
        observed: What was seen, in words.
        n_unexpected: How many rows break it; None where it raised.
        examples: Some of them, as text.
        rows: The rows that break it, at most `N_QUARANTINED`.
    """

    expectation_id: str
    severity: str
    because: str
    is_met: bool
    has_raised: bool = False
    observed: str | None = None
    n_unexpected: int | None = 0
    examples: tuple[str, ...] = ()
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)


@dataclass(frozen=True)
class Report:
    """All outcomes for one frame.

    Args:
        table_name: The table that the frame is for.
        n_rows: Its number of rows.
        outcomes: One for each expectation that was checked.
        skipped: Expectations that were not, because a table they need was not given.
    """

    table_name: str
    n_rows: int
    outcomes: tuple[Outcome, ...]
    skipped: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether every critical expectation is met: the gate into the table."""
        return not any(outcome.severity == "critical" for outcome in self.failures)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """What is not met, critical first."""
        failed = [outcome for outcome in self.outcomes if not outcome.is_met]
        return tuple(sorted(failed, key=lambda outcome: outcome.severity))

    @property
    def raised(self) -> tuple[Outcome, ...]:
        """What could not be computed."""
        return tuple(outcome for outcome in self.outcomes if outcome.has_raised)

    def require(self) -> None:
        """Do nothing where the gate is open.

        Raises:
            ExpectationFailed: A critical expectation is not met; names each with examples.
        """
        if self.is_met:
            return
        lines = [
            f"  {outcome.expectation_id}: {_describe(outcome)}"
            for outcome in self.failures
            if outcome.severity == "critical"
        ]
        raise ExpectationFailed(
            f"{self.table_name}: {len(lines)} critical expectations are not met; the "
            f"{self.n_rows} new rows are kept out, the table stays as it was:\n"
            + "\n".join(lines)
            + "\nlook at audit.validations and audit.quarantine, mend the source or its recipe"
        )

    def to_frame(self, run_id: str) -> pl.DataFrame:
        """The rows of `audit.validations`."""
        declared = table("audit.validations")
        now = dt.datetime.now(dt.UTC)
        rows = [
            {
                "table_name": self.table_name,
                "expectation_id": outcome.expectation_id,
                "severity": outcome.severity,
                "is_met": outcome.is_met,
                "has_raised": outcome.has_raised,
                "observed": outcome.observed,
                "n_unexpected": outcome.n_unexpected,
                "examples": list(outcome.examples),
                "run_id": run_id,
                "validated_at": now,
            }
            for outcome in self.outcomes
        ]
        return conform(declared, pl.DataFrame(rows, schema=declared.schema))

    def to_quarantine(self, run_id: str) -> pl.DataFrame:
        """The rows of `audit.quarantine`: what each unmet critical expectation found."""
        declared = table("audit.quarantine")
        now = dt.datetime.now(dt.UTC)
        rows = [
            {
                "table_name": self.table_name,
                "run_id": run_id,
                "expectation_id": outcome.expectation_id,
                "row_number": number,
                "row_json": line,
                "quarantined_at": now,
            }
            for outcome in self.failures
            if outcome.severity == "critical" and outcome.rows.width
            for number, line in enumerate(outcome.rows.write_ndjson().splitlines())
        ]
        return conform(declared, pl.DataFrame(rows, schema=declared.schema))

    def to_markdown(self) -> str:
        """A table of what is not met, after one line that says how much is."""
        n_met = sum(outcome.is_met for outcome in self.outcomes)
        verdict = "accepted" if self.is_met else "REFUSED"
        met = f"{n_met} of {len(self.outcomes)} expectations met on {self.n_rows} rows"
        lines = [f"**{self.table_name}**: {met}; {verdict}"]
        if self.skipped:
            lines.append(f"\nNot checked, for want of tables to compare: {', '.join(self.skipped)}")
        if self.failures:
            lines += ["", "| expectation | severity | found | because |", "|---|---|---|---|"]
        for outcome in self.failures:
            found = _describe(outcome).replace("|", "\\|").replace("\n", " ")
            lines.append(
                f"| {outcome.expectation_id} | {outcome.severity} | {found} | {outcome.because} |"
            )
        return "\n".join(lines) + "\n"


def _describe(outcome: Outcome) -> str:
    if outcome.has_raised:
        return f"could not be checked: {outcome.observed}"
    shown = "; ".join(outcome.examples)
    return f"{outcome.observed}, such as {shown}" if shown else str(outcome.observed)

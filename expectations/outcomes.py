"""The report of a validation: audit rows, error message and Markdown."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from expectations.declared import expectations_of
from genebench.errors import ExpectationFailed
from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import conform

N_QUARANTINED = 1000


@dataclass(frozen=True)
class Outcome:
    """The outcome of one expectation for one frame.

    Attributes:
        expectation_id: Id of the expectation, unique within the table.
        severity: `critical` or `warning`.
        because: Why the expectation must hold.
        is_met: Whether it holds; False if it raised.
        has_raised: Whether it could not be evaluated, for example because a column is missing.
        observed: The number of violating rows, or the error message, as text.
        n_unexpected: Number of violating rows; None if it raised.
        examples: Some violating rows or values, as text.
        rows: The violating rows, at most `N_QUARANTINED`.
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
class ValidationReport:
    """The outcomes of all expectations for one frame.

    Attributes:
        table_name: The table that the frame is written to.
        n_rows: Number of rows of the frame.
        outcomes: One for each expectation that was evaluated.
        skipped: Ids of expectations that were skipped, because a table they need was not given.
    """

    table_name: str
    n_rows: int
    outcomes: tuple[Outcome, ...]
    skipped: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether all critical expectations are met, so that the frame may be written."""
        return not any(outcome.severity == "critical" for outcome in self.failures)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that are not met, critical ones first."""
        failed = [outcome for outcome in self.outcomes if not outcome.is_met]
        return tuple(sorted(failed, key=lambda outcome: outcome.severity))

    @property
    def raised(self) -> tuple[Outcome, ...]:
        """The outcomes of expectations that could not be evaluated."""
        return tuple(outcome for outcome in self.outcomes if outcome.has_raised)

    def to_frame(self, run_id: str) -> pl.DataFrame:
        """Build the rows of `audit.validations`: a row for each outcome and skipped expectation."""
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
                "is_skipped": False,
            }
            for outcome in self.outcomes
        ]
        rows += [
            {
                "table_name": self.table_name,
                "expectation_id": one.id,
                "severity": one.severity,
                "is_met": False,
                "has_raised": False,
                "observed": f"not checked, because {' and '.join(one.needs)} was not given",
                "n_unexpected": None,
                "examples": [],
                "run_id": run_id,
                "validated_at": now,
                "is_skipped": True,
            }
            for one in expectations_of(self.table_name)
            if one.id in self.skipped
        ]
        return conform(declared, pl.DataFrame(rows, schema=declared.schema))

    def to_quarantine(self, run_id: str) -> pl.DataFrame:
        """Build the rows of `audit.quarantine`: the violating rows of each critical expectation."""
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
        """Render one summary line, and a Markdown table of the expectations that are not met."""
        n_met = sum(outcome.is_met for outcome in self.outcomes)
        state = "accepted" if self.is_met else "REJECTED"
        met = f"{n_met} of {len(self.outcomes)} expectations met on {self.n_rows} rows"
        lines = [f"**{self.table_name}**: {met}; {state}"]
        if self.skipped:
            lines.append(
                f"\nSkipped, because a table they need was not given: {', '.join(self.skipped)}"
            )
        if self.failures:
            lines += ["", "| expectation | severity | found | because |", "|---|---|---|---|"]
        for outcome in self.failures:
            found = _describe(outcome).replace("|", "\\|").replace("\n", " ")
            lines.append(
                f"| {outcome.expectation_id} | {outcome.severity} | {found} | {outcome.because} |"
            )
        return "\n".join(lines) + "\n"


def validation_rows(reports: Sequence[ValidationReport], run_id: str) -> pl.DataFrame:
    """Build the rows of `audit.validations` for frames that were checked together."""
    return pl.concat([report.to_frame(run_id) for report in reports])


def require_met(reports: Sequence[ValidationReport]) -> None:
    """Raise an error unless all critical expectations of frames that are written together are met.

    Raises:
        ExpectationFailed: A critical expectation is not met. The message lists each, of every
            table, with examples.
    """
    refused = [report for report in reports if not report.is_met]
    if not refused:
        return
    lines = [
        f"  {report.table_name}, {outcome.expectation_id}: {_describe(outcome)}"
        for report in refused
        for outcome in report.failures
        if outcome.severity == "critical"
    ]
    verb = "expectation is" if len(lines) == 1 else "expectations are"
    tables = " and ".join(report.table_name for report in reports)
    raise ExpectationFailed(
        f"{len(lines)} critical {verb} not met; the {sum(report.n_rows for report in reports):,} "
        f"new rows of {tables} were not written:\n"
        + "\n".join(lines)
        + "\nThe violating rows are in audit.quarantine, the outcomes in audit.validations "
        "(`genebench validations`). Correct the source or the task's recipe, then run again"
    )


def _describe(outcome: Outcome) -> str:
    if outcome.has_raised:
        return f"could not be evaluated: {outcome.observed}"
    shown = "; ".join(outcome.examples)
    return f"{outcome.observed}, such as {shown}" if shown else str(outcome.observed)

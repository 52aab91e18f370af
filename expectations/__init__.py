"""What must be true of each table before a frame may enter it.

The suites are data (`suites/*.yaml`); what a table's declaration implies is added to them. Great
Expectations judges, the severity of what it does not pass decides: a critical expectation keeps
the frame out, a warning is reported.
"""

from collections.abc import Mapping

import polars as pl

from expectations.declared import Expectation, expectations_of, needs_of
from expectations.engine import Verdict, judge
from expectations.findings import N_ROWS, Findings
from expectations.outcomes import N_QUARANTINED, Outcome, Report
from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import N_EXAMPLES

__all__ = ["Outcome", "Report", "check", "needs_of"]

MAX_EXAMPLE_CHARS = 200


def check_frame(
    table_name: str,
    frame: pl.DataFrame,
    previous: pl.DataFrame | None = None,
    related: Mapping[str, pl.DataFrame] | None = None,
) -> Report:
    """Check a frame against everything that is expected of its table.

    Args:
        table_name: A declared table, or a bronze table.
        frame: The rows to be written: a table, a partition, or rows to append.
        previous: The rows that they replace; without them drift is not looked for.
        related: The tables that `needs_of(table_name)` names, as they will be after this write.

    Returns:
        One outcome for each expectation; what lacks a table to compare is listed as skipped.

    Raises:
        LakeError: No such table.
        RegistryError: A suite is wrong.

    >>> check("gold.universes", table("gold.universes").empty()).is_met
    True
    """
    findings = Findings(table(table_name), frame, previous, related or {})
    chosen, skipped = {}, []
    for expectation in expectations_of(table_name):
        if set(expectation.needs) <= findings.given:
            chosen[expectation.id] = expectation
        else:
            skipped.append(expectation.id)
    found: dict[str, pl.DataFrame] = {}
    values: dict[str, pl.Series] = {}
    errors: dict[str, str] = {}
    for id_, expectation in chosen.items():
        try:
            if expectation.rows is None:
                values[id_] = findings.find_values(expectation)
            else:
                found[id_] = findings.find_rows(expectation.rows)
                values[id_] = pl.Series([count_rows(found[id_])])
        except pl.exceptions.PolarsError as error:
            errors[id_] = str(error).partition("\n")[0]
    verdicts = judge(chosen, values)
    outcomes = []
    for id_, expectation in chosen.items():
        verdict = verdicts.get(id_) or Verdict(False, errors.get(id_, "no verdict"))
        rows = found.get(id_, pl.DataFrame())
        if expectation.rows is None and verdict.unexpected:
            try:
                rows = findings.find_rows_with(expectation, verdict.unexpected)
            except pl.exceptions.PolarsError as error:
                verdict = Verdict(False, str(error).partition("\n")[0])
        outcomes.append(_outcome(expectation, verdict, rows, frame.height))
    return Report(table_name, frame.height, tuple(outcomes), tuple(skipped))


def count_rows(found: pl.DataFrame) -> int:
    """How many rows a query stands for: the sum of `n_rows` where it gives one."""
    return int(found[N_ROWS].sum()) if N_ROWS in found.columns else found.height


def _outcome(
    expectation: Expectation, verdict: Verdict, rows: pl.DataFrame, n_rows: int
) -> Outcome:
    n_unexpected = None if verdict.error else count_rows(rows)
    observed = verdict.error or f"{n_unexpected} of {n_rows} rows"
    shown = rows
    if expectation.column and not verdict.error and rows.width:
        shown = rows.select(expectation.column).unique(maintain_order=True)
    return Outcome(
        expectation_id=expectation.id,
        severity=expectation.severity,
        because=expectation.because,
        is_met=verdict.is_met,
        has_raised=verdict.error is not None,
        observed=observed,
        n_unexpected=n_unexpected,
        examples=tuple(_show(row) for row in shown.head(N_EXAMPLES).iter_rows()),
        rows=rows.head(N_QUARANTINED),
    )


def _show(row: tuple[object, ...]) -> str:
    text = " | ".join(str(value) for value in row)
    return text if len(text) <= MAX_EXAMPLE_CHARS else text[: MAX_EXAMPLE_CHARS - 1] + "…"

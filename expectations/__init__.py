"""Validates frames with Great Expectations before they are written to a table.

A suite of expectations per table is declared in `suites/*.yaml`; expectations on columns, keys and
vocabularies follow from the table's declaration in `lakehouse.tables.catalogue`. A critical
expectation that is not met rejects the frame, a warning is logged.

In the order in which data passes them:

- `declared`: the expectations of each table, from the suites and from its declaration
- `check_context`: a frame and the tables it is compared with, queried in polars
- `engine`: evaluates expectations with Great Expectations
- `outcomes`: the validation report: audit rows, error message and Markdown
- `validation_page`: the latest validations as an HTML page
"""

from collections.abc import Mapping

import polars as pl

from expectations.check_context import N_ROWS, CheckContext
from expectations.declared import Expectation, expectations_of, related_tables
from expectations.engine import EngineResult, evaluate_expectations
from expectations.outcomes import N_QUARANTINED, Outcome, ValidationReport
from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import N_EXAMPLES

__all__ = ["Outcome", "ValidationReport", "check_frame", "related_tables"]

MAX_EXAMPLE_CHARS = 200


def check_frame(
    table_name: str,
    frame: pl.DataFrame,
    previous: pl.DataFrame | None = None,
    related: Mapping[str, pl.DataFrame] | None = None,
) -> ValidationReport:
    """Check a frame against all expectations of its table.

    Args:
        table_name: A declared table, or a bronze table.
        frame: The rows to be written: a whole table, a partition, or rows to append.
        previous: The rows that they replace; without them, expectations on drift are skipped.
        related: The tables that `related_tables(table_name)` lists, as they will be after this
            write; expectations that need a table not given are skipped.

    Returns:
        A report with one outcome for each expectation, and the ids of those that were skipped.

    Raises:
        LakeError: There is no such table.
        RegistryError: A suite contains mistakes.

    >>> check_frame("gold.universes", table("gold.universes").empty()).is_met
    True
    """
    context = CheckContext(table(table_name), frame, previous, related or {})
    chosen, skipped = {}, []
    for expectation in expectations_of(table_name):
        if set(expectation.needs) <= context.available:
            chosen[expectation.id] = expectation
        else:
            skipped.append(expectation.id)
    found: dict[str, pl.DataFrame] = {}
    values: dict[str, pl.Series] = {}
    errors: dict[str, str] = {}
    for id_, expectation in chosen.items():
        try:
            if expectation.rows is None:
                values[id_] = context.find_values(expectation)
            else:
                found[id_] = context.find_rows(expectation.rows)
                values[id_] = pl.Series([count_rows(found[id_])])
        except pl.exceptions.PolarsError as error:
            errors[id_] = str(error).partition("\n")[0]
    results = evaluate_expectations(chosen, values)
    outcomes = []
    for id_, expectation in chosen.items():
        result = results.get(id_) or EngineResult(False, errors.get(id_, "no result"))
        rows = found.get(id_, pl.DataFrame())
        if expectation.rows is None and result.unexpected:
            try:
                rows = context.find_rows_with(expectation, result.unexpected)
            except pl.exceptions.PolarsError as error:
                result = EngineResult(False, str(error).partition("\n")[0])
        outcomes.append(_outcome(expectation, result, rows, frame.height))
    return ValidationReport(table_name, frame.height, tuple(outcomes), tuple(skipped))


def count_rows(found: pl.DataFrame) -> int:
    """Count the rows that a query found; a column `n_rows` counts several for each row."""
    return int(found[N_ROWS].sum()) if N_ROWS in found.columns else found.height


def _outcome(
    expectation: Expectation, result: EngineResult, rows: pl.DataFrame, n_rows: int
) -> Outcome:
    n_unexpected = None if result.error else count_rows(rows)
    observed = result.error or f"{n_unexpected} of {n_rows} rows"
    shown = rows
    if expectation.column and not result.error and rows.width:
        shown = rows.select(expectation.column).unique(maintain_order=True)
    return Outcome(
        expectation_id=expectation.id,
        severity=expectation.severity,
        because=expectation.because,
        is_met=result.is_met,
        has_raised=result.error is not None,
        observed=observed,
        n_unexpected=n_unexpected,
        examples=tuple(_show(row) for row in shown.head(N_EXAMPLES).iter_rows()),
        rows=rows.head(N_QUARANTINED),
    )


def _show(row: tuple[object, ...]) -> str:
    text = " | ".join(str(value) for value in row)
    return text if len(text) <= MAX_EXAMPLE_CHARS else text[: MAX_EXAMPLE_CHARS - 1] + "…"

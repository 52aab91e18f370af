"""The expectations of each table: read from its suite, and derived from its declaration."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from genebench.errors import RegistryError
from genebench.evaluation.metrics import METRICS
from genebench.registry.yaml_reader import read_yaml, validate
from lakehouse.tables.catalogue import TABLES, table
from lakehouse.tables.schema import Table

SUITES = Path(__file__).with_name("suites")
BRONZE_FILES = "bronze.{source}_{file}"
PREVIOUS = "previous"
ROUNDING = 1e-9


# Great Expectations gets the distinct values of a column without nulls, so only these of its
# expectations mean what they say; one on uniqueness, nulls or proportions would always be met.
ColumnRule = Literal[
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_not_be_in_set",
    "expect_column_values_to_match_regex",
    "expect_column_values_to_not_match_regex",
]


class Expectation(BaseModel):
    """An expectation on a table: one entry of a suite.

    An expectation on a column (`column`, `expect`) is one of Great Expectations. It applies to the
    values that are not null, in the rows that satisfy `where`.

    An expectation on rows (`rows`) is an SQL query that selects the rows that violate it. The query
    can read `frame` (the rows to be written), `columns` and `vectors` (statistics of them, see
    `expectations.check_context`), `previous` and `previous_columns` (the rows that they replace)
    and the tables in `needs`, with `_` instead of the dot. Each row found counts once, or as many
    times as its column `n_rows` says.

    Attributes:
        id: Id, unique within the table.
        severity: `critical` rejects the frame, `warning` is logged.
        because: Why the expectation must hold, or what goes wrong if it does not.
        column: The column.
        expect: One of `ColumnRule`.
        with: Arguments of the expectation.
        where: SQL condition that selects the rows to check.
        rows: SQL query for violating rows.
        needs: Tables that the query reads besides the frame, among them `previous`. If one is not
            given, the expectation is skipped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
    severity: Literal["critical", "warning"]
    because: str
    column: str | None = None
    expect: ColumnRule | None = None
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    where: str | None = None
    rows: str | None = None
    needs: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Expectation":
        is_of_column = self.column is not None and self.expect is not None
        if is_of_column == (self.rows is not None):
            raise ValueError("needs either 'column' and 'expect', or 'rows'")
        if unknown := [name for name in self.needs if name not in (PREVIOUS, *TABLES)]:
            raise ValueError(f"needs an unknown table {unknown[0]!r}")
        return self


@cache
def read_suites(folder: Path = SUITES) -> dict[str, tuple[Expectation, ...]]:
    """Read all suites.

    Returns:
        Table name to its expectations.

    Raises:
        RegistryError: Suites contain mistakes; all are listed.
    """
    suites: dict[str, tuple[Expectation, ...]] = {}
    mistakes: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        entries, faults = read_yaml(path)
        mistakes += faults
        for name, items in entries.items():
            where = f"{path.name}: {name}"
            if name not in (BRONZE_FILES, *TABLES):
                mistakes.append(f"{where}: no such table")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                mistakes.append(f"{where}: expected a list of expectations")
                continue
            found = []
            for item in items:
                expectation, faults = validate(
                    Expectation, item, f"{where}: {item.get('id', '(without id)')}"
                )
                mistakes += faults
                if expectation:
                    found.append(expectation)
            repeated = {one.id for one in found if [two.id for two in found].count(one.id) > 1}
            mistakes += [f"{where}: {one}: declared twice" for one in sorted(repeated)]
            suites[name] = tuple(found)
    if mistakes:
        raise RegistryError(mistakes)
    return suites


def expectations_of(name: str) -> tuple[Expectation, ...]:
    """List the expectations of a table: those that its declaration implies, then its suite.

    Raises:
        LakeError: There is no such table.
        RegistryError: A suite contains mistakes.
    """
    declared = table(name)
    suites = read_suites()
    own = suites.get(BRONZE_FILES if declared.allows_extra_columns else name, ())
    return (*implied_expectations(declared), *own)


def related_tables(name: str) -> tuple[str, ...]:
    """List the other tables that the expectations of a table read, without `previous`."""
    needed = {one for expectation in expectations_of(name) for one in expectation.needs}
    return tuple(sorted(needed - {PREVIOUS}))


def implied_expectations(declared: Table) -> tuple[Expectation, ...]:
    """Derive expectations from the declaration of a table in `lakehouse.tables.catalogue`."""
    key = ", ".join(declared.key)
    found = [
        _critical(
            "columns_are_as_declared",
            "readers rely on the declared columns and types; no others are allowed",
            rows="SELECT name, declared, delivered FROM columns WHERE NOT is_fitting",
        ),
        _critical(
            "values_are_present",
            "only columns declared nullable may contain nulls",
            rows="SELECT name, n_null AS n_rows FROM columns WHERE NOT is_nullable AND n_null > 0",
        ),
        _critical(
            "key_is_unique",
            f"({key}) is the key of the table and identifies one row",
            rows=f"SELECT {key}, COUNT(*) AS n_rows FROM frame "  # noqa: S608 (our own names)
            f"GROUP BY {key} HAVING COUNT(*) > 1",
        ),
    ]
    if any(column.type in ("f32", "f64", "list<f32>") for column in declared.columns.values()):
        found.append(
            _critical(
                "numbers_are_finite",
                "a number that cannot be computed is recorded as a row with a reason, not as NaN",
                rows="SELECT name, n_unreal AS n_rows FROM columns WHERE n_unreal > 0",
            )
        )
    vocabularies = dict(declared.vocabularies)
    if "metric" in declared.columns:
        vocabularies["metric"] = tuple(METRICS)
    for column, words in vocabularies.items():
        found.append(
            _critical(
                f"{column}_is_known",
                "the column has a closed vocabulary",
                column=column,
                expect="expect_column_values_to_be_in_set",
                arguments={"value_set": list(words)},
            )
        )
    number = next((name for name in ("value", "mean") if name in declared.columns), None)
    if number and "metric" in declared.columns:
        found.append(_in_range(number))
    return tuple(found)


def _in_range(column: str) -> Expectation:
    """The expectation that each number lies in the range of its row's metric."""
    outside = [
        f"(metric = '{metric.id}' AND {column} {sign} {bound + rounding})"
        for metric in METRICS.values()
        for sign, bound, rounding in (("<", metric.low, -ROUNDING), (">", metric.high, ROUNDING))
        if bound is not None
    ]
    return _critical(
        f"{column}_is_in_the_range_of_its_metric",
        "a metric cannot lie outside its range",
        rows=f"SELECT * FROM frame WHERE {' OR '.join(outside)}",  # noqa: S608 (our own names)
    )


def _critical(
    id_: str, because: str, arguments: dict[str, Any] | None = None, **rest: str
) -> Expectation:
    return Expectation.model_validate(
        {"id": id_, "severity": "critical", "because": because, "with": arguments or {}, **rest}
    )

"""What is expected of each table: the suites' entries, and those that its declaration implies."""

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


class Expectation(BaseModel):
    """One thing that must be true of a table.

    Either of a column: an expectation of Great Expectations by its name, of the values that are
    not null, where a condition holds. Or of rows: a query that finds the rows that should not be.
    A query reads `frame` (the rows to be written), `columns` and `vectors` (facts on them),
    `previous` and `previous_columns` (what they replace) and the tables it `needs`, whose names
    have `_` for the dot. Rows that it finds count once, or as often as their column `n_rows` says.

    Attributes:
        id: Its name within the table.
        severity: A critical one keeps the frame out of the table; a warning is reported.
        because: What goes wrong where it is not met.
        column: The column.
        expect: `expect_column_values_to_…`.
        with: Arguments of the expectation.
        where: An SQL condition on the rows.
        rows: The SQL query.
        needs: Tables that the query reads, `previous` among them; without one it is not checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
    severity: Literal["critical", "warning"]
    because: str
    column: str | None = None
    expect: Annotated[str, StringConstraints(pattern=r"^expect_column_value[a-z_]+$")] | None = None
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
    """Read all suites: expectations by table.

    Raises:
        RegistryError: An entry is wrong; all mistakes are listed.
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
    """All expectations of a table: implied by its declaration first, then those of its suite.

    Raises:
        LakeError: No such table.
        RegistryError: A suite is wrong.
    """
    declared = table(name)
    suites = read_suites()
    own = suites.get(BRONZE_FILES if declared.is_open else name, ())
    return (*implied_expectations(declared), *own)


def needs_of(name: str) -> tuple[str, ...]:
    """The tables that the expectations of a table read beside it, `previous` left out."""
    needed = {one for expectation in expectations_of(name) for one in expectation.needs}
    return tuple(sorted(needed - {PREVIOUS}))


def implied_expectations(declared: Table) -> tuple[Expectation, ...]:
    """What the declaration of a table in `lakehouse.tables.catalogue` says by itself."""
    key = ", ".join(declared.key)
    found = [
        _critical(
            "columns_are_as_declared",
            "the table holds these columns of these types and no others",
            rows="SELECT name, declared, delivered FROM columns WHERE NOT is_fitting",
        ),
        _critical(
            "values_are_present",
            "only columns marked nullable may lack a value",
            rows="SELECT name, n_null AS n_rows FROM columns WHERE NOT is_nullable AND n_null > 0",
        ),
        _critical(
            "key_is_unique",
            f"({key}) names one row",
            rows=f"SELECT {key}, COUNT(*) AS n_rows FROM frame "  # noqa: S608 (our own names)
            f"GROUP BY {key} HAVING COUNT(*) > 1",
        ),
    ]
    if any(column.type in ("f32", "f64", "list<f32>") for column in declared.columns.values()):
        found.append(
            _critical(
                "numbers_are_finite",
                "a number that could not be computed is a row with a reason, never NaN",
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
                "the column draws from a closed set of words",
                column=column,
                expect="expect_column_values_to_be_in_set",
                arguments={"value_set": list(words)},
            )
        )
    number = next((name for name in ("value", "mean") if name in declared.columns), None)
    if number and "metric" in declared.columns:
        found += [_in_range(metric_id, number) for metric_id in METRICS]
    return tuple(found)


def _in_range(metric_id: str, column: str) -> Expectation:
    metric = METRICS[metric_id]
    bounds = {
        "min_value": None if metric.low is None else metric.low - ROUNDING,
        "max_value": None if metric.high is None else metric.high + ROUNDING,
    }
    return _critical(
        f"{metric_id}_is_in_range",
        f"{metric.title} cannot be elsewhere",
        column=column,
        where=f"metric = '{metric_id}'",
        expect="expect_column_values_to_be_between",
        arguments={name: bound for name, bound in bounds.items() if bound is not None},
    )


def _critical(
    id_: str, because: str, arguments: dict[str, Any] | None = None, **rest: str
) -> Expectation:
    return Expectation.model_validate(
        {"id": id_, "severity": "critical", "because": because, "with": arguments or {}, **rest}
    )

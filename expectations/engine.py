"""Evaluates expectations with Great Expectations; the only module that imports it and pandas.

Great Expectations hashes every row of a batch, which takes 1.5 s for 800,000 rows. It therefore
gets only the distinct values of a column, or the number of rows that a query found.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from expectations.declared import Expectation

_LOCK = threading.Lock()
# Two columns of a batch: the expectations that are queries, and the number of rows each found.
_QUERY = "query of violating rows"
_N_VIOLATING = "number of violating rows"
# Values that met a rule in this process, and need not be judged again: most columns have the same
# few values in the results of each encoder.
_MET: dict[tuple[str, str], set[Any]] = {}
# How many of them are kept for each rule.
N_REMEMBERED = 1_000


@dataclass(frozen=True)
class EngineResult:
    """The result of one expectation.

    Attributes:
        is_met: Whether the expectation holds.
        error: The error message if it could not be evaluated, else None.
        unexpected: The values that violate it.
    """

    is_met: bool
    error: str | None
    unexpected: tuple[Any, ...] = ()


def evaluate_expectations(
    expectations: Mapping[str, Expectation], values: Mapping[str, pl.Series]
) -> dict[str, EngineResult]:
    """Evaluate all expectations of a table in one batch.

    Args:
        expectations: Id to expectation.
        values: Id to the distinct values of the expectation's column, or to a single value, the
            number of rows that its query found.

    Returns:
        Id to result, for each expectation whose values are given.
    """
    import great_expectations.expectations as gxe

    # Evaluating an expectation takes 7 ms. One on no values is met.
    asked = {id_: one for id_, one in expectations.items() if id_ in values}
    values = {id_: _leave_out_met(one, values[id_]) for id_, one in asked.items()}
    met = {id_: EngineResult(True, None) for id_ in asked if values[id_].is_empty()}
    given = {id_: one for id_, one in asked.items() if id_ not in met}
    if not given:
        return met
    # One expectation on the column of all numbers, for the same reason.
    counted = [id_ for id_, one in given.items() if one.expect is None]
    columns = [values[id_].rename(id_) for id_ in given if id_ not in counted]
    rules = [
        getattr(gxe, _class_name(one.expect))(column=id_, severity=one.severity, **one.with_)
        for id_, one in given.items()
        if one.expect is not None
    ]
    if counted:
        columns += [
            pl.Series(_QUERY, counted),
            pl.concat([values[id_] for id_ in counted]).rename(_N_VIOLATING),
        ]
        rule = getattr(gxe, _class_name("expect_column_values_to_be_between"))
        rules.append(rule(column=_N_VIOLATING, min_value=0, max_value=0))
    # Columns of different lengths are padded with nulls, which expectations on values ignore.
    frame = pl.concat([one.to_frame() for one in columns], how="horizontal_extend").to_pandas()
    # The context is shared by the process and is not thread-safe.
    with _LOCK:
        batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
        results = _validate(batch, rules, {"result_format": "BOOLEAN_ONLY"})
        # Finding the violating values doubles the time, so only unmet expectations do it.
        unmet = [rule for rule in rules if not results[rule.column].success]
        results |= _validate(
            batch,
            unmet,
            {
                "result_format": "COMPLETE",
                "unexpected_index_column_names": [_QUERY] if counted else [],
            },
        )
    counts = results.pop(_N_VIOLATING, None)
    judged = {id_: _to_result(result) for id_, result in results.items()}
    if counts is not None:
        error = _error(counts.exception_info or {})
        violated = {one[_QUERY] for one in counts.result.get("unexpected_index_list") or ()}
        for id_ in counted:
            judged[id_] = EngineResult(error is None and id_ not in violated, error)
    for id_, result in judged.items():
        known = _MET.setdefault(_rule(given[id_]), set())
        if result.is_met and len(known) + len(values[id_]) <= N_REMEMBERED:
            known.update(values[id_])
    return met | judged


def _leave_out_met(expectation: Expectation, values: pl.Series) -> pl.Series:
    """The values that have not met the expectation in this process."""
    known = _MET.get(_rule(expectation))
    if not known or len(values) > N_REMEMBERED:
        return values
    new = [value for value in values if value not in known]
    return pl.Series(values.name, new, dtype=values.dtype)


def _rule(expectation: Expectation) -> tuple[str, str]:
    """What decides, beside a value, whether the expectation is met."""
    return str(expectation.expect), repr(expectation.with_)


def _validate(batch: Any, rules: list[Any], result_format: dict[str, Any]) -> dict[str, Any]:
    """Evaluate rules of Great Expectations on a batch; the results by column."""
    import great_expectations as gx

    if not rules:
        return {}
    suite = gx.ExpectationSuite(name="table", expectations=rules)
    found = batch.validate(suite, result_format=result_format)
    return {one.expectation_config.kwargs["column"]: one for one in found.results}


def _to_result(result: Any) -> EngineResult:
    error = _error(result.exception_info or {})
    unexpected = () if error else tuple(result.result.get("unexpected_list") or ())
    return EngineResult(bool(result.success) and error is None, error, unexpected)


def _error(info: Mapping[str, Any]) -> str | None:
    """Return the message of the first exception; `info` is one entry, or one per failed metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _class_name(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


@cache
def _batch_definition() -> Any:
    """Create the context and batch definition once per process, because it takes 0.1 s."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("lake")
    return source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("all")

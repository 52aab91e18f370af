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
    import great_expectations as gx
    import great_expectations.expectations as gxe

    # An expectation on no values is met. Evaluating one takes 12 ms, and most metrics do not occur.
    empty = {
        id_: EngineResult(True, None)
        for id_ in expectations
        if id_ in values and values[id_].is_empty()
    }
    given = {id_: one for id_, one in expectations.items() if id_ in values and id_ not in empty}
    if not given:
        return empty
    # Columns of different lengths are padded with nulls, which expectations on values ignore.
    frame = pl.concat(
        [values[id_].rename(id_).to_frame() for id_ in given], how="horizontal_extend"
    ).to_pandas()
    rules = []
    for id_, one in given.items():
        # The number of violating rows is one value: its maximum takes fewer metrics to find.
        kind = one.expect or "expect_column_max_to_be_between"
        arguments = one.with_ if one.expect else {"min_value": 0, "max_value": 0}
        rule = getattr(gxe, _class_name(kind))
        rules.append(rule(column=id_, severity=one.severity, **arguments))
    # The context is shared by the process and is not thread-safe.
    with _LOCK:
        batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
        suite = gx.ExpectationSuite(name="table", expectations=rules)
        found = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    return empty | {
        result.expectation_config.kwargs["column"]: _to_result(result) for result in found.results
    }


def is_supported(kind: str) -> bool:
    """Whether Great Expectations has an expectation with this name."""
    import great_expectations.expectations as gxe

    return hasattr(gxe, _class_name(kind))


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

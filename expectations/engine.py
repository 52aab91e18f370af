"""Polars, then pandas, then Great Expectations; the only module that imports the last two.

Great Expectations hashes every row of a batch, 1.5 s for 800,000 of them, so it is given what
decides and no more: for a column its distinct values, for a query the number of rows it found.
Nothing here knows any table.
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
class Verdict:
    """What Great Expectations says.

    Args:
        is_met: Whether the expectation holds.
        error: Why it could not be computed, if so.
        unexpected: The values that break it.
    """

    is_met: bool
    error: str | None
    unexpected: tuple[Any, ...] = ()


def judge(
    expectations: Mapping[str, Expectation], values: Mapping[str, pl.Series]
) -> dict[str, Verdict]:
    """Let Great Expectations decide on all expectations of a table in one batch.

    Args:
        expectations: By id; of a column, or of the number of rows that a query found.
        values: By the same id: the distinct values of the column, or that number.

    Returns:
        A verdict by id, for each expectation whose values are given.
    """
    import great_expectations as gx
    import great_expectations.expectations as gxe

    # Without values there is no fault; a judgement costs 12 ms, and most metrics do not occur.
    empty = {
        id_: Verdict(True, None) for id_ in expectations if id_ in values and values[id_].is_empty()
    }
    given = {id_: one for id_, one in expectations.items() if id_ in values and id_ not in empty}
    if not given:
        return empty
    # Columns of different lengths stand side by side, padded with nulls, which all expectations
    # of values pass over.
    frame = pl.concat(
        [values[id_].rename(id_).to_frame() for id_ in given], how="horizontal_extend"
    ).to_pandas()
    rules = []
    for id_, one in given.items():
        kind = one.expect or "expect_column_values_to_be_between"
        arguments = one.with_ if one.expect else {"min_value": 0, "max_value": 0}
        rule = getattr(gxe, _class_name(kind))
        rules.append(rule(column=id_, severity=one.severity, **arguments))
    # Its context is one for the process, and not made for threads.
    with _LOCK:
        batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
        suite = gx.ExpectationSuite(name="table", expectations=rules)
        found = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    return empty | {
        result.expectation_config.kwargs["column"]: _verdict(result) for result in found.results
    }


def is_known(kind: str) -> bool:
    """Whether Great Expectations has an expectation of this name."""
    import great_expectations.expectations as gxe

    return hasattr(gxe, _class_name(kind))


def _verdict(result: Any) -> Verdict:
    error = _error(result.exception_info or {})
    unexpected = () if error else tuple(result.result.get("unexpected_list") or ())
    return Verdict(bool(result.success) and error is None, error, unexpected)


def _error(info: Mapping[str, Any]) -> str | None:
    """The message of whatever raised; one entry, or one for each metric that failed."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _class_name(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("_"))


@cache
def _batch_definition() -> Any:
    """One context for the life of the process: making one costs 0.1 s."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("lake")
    return source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("all")

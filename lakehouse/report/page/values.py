"""Converts frames and numbers to the compact JSON values of the page."""

import math
from typing import Any

import polars as pl

from genebench.evaluation.metrics import METRICS


def describe_metric(name: str) -> dict[str, Any]:
    """Return the page's entry of a metric; `scale` is 10,000 for bounded metrics, otherwise 1.

    Values of bounded metrics are sent as integers, multiplied by `scale`.
    """
    metric = METRICS[name]
    return {
        "title": metric.title,
        "note": metric.note,
        "is_greater_better": metric.is_greater_better,
        "chance": metric.chance,
        "scale": 10_000 if metric.low is not None and metric.high is not None else 1,
    }


def index_by_name(names: list[str]) -> dict[str, int]:
    """Map each name to its position in the list."""
    return {name: number for number, name in enumerate(names)}


def scatter_values(values: Any, positions: Any, size: int, scale: int) -> list[Any]:
    """Return a list of `size` with the scaled (n,) values at the (n,) positions, else null."""
    cells: list[Any] = [None] * size
    for position, value in zip(positions.tolist(), values.tolist(), strict=True):
        cells[position] = scale_value(value, scale)
    return cells


def scale_value(value: float, scale: int) -> float | int:
    """Multiply a value by `scale` and round to an integer; for scale 1, to significant digits."""
    return round(value * scale) if scale > 1 else round_value(value)


def plain_rows(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Convert rows to JSON values, times to text."""
    times = [name for name, dtype in rows.schema.items() if dtype.is_temporal()]
    return rows.with_columns(pl.col(times).dt.strftime("%Y-%m-%d %H:%M UTC")).to_dicts()


def round_value(value: float | None, digits: int = 5) -> float:
    """Round to significant digits; null and values that are not finite become 0."""
    if value is None or value == 0 or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{digits}g}")

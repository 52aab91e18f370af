"""Frames and numbers as the short JSON values that a page carries."""

import math
from typing import Any

import polars as pl

from genebench.evaluation.metrics import METRICS


def describe_metric(name: str) -> dict[str, Any]:
    """What a page says of a metric; bounded ones are sent as whole numbers of 1/scale."""
    metric = METRICS[name]
    return {
        "title": metric.title,
        "note": metric.note,
        "is_greater_better": metric.is_greater_better,
        "chance": metric.chance,
        "scale": 10_000 if metric.low is not None and metric.high is not None else 1,
    }


def index_names(names: list[str]) -> dict[str, int]:
    """Each name to its place."""
    return {name: number for number, name in enumerate(names)}


def spread_out(values: Any, at: Any, size: int, scale: int) -> list[Any]:
    """A list of `size` with the scaled (n,) values at the (n,) places, null elsewhere."""
    cells: list[Any] = [None] * size
    for place, value in zip(at.tolist(), values.tolist(), strict=True):
        cells[place] = scale_value(value, scale)
    return cells


def scale_value(value: float, scale: int) -> float | int:
    """A value as a whole number of 1/scale; in significant digits for scale 1."""
    return round(value * scale) if scale > 1 else round_value(value)


def plain_rows(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; times as text."""
    times = [name for name, dtype in rows.schema.items() if dtype.is_temporal()]
    return rows.with_columns(pl.col(times).dt.strftime("%Y-%m-%d %H:%M UTC")).to_dicts()


def round_value(value: float | None, digits: int = 5) -> float:
    """To significant digits: enough to read, short enough to send."""
    if value is None or value == 0 or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{digits}g}")

"""Converts the contents of a report to the JSON values that its page is drawn from."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.registry.loading import load_registry
from genebench.registry.published_names import probe_of
from genebench.tasks.declaration import FAMILY_TITLES
from lakehouse.report.exports import used_snapshots
from lakehouse.report.future_marks import describe_marks
from lakehouse.report.page.change_entry import change_entry
from lakehouse.report.page.contents import Contents
from lakehouse.report.page.page_entries import encoder_entries, task_entries
from lakehouse.report.page.provenance import (
    describe_release,
    freshness_rows,
    package_rows,
    table_rows,
    unscored_rows,
)
from lakehouse.report.page.significance_payload import significance_payload
from lakehouse.report.page.values import (
    describe_metric,
    index_by_name,
    plain_rows,
    round_value,
    scale_value,
    scatter_values,
)
from lakehouse.report.relatives_drop import read_relatives_drops
from lakehouse.report.temporal_gains import describe_gains
from lakehouse.tables.time_travel import Tables


def to_payload(tables: Tables, contents: Contents, code: str) -> dict[str, Any]:
    """Return the data of the page's tables and charts as JSON values.

    Scores are dense arrays over tasks x encoders (row by row), null where there is no score. Values
    of bounded metrics are integers, multiplied by 10,000, to keep the page small.

    Args:
        tables: The tables of the lake.
        contents: The contents of the report.
        code: The genebench version, for the provenance.
    """
    encoder_ids = contents.encoders["encoder_id"].to_list()
    task_ids = contents.tasks["task_id"].to_list()
    used = [name for name in METRICS if name in contents.means["metric"]]
    encoders = encoder_entries(tables, contents)
    return {
        "release": describe_release(tables, contents, code),
        "metrics": {name: describe_metric(name) for name in used},
        "mains": [name for name in dict.fromkeys(MAIN_METRICS.values()) if name in used],
        "gains": describe_gains(tables, contents.release_id),
        "families": {
            name: title for name, title in FAMILY_TITLES.items() if name in contents.tasks["family"]
        },
        "series": [{"probe": probe, "protocol": protocol} for probe, protocol in contents.series],
        "rules": _rules(contents),
        "encoders": encoders,
        "mark_note": describe_marks(one["mark"] for one in encoders),
        "tasks": task_entries(tables, contents),
        "board": _board(contents, encoder_ids),
        "scores": _scores(contents, task_ids, encoder_ids, used),
        "labels": _labels(contents, task_ids, encoder_ids),
        "unscored": unscored_rows(tables, contents),
        "keys": _keys(contents, task_ids, encoder_ids),
        "sources": plain_rows(used_snapshots(tables).drop("run_id", "etag")),
        "freshness": freshness_rows(tables, contents),
        "tables": table_rows(tables),
        "packages": package_rows(tables, contents),
        "changes": change_entry(tables, contents),
        "relatives": _relatives(tables, contents, encoder_ids),
        "published": _published(contents, encoder_ids, task_ids),
        **significance_payload(contents),
    }


def _rules(contents: Contents) -> list[dict[str, str | None]]:
    """Describe the probes and protocols of the release; null where they are not declared."""
    registry = load_registry()
    rules = []
    for noun, declared, position in (
        ("probe", registry.probes, 0),
        ("protocol", registry.protocols, 1),
    ):
        for name in dict.fromkeys(one[position] for one in contents.series):
            known = declared.get(name)
            rules.append(
                {
                    "noun": noun,
                    "id": name,
                    "title": known.title if known else None,
                    "description": known.description if known else None,
                }
            )
    return rules


def _board(contents: Contents, encoder_ids: list[str]) -> list[dict[str, Any]]:
    """Return one entry per series, metric and scope: means, deviations and ranks by encoder."""
    position = {encoder_id: number for number, encoder_id in enumerate(encoder_ids)}
    series = {one: number for number, one in enumerate(contents.series)}
    entries = []
    by = ["probe_id", "protocol_id", "metric", "scope"]
    for key, rows in contents.board.group_by(by, maintain_order=True):
        probe, protocol, metric, scope = (str(part) for part in key)
        if (probe, protocol) not in series:
            continue
        entry: dict[str, Any] = {
            "series": series[probe, protocol],
            "metric": metric,
            "scope": scope,
            "n_tasks": max(rows["n_tasks"].to_list(), default=0),
        }
        for name in ("mean", "sd", "low", "high", "rank", "n_missing"):
            cells: list[Any] = [None] * len(encoder_ids)
            for encoder_id, value in rows.select("encoder_id", name).iter_rows():
                if encoder_id in position and value is not None:
                    is_real = isinstance(value, float)
                    cells[position[encoder_id]] = round_value(value) if is_real else value
            entry[name] = cells
        entries.append(entry)
    return entries


def _relatives(tables: Tables, contents: Contents, encoder_ids: list[str]) -> list[dict[str, Any]]:
    """Return one entry per probe, metric and scope: both means of each encoder, or null."""
    position = index_by_name(encoder_ids)
    entries = []
    drops = read_relatives_drops(tables, contents.release_id)
    by = ["probe_id", "metric", "scope"]
    for (probe, metric, scope), rows in drops.group_by(by, maintain_order=True):
        entry: dict[str, Any] = {"probe": probe, "metric": metric, "scope": scope}
        for name in ("mean", "mean_held_out", "n_tasks"):
            cells: list[Any] = [None] * len(encoder_ids)
            for encoder_id, value in rows.select("encoder_id", name).iter_rows():
                if encoder_id in position:
                    cells[position[encoder_id]] = round_value(value)
            entry[name] = cells
        entries.append(entry)
    return entries


def _scores(
    contents: Contents, task_ids: list[str], encoder_ids: list[str], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    positions = contents.means.with_columns(
        _positions("task_id", task_ids).alias("t"),
        _positions("encoder_id", encoder_ids).alias("e"),
    ).with_columns((pl.col("t") * len(encoder_ids) + pl.col("e")).alias("at"))
    size = len(task_ids) * len(encoder_ids)
    found = []
    for probe, protocol in contents.series:
        of_series = positions.filter(
            (pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol)
        )
        by_metric = {}
        for metric in metrics:
            rows = of_series.filter(pl.col("metric") == metric)
            if not rows.height:
                continue
            scale = describe_metric(metric)["scale"]
            at = rows["at"].to_numpy()
            entry: dict[str, Any] = {
                name: scatter_values(rows[name].to_numpy(), at, size, scale)
                for name in ("mean", "sd")
            }
            for name in ("low", "high"):
                known = rows.filter(pl.col(name).is_not_null())
                if known.height:
                    cells = known[name].to_numpy(), known["at"].to_numpy()
                    entry[name] = scatter_values(*cells, size, scale)
            if metric in MAIN_METRICS.values():
                folds: list[Any] = [None] * size
                for position, values in rows.select("at", "folds").iter_rows():
                    folds[position] = [scale_value(value, scale) for value in values or []]
                entry["folds"] = folds
            by_metric[metric] = entry
        found.append(by_metric)
    return found


def _keys(
    contents: Contents, task_ids: list[str], encoder_ids: list[str]
) -> list[list[str | None]]:
    """Return the evaluation keys of each series, as an array over tasks x encoders."""
    positions = contents.items.select(
        "probe_id",
        "protocol_id",
        "evaluation_key",
        (
            _positions("task_id", task_ids) * len(encoder_ids)
            + _positions("encoder_id", encoder_ids)
        ).alias("at"),
    )
    found = []
    for probe, protocol in contents.series:
        cells: list[str | None] = [None] * (len(task_ids) * len(encoder_ids))
        rows = positions.filter(probe_id=probe, protocol_id=protocol)
        for key, at in rows.select("evaluation_key", "at").iter_rows():
            cells[at] = key
        found.append(cells)
    return found


def _labels(
    contents: Contents, task_ids: list[str], encoder_ids: list[str]
) -> dict[str, dict[str, Any]]:
    """Return the mean ROC AUC by label and encoder, for each task and series."""
    position = index_by_name(encoder_ids)
    series = {one: number for number, one in enumerate(contents.series)}
    found: dict[str, dict[str, Any]] = {}
    numbers = index_by_name(task_ids)
    by = ["task_id", "probe_id", "protocol_id"]
    for (task_id, probe, protocol), rows in contents.labels.group_by(by, maintain_order=True):
        names = sorted(rows["label"].unique())
        cells: list[list[Any]] = [[None] * len(encoder_ids) for _ in names]
        row_of = index_by_name(names)
        for label, encoder_id, mean in rows.select("label", "encoder_id", "mean").iter_rows():
            cells[row_of[label]][position[encoder_id]] = round(mean * 10_000)
        one = found.setdefault(str(numbers[str(task_id)]), {})
        one[str(series[str(probe), str(protocol)])] = {"labels": names, "mean": cells}
    return found


def _published(
    contents: Contents, encoder_ids: list[str], task_ids: list[str]
) -> list[dict[str, Any]]:
    """Return one entry per published number; `probe` is the probe that it is compared with."""
    rows = contents.imported.filter(
        pl.col("metric").is_in(set(MAIN_METRICS.values())) & (pl.col("label") == "")
    ).with_columns(
        _positions("task_id", task_ids),
        _positions("encoder_id", encoder_ids),
        pl.col("mean", "sd").round(4),
    )
    probe = pl.col("probe_name").map_elements(probe_of, return_dtype=pl.String).alias("probe")
    return plain_rows(rows.with_columns(probe).drop("label", "probe_name"))


def _positions(column: str, names: list[str]) -> pl.Expr:
    """Return the position of each name in a list; null for a name that is not in it."""
    return pl.col(column).replace_strict(index_by_name(names), default=None, return_dtype=pl.Int64)

"""What a report shows, read from the lake once: plain values, ready for figures and the page."""

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from genebench.leaderboard import OVERALL
from genebench.metrics import METRICS
from genebench.published import probe_of
from genebench.tasks import FAMILY_TITLES
from lakehouse.comparisons import MAIN_METRICS
from lakehouse.exports import used_snapshots
from lakehouse.foreign import foreign_means
from lakehouse.standings import leaderboard_rows

if TYPE_CHECKING:
    from lakehouse.queries import Lake

N_BINS = 24
N_SHOWN_LABELS = 60
OVERALL_TITLE = "Overall"


@dataclass(frozen=True)
class Contents:
    """A release as its report shows it.

    Attributes:
        release_id: The release.
        items: Rows of `gold.releases`.
        board: Rows of `gold.leaderboard`.
        means: family, task_id, kind, encoder_id, modality, probe_id, protocol_id, metric, mean, sd
            (as `genebench.leaderboard.task_means`), and folds: the values in their order.
        labels: task_id, label, encoder_id, probe_id, protocol_id, metric and mean over folds.
        tasks: Rows of `silver.tasks` that the release names, by family, parent and title.
        encoders: encoder_id, title, modality, is_control, best first by the main metric.
        foreign: `foreign_means` of every imported release.
    """

    release_id: str
    items: pl.DataFrame
    board: pl.DataFrame
    means: pl.DataFrame
    labels: pl.DataFrame
    tasks: pl.DataFrame
    encoders: pl.DataFrame
    foreign: pl.DataFrame

    @property
    def leaves(self) -> pl.DataFrame:
        """The tasks that are no sub-task of another."""
        return self.tasks.filter(pl.col("parent_task_id").is_null())

    @property
    def series(self) -> list[tuple[str, str]]:
        """The (probe_id, protocol_id) of the release, the linear probe first."""
        found = self.items.select("probe_id", "protocol_id").unique().rows()
        return sorted(found, key=lambda one: (one[0] != "linear", one))


def read_contents(lake: "Lake", release: str) -> Contents:
    """Read a release.

    Raises:
        LakeError: It does not exist.
    """
    items = lake.release(release)
    board = lake.leaderboard_rows(release)
    if not board.height:
        board = leaderboard_rows(lake, release)
    scores = lake.scores(release=release)
    whole = scores.filter(pl.col("label") == "").collect()
    # As `task_means`, with the folds themselves; by the fewest columns, as there may be millions.
    key = ["evaluation_key", "task_id", "encoder_id", "probe_id", "metric"]
    value = pl.col("value")
    means = (
        whole.sort("fold")
        .group_by(key)
        .agg(
            pl.col("family", "kind", "modality", "protocol_id").first(),
            value.mean().alias("mean"),
            value.std(ddof=0).alias("sd"),
            pl.when(pl.col("metric").is_in(list(MAIN_METRICS.values())))
            .then(value)
            .implode()
            .alias("folds"),
        )
        .drop("evaluation_key")
    )
    by_label = ["task_id", "label", "encoder_id", "probe_id", "protocol_id", "metric"]
    labels = (
        scores.filter((pl.col("label") != "") & (pl.col("metric") == "roc_auc"))
        .group_by(by_label)
        .agg(pl.col("value").mean().alias("mean"))
        .sort(by_label)
        .collect()
    )
    tasks = _tasks(lake, items)
    encoders = _encoders(lake, items, board)
    foreign = lake.table("gold.foreign_scores").collect()
    return Contents(release, items, board, means, labels, tasks, encoders, foreign_means(foreign))


def _tasks(lake: "Lake", items: pl.DataFrame) -> pl.DataFrame:
    named = items.select("task_id", "family", "kind").unique("task_id")
    known = lake.table("silver.tasks").drop("family", "kind").collect()
    tasks = named.join(known, on="task_id", how="left").with_columns(
        pl.coalesce("title", "task_id").alias("title")
    )
    order = {family: number for number, family in enumerate(FAMILY_TITLES)}
    return tasks.sort(
        pl.col("family").replace_strict(order, default=len(order)),
        "family",
        pl.coalesce("parent_task_id", "task_id"),
        pl.col("parent_task_id").is_not_null(),
        "title",
    )


def _encoders(lake: "Lake", items: pl.DataFrame, board: pl.DataFrame) -> pl.DataFrame:
    first = min(items["probe_id"].unique(), key=lambda probe: (probe != "linear", probe))
    ranks = (
        board.filter((pl.col("scope") == OVERALL) & (pl.col("probe_id") == first))
        .sort(pl.col("metric") != "roc_auc", pl.col("metric") != "r2", "metric", "rank")
        .unique("encoder_id", keep="first", maintain_order=True)
        .with_row_index("place")
        .select("encoder_id", "place")
    )
    known = lake.encoders().select("encoder_id", "title", "is_control")
    return (
        items.select("encoder_id", "modality")
        .unique("encoder_id")
        .join(known, on="encoder_id", how="left")
        .join(ranks, on="encoder_id", how="left")
        .with_columns(
            pl.coalesce("title", "encoder_id").alias("title"),
            pl.coalesce(pl.col("is_control"), pl.col("modality") == "control").alias("is_control"),
        )
        .sort("place", "encoder_id", nulls_last=True)
        .select("encoder_id", "title", "modality", "is_control")
    )


def to_payload(lake: "Lake", contents: Contents, code: str) -> dict[str, Any]:
    """Everything that the page's tables and charts are drawn from, as JSON values.

    Scores are dense arrays over tasks x encoders (row by row), null where there is none; bounded
    metrics are whole numbers of 1/10,000, so that the page stays small.
    """
    encoder_ids = contents.encoders["encoder_id"].to_list()
    task_ids = contents.tasks["task_id"].to_list()
    used = [name for name in METRICS if name in contents.means["metric"]]
    return {
        "release": _release(lake, contents, code),
        "metrics": {name: _metric(name) for name in used},
        "mains": [name for name in dict.fromkeys(MAIN_METRICS.values()) if name in used],
        "families": {
            name: title for name, title in FAMILY_TITLES.items() if name in contents.tasks["family"]
        },
        "series": [{"probe": probe, "protocol": protocol} for probe, protocol in contents.series],
        "encoders": _encoder_cards(lake, contents),
        "tasks": _task_cards(lake, contents),
        "board": _board(contents, encoder_ids),
        "scores": _scores(contents, task_ids, encoder_ids, used),
        "labels": _labels(contents, task_ids, encoder_ids),
        "undone": _undone(lake, contents),
        "sources": _plain(used_snapshots(lake).drop("run_id", "etag", "snapshot_id")),
        "tables": _tables(lake),
        "packages": _packages(lake, contents),
        "published": _published(contents, encoder_ids, task_ids),
    }


def _release(lake: "Lake", contents: Contents, code: str) -> dict[str, Any]:
    universe = (
        lake.table("gold.universes")
        .filter(pl.col("release_id") == contents.release_id)
        .group_by("entity_type")
        .len()
        .sort("entity_type")
        .collect()
    )
    profiles = contents.tasks["profile_id"].drop_nulls().unique().to_list()
    return {
        "id": contents.release_id,
        "made_at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code": code,
        "profile": ", ".join(sorted(profiles)),
        "n_tasks": contents.leaves.height,
        "n_subtasks": contents.tasks.height - contents.leaves.height,
        "n_encoders": int((~contents.encoders["is_control"]).sum()),
        "n_controls": int(contents.encoders["is_control"].sum()),
        "n_evaluations": contents.items["evaluation_key"].n_unique(),
        "universe": dict(universe.iter_rows()),
    }


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    return {
        "title": metric.title,
        "note": metric.note,
        "is_greater_better": metric.is_greater_better,
        "chance": metric.chance,
        "scale": 10_000 if metric.low is not None and metric.high is not None else 1,
    }


def _encoder_cards(lake: "Lake", contents: Contents) -> list[dict[str, Any]]:
    rows = {row["encoder_id"]: row for row in lake.encoders().iter_rows(named=True)}
    coverage = lake.coverage()
    cards = []
    for encoder_id, title, modality, is_control in contents.encoders.iter_rows():
        row = rows.get(encoder_id, {})
        declared = json.loads(row.get("declaration") or "{}")
        mine = coverage.filter(pl.col("encoder_id") == encoder_id)
        embedded_at = row.get("embedded_at")
        cards.append(
            {
                "id": encoder_id,
                "title": title,
                "modality": modality,
                "is_control": is_control,
                "dimension": row.get("dimension"),
                "n_entities": row.get("n_entities"),
                "digest": row.get("encoder_digest"),
                "embedded_at": f"{embedded_at:%Y-%m-%d %H:%M} UTC" if embedded_at else None,
                "coverage": _plain(mine.drop("encoder_id")),
                **{
                    key: declared.get(key)
                    for key in ("loader", "model", "revision", "parameters", "license", "cite")
                },
                **{key: declared.get(key) for key in ("homepage", "description", "template")},
                "base": declared.get("base"),
            }
        )
    return cards


def _task_cards(lake: "Lake", contents: Contents) -> list[dict[str, Any]]:
    evaluated = dict(
        contents.items.lazy()
        .join(lake.table("gold.evaluations").filter(pl.col("status") == "ok"), on="evaluation_key")
        .group_by("task_id")
        .agg(pl.col("n_samples").max())
        .collect()
        .iter_rows()
    )
    balance = _balance(lake, contents.leaves)
    coverage = _task_coverage(lake, contents)
    place = {task_id: number for number, task_id in enumerate(contents.tasks["task_id"])}
    cards = []
    for row in contents.tasks.iter_rows(named=True):
        task_id, parent = row["task_id"], row["parent_task_id"]
        card = {
            "id": task_id,
            "n_evaluated": evaluated.get(task_id),
            "parent": place.get(parent) if parent else None,
            **{key: row[key] for key in ("title", "family", "kind", "entity_types", "positive")},
            **{key: row[key] for key in ("n_samples", "n_entities", "n_labels")},
            "density": _round(row["label_density"]),
        }
        if not parent:
            card |= {
                **{key: row[key] for key in ("description", "source", "snapshot_id", "recipe")},
                "counts": json.loads(row["counts"] or "{}"),
                "n_smallest": row["n_smallest_class"],
                "superseded_by": row["superseded_by"],
                "balance": balance.get(task_id),
                "coverage": coverage.get(task_id),
            }
        cards.append(card)
    return cards


def _balance(lake: "Lake", leaves: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """How many samples have each label; for numbers, a histogram."""
    labels = lake.table("silver.labels")
    numbers = leaves.filter(pl.col("kind") == "regression")["task_id"]
    counts = (
        labels.filter(~pl.col("task_id").is_in(numbers.to_list()))
        .group_by("task_id", "label")
        .len("n")
        .sort("task_id", "n", "label", descending=[False, True, False])
        .collect()
    )
    balance: dict[str, dict[str, Any]] = {}
    for (task_id,), rows in counts.group_by("task_id", maintain_order=True):
        shown = rows.head(N_SHOWN_LABELS)
        balance[str(task_id)] = {
            "labels": shown["label"].to_list(),
            "n": shown["n"].to_list(),
            "n_more": rows.height - shown.height,
        }
    values = labels.filter(pl.col("task_id").is_in(numbers.to_list())).collect()
    for (task_id,), rows in values.group_by("task_id", maintain_order=True):
        heights, edges = np.histogram(rows["value"].to_numpy(), bins=N_BINS)
        balance[str(task_id)] = {
            "edges": [_round(edge) for edge in edges],
            "n": heights.tolist(),
        }
    return balance


def _task_coverage(lake: "Lake", contents: Contents) -> dict[str, list[float | None]]:
    """The share of a task's entities that each encoder has a vector of, by task."""
    entity = ["entity_type", "entity_id"]
    wanted = lake.table("silver.samples").select("task_id", *entity).unique().collect()
    sizes = wanted.group_by("task_id").len("n_all")
    vectors = lake.table("silver.embeddings").select("encoder_id", *entity).collect()
    found = []
    for encoder_id in contents.encoders["encoder_id"]:
        mine = vectors.filter(pl.col("encoder_id") == encoder_id)
        counts = wanted.join(mine, on=entity, how="semi").group_by("task_id").len("n")
        shares = sizes.join(counts, on="task_id", how="left").select(
            "task_id", (pl.col("n").fill_null(0) / pl.col("n_all")).round(4).alias("share")
        )
        found.append(dict(shares.iter_rows()))
    return {
        task_id: [shares.get(task_id) for shares in found] for task_id in contents.leaves["task_id"]
    }


def _board(contents: Contents, encoder_ids: list[str]) -> list[dict[str, Any]]:
    """One entry a series, metric and scope: means, deviations and ranks by encoder."""
    place = {encoder_id: number for number, encoder_id in enumerate(encoder_ids)}
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
        for name in ("mean", "sd", "rank", "n_missing"):
            cells: list[Any] = [None] * len(encoder_ids)
            for encoder_id, value in rows.select("encoder_id", name).iter_rows():
                if encoder_id in place:
                    cells[place[encoder_id]] = _round(value) if name in ("mean", "sd") else value
            entry[name] = cells
        entries.append(entry)
    return entries


def _scores(
    contents: Contents, task_ids: list[str], encoder_ids: list[str], metrics: Sequence[str]
) -> list[dict[str, Any]]:
    places = contents.means.with_columns(
        pl.col("task_id").replace_strict(_index(task_ids), return_dtype=pl.Int64).alias("t"),
        pl.col("encoder_id").replace_strict(_index(encoder_ids), return_dtype=pl.Int64).alias("e"),
    ).with_columns((pl.col("t") * len(encoder_ids) + pl.col("e")).alias("at"))
    size = len(task_ids) * len(encoder_ids)
    found = []
    for probe, protocol in contents.series:
        mine = places.filter((pl.col("probe_id") == probe) & (pl.col("protocol_id") == protocol))
        by_metric = {}
        for metric in metrics:
            rows = mine.filter(pl.col("metric") == metric)
            if not rows.height:
                continue
            scale = _metric(metric)["scale"]
            at = rows["at"].to_numpy()
            entry: dict[str, Any] = {
                name: _dense(rows[name].to_numpy(), at, size, scale) for name in ("mean", "sd")
            }
            if metric in MAIN_METRICS.values():
                folds: list[Any] = [None] * size
                for place, values in rows.select("at", "folds").iter_rows():
                    folds[place] = [_scaled(value, scale) for value in values or []]
                entry["folds"] = folds
            by_metric[metric] = entry
        found.append(by_metric)
    return found


def _index(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _dense(values: Any, at: Any, size: int, scale: int) -> list[Any]:
    cells: list[Any] = [None] * size
    for place, value in zip(at.tolist(), values.tolist(), strict=True):
        cells[place] = _scaled(value, scale)
    return cells


def _scaled(value: float, scale: int) -> float | int:
    return round(value * scale) if scale > 1 else _round(value)


def _labels(
    contents: Contents, task_ids: list[str], encoder_ids: list[str]
) -> dict[str, dict[str, Any]]:
    """Mean ROC AUC by label and encoder, by task and series."""
    place = _index(encoder_ids)
    series = {one: number for number, one in enumerate(contents.series)}
    found: dict[str, dict[str, Any]] = {}
    numbers = _index(task_ids)
    by = ["task_id", "probe_id", "protocol_id"]
    for (task_id, probe, protocol), rows in contents.labels.group_by(by, maintain_order=True):
        names = sorted(rows["label"].unique())
        cells: list[list[Any]] = [[None] * len(encoder_ids) for _ in names]
        row_of = _index(names)
        for label, encoder_id, mean in rows.select("label", "encoder_id", "mean").iter_rows():
            cells[row_of[label]][place[encoder_id]] = round(mean * 10_000)
        one = found.setdefault(str(numbers[str(task_id)]), {})
        one[str(series[str(probe), str(protocol)])] = {"labels": names, "mean": cells}
    return found


def _undone(lake: "Lake", contents: Contents) -> list[dict[str, Any]]:
    """The evaluations without a score, with the reason that is on record."""
    tried = (
        lake.table("gold.evaluations")
        .sort("evaluated_at")
        .select("evaluation_key", "status", "reason")
        .unique("evaluation_key", keep="last", maintain_order=True)
    )
    rows = (
        contents.items.lazy()
        .join(tried, on="evaluation_key", how="left")
        .filter(pl.col("status").fill_null("pending") != "ok")
        .select(
            "task_id",
            "encoder_id",
            "probe_id",
            pl.col("status").fill_null("pending"),
            pl.col("reason").fill_null("not evaluated yet; `genebench score` does it"),
        )
        .group_by("task_id", "probe_id", "status", "reason")
        .agg(pl.col("encoder_id").sort())
        .sort("task_id", "probe_id", "status", "reason")
        .collect()
    )
    return _plain(rows)


def _tables(lake: "Lake") -> list[dict[str, Any]]:
    rows = []
    for name in lake.delta.list_tables():
        history = lake.history(name)
        if history.height and not name.startswith("audit."):
            last = history.row(0, named=True)
            rows.append(
                {
                    "table": name,
                    "version": last["version"],
                    "committed_at": f"{last['committed_at']:%Y-%m-%d %H:%M} UTC",
                    "code": last["code"],
                    "inputs": last["inputs"],
                }
            )
    return rows


def _packages(lake: "Lake", contents: Contents) -> list[dict[str, Any]]:
    rows = (
        contents.items.lazy()
        .select("evaluation_key")
        .unique()
        .join(lake.table("gold.evaluations").filter(pl.col("status") == "ok"), on="evaluation_key")
        .group_by("packages", "revision")
        .agg(pl.len().alias("n_evaluations"), pl.col("seconds").sum().round(1))
        .sort("packages", "revision")
        .collect()
    )
    return _plain(rows)


def _published(
    contents: Contents, encoder_ids: list[str], task_ids: list[str]
) -> list[dict[str, Any]]:
    rows = contents.foreign.filter(
        pl.col("metric").is_in(set(MAIN_METRICS.values())) & (pl.col("label") == "")
    ).with_columns(
        pl.col("task_id").replace_strict(_index(task_ids), default=None, return_dtype=pl.Int64),
        pl.col("encoder_id").replace_strict(
            _index(encoder_ids), default=None, return_dtype=pl.Int64
        ),
        pl.col("mean", "sd").round(4),
    )
    linear = [name for name in rows["probe_name"].unique() if probe_of(name) == "linear"]
    return _plain(rows.filter(pl.col("probe_name").is_in(linear)).drop("label", "probe_name"))


def _plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; times as text."""
    times = [name for name, dtype in rows.schema.items() if dtype.is_temporal()]
    return rows.with_columns(pl.col(times).dt.strftime("%Y-%m-%d %H:%M UTC")).to_dicts()


def _round(value: float | None, digits: int = 5) -> float:
    """To significant digits: enough to read, short enough to send."""
    if value is None or value == 0 or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{digits}g}")

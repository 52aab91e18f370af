"""What the scores of a release lose where related genes are held out together."""

from typing import Any

import polars as pl

from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.statistics.means import OVERALL, rank_encoders, task_means, task_weights
from genebench.tasks.declaration import FAMILY_TITLES, is_subtask
from lakehouse.embed.encoder_records import list_encoders
from lakehouse.score.plan import CURRENT, current_release
from lakehouse.score.relatives import RELATIVES
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.time_travel import Tables

# The release that `score --protocol relatives` writes; the protocol has the name of its groups.
RELATIVES_RELEASE = current_release(RELATIVES)
DROPS_SCHEMA = pl.Schema(
    dict.fromkeys(["probe_id", "metric", "scope", "encoder_id", "modality"], pl.String())
    | {"n_tasks": pl.Int32()}
    | dict.fromkeys(["mean", "mean_held_out", "drop"], pl.Float64())
)
_ITEM = ["task_id", "encoder_id", "probe_id"]


def read_relatives_drops(tables: Tables, release: str) -> pl.DataFrame:
    """Compare the means of a release with those under the protocol `relatives`.

    Only whole tasks count that both releases have scored for an encoder, with equal labels and
    vectors, so that the protocol is all that differs.

    Args:
        tables: The tables of the lake.
        release: The release; for `RELATIVES_RELEASE` itself the release `current` is the other.

    Returns:
        `DROPS_SCHEMA`, one row for each probe, main metric, scope (a family or overall) and
        encoder: the number of tasks, the mean of the release, the mean where relatives are held
        out, and their difference. No rows unless both have been run.
    """
    empty = DROPS_SCHEMA.to_frame()
    open_to_relatives = CURRENT if release == RELATIVES_RELEASE else release
    known = set(tables.table("gold.releases").select("release_id").unique().collect()["release_id"])
    if not {open_to_relatives, RELATIVES_RELEASE} <= known:
        return empty
    same = [*_ITEM, "label_digest", "feature_digest"]
    leaves = {
        name: read_release(tables, name).filter(~is_subtask())
        for name in (open_to_relatives, RELATIVES_RELEASE)
    }
    means = {name: _main_means(tables, name, items) for name, items in leaves.items()}
    both = means[open_to_relatives].join(means[RELATIVES_RELEASE], on=[*same, "metric"], how="semi")
    if both.is_empty():
        return empty
    before, after = (
        _rank(leaves[name].join(both, on=same, how="semi"), means[name], both) for name in leaves
    )
    key = ["probe_id", "metric", "scope", "encoder_id"]
    return (
        before.join(after.select(*key, pl.col("mean").alias("mean_held_out")), on=key)
        .with_columns((pl.col("mean") - pl.col("mean_held_out")).alias("drop"))
        .select(DROPS_SCHEMA.names())
        .cast(DROPS_SCHEMA)
        .sort("probe_id", "metric", "scope", "drop", "encoder_id")
    )


def _main_means(tables: Tables, release: str, items: pl.DataFrame) -> pl.DataFrame:
    """Read the task means of a release by the main metrics, with the digests of its items."""
    scores = read_scores(tables, release=release, label="")
    scores = scores.filter(pl.col("metric").is_in(set(MAIN_METRICS.values())))
    digests = items.select(*_ITEM, "protocol_id", "label_digest", "feature_digest")
    return task_means(scores.collect()).join(digests, on=[*_ITEM, "protocol_id"])


def _rank(items: pl.DataFrame, means: pl.DataFrame, both: pl.DataFrame) -> pl.DataFrame:
    """Average the means of the evaluations that both releases have scored, by scope."""
    weighted = items.join(task_weights(items), on="task_id")
    return rank_encoders(weighted, means.join(both, on=[*_ITEM, "metric"], how="semi"))


def drop_tables(tables: Tables, release: str) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Return the drops of a release as tables: title (the metric), header and rows.

    Rows are encoders, sorted by their largest drop; a cell is `0.838 → 0.778`: the mean of the
    release and the mean where relatives are held out. Only the linear probe, if it was used.
    """
    drops = read_relatives_drops(tables, release)
    if "linear" in drops["probe_id"]:
        drops = drops.filter(probe_id="linear")
    titles = dict(list_encoders(tables).select("encoder_id", "title").iter_rows())
    found = []
    for (probe, metric), rows in drops.group_by("probe_id", "metric", maintain_order=True):
        present = set(rows["scope"])
        scopes = [name for name in (OVERALL, *FAMILY_TITLES) if name in present]
        cells: dict[str, dict[str, str]] = {}
        for row in rows.sort("drop", descending=True).iter_rows(named=True):
            text = f"{row['mean']:.3f} → {row['mean_held_out']:.3f}"
            cells.setdefault(row["encoder_id"], {})[row["scope"]] = text
        head = ["encoder", *(FAMILY_TITLES.get(name, name).split()[0] for name in scopes)]
        lines = [
            [titles.get(encoder_id, encoder_id), *(one.get(name) for name in scopes)]
            for encoder_id, one in cells.items()
        ]
        by = "" if probe == "linear" else f", {probe}"
        found.append((f"{METRICS[str(metric)].title}{by}, relatives held out", head, lines))
    return found

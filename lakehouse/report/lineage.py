"""Follows a score back to its evaluation, tables, snapshots and bytes, with all digests."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import ValidationError

from genebench.encoders.declaration import Encoder
from genebench.errors import ChecksumMismatch, SourceError
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.tasks.declaration import TEMPORAL, parent_task_id
from lakehouse.refresh.blobs import Blobs
from lakehouse.report.diff.lake_states import LakeState, find_state
from lakehouse.report.future_marks import describe_marks, read_marks
from lakehouse.score.evidence import read_evaluations
from lakehouse.score.scores import read_release, read_scores
from lakehouse.tables.manifest import RUNS
from lakehouse.tables.names import require_known
from lakehouse.tables.time_travel import Tables

# Tables whose rows a plan of a release reads.
_READ = (
    *("silver.tasks", "silver.samples", "silver.labels", "silver.entities", "silver.inputs"),
    *("silver.encoders", "silver.embeddings", "gold.universes"),
)
_INPUT_MODALITIES = ("text", "dna", "protein")


@dataclass(frozen=True)
class Lineage:
    """What a score was computed from.

    Attributes:
        score: Name to value: release, task, encoder, probe, metric, mean and keys; of a temporal
            task also `mark`, if the encoder may have known the later labels.
        labels: Name to value: the curation, and its run.
        vectors: Name to value: the encoder's digest, weights and run.
        tables: table, version and n_rows of what the release was planned from; of
            `gold.universes`, the rows of the release.
        snapshots: snapshot_id, file, version, used_for, retrieved_at, url, size_bytes and sha256.
    """

    score: dict[str, Any]
    labels: dict[str, Any]
    vectors: dict[str, Any]
    tables: pl.DataFrame
    snapshots: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """The lineage as JSON values."""
        parts: dict[str, Any] = {
            name: {key: str(value) for key, value in part.items()}
            for name, part in (
                ("score", self.score), ("labels", self.labels), ("vectors", self.vectors),
            )
        }  # fmt: skip
        times = pl.col("retrieved_at").dt.to_string()
        parts["snapshots"] = self.snapshots.with_columns(times).to_dicts()
        return parts | {"tables": self.tables.to_dicts()}


def read_lineage(
    tables: Tables, task: str, encoder: str, release: str, probe: str = "linear"
) -> Lineage:
    """Follow a score back to the bytes of its sources.

    Args:
        tables: The tables of the lake.
        task: A task or sub-task.
        encoder: An encoder.
        release: A release, run or time; see `lakehouse.report.diff.lake_states.find_state`.
        probe: A probe.

    Raises:
        LakeError: The release does not exist, or has no evaluation of this task, encoder and probe;
            suggests the nearest name.
    """
    state = find_state(tables, release, release)
    items = read_release(state.tables, release)
    for name, column in ((task, "task_id"), (encoder, "encoder_id"), (probe, "probe_id")):
        noun = f"{column.removesuffix('_id')} in release {release!r} named"
        require_known(name, items[column], noun)
        items = items.filter(pl.col(column) == name)
    item = items.row(0, named=True)
    record = _encoder_record(state, encoder)
    row = _task_record(state, task)
    return Lineage(
        _describe_score(state, item),
        _describe_labels(state, item, row),
        _describe_vectors(item, record),
        pl.DataFrame(
            [_describe_table(state, name) for name in _READ],
            schema={"table": pl.String, "version": pl.Int64, "n_rows": pl.Int64},
        ),
        _used_snapshots(state, row, record),
    )


def verify_bytes(tables: Tables, snapshots: pl.DataFrame) -> pl.DataFrame:
    """Hash the stored bytes of snapshots again.

    Args:
        tables: The tables of the lake.
        snapshots: The snapshots of a `Lineage`.

    Returns:
        The snapshots with `bytes`: verified, or what is wrong with them.
    """
    blobs = Blobs(tables.delta.storage)
    found = []
    for sha256 in snapshots["sha256"]:
        try:
            blobs.path(sha256)
            found.append("verified")
        except (ChecksumMismatch, SourceError) as error:
            found.append(str(error))
    return snapshots.with_columns(pl.Series("bytes", found, dtype=pl.String))


def _describe_score(state: LakeState, item: dict[str, Any]) -> dict[str, Any]:
    metric = MAIN_METRICS[item["kind"]]
    names = ("task_id", "encoder_id", "probe_id", "protocol_id")
    of_key = pl.col("evaluation_key") == item["evaluation_key"]
    evaluations = read_evaluations(state.tables).filter(of_key).collect()
    found = {"release": state.name, **{name: item[name] for name in names}}
    marks = read_marks(state.tables) if item["family"] == TEMPORAL else {}
    if mark := marks.get(item["encoder_id"]):
        found["mark"] = describe_marks([mark])
    if evaluations.is_empty():
        return found | {"state": "not evaluated yet", "evaluation_key": item["evaluation_key"]}
    row = evaluations.row(0, named=True)
    scores = read_scores(
        state.tables, item["task_id"], item["encoder_id"], metric=metric,
        release=state.release_id, probe=item["probe_id"], label="",
    ).collect()  # fmt: skip
    digests = ("evaluation_key", "label_digest", "feature_digest", "probe_digest")
    return {
        **found,
        "state": row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}",
        metric: scores["value"].mean(),
        "n_folds": scores["fold"].n_unique(),
        "n_samples": row["n_samples"],
        **{name: item[name] for name in digests},
        "evaluated_at": row["evaluated_at"],
        "evaluated_by_run": row["run_id"],
        "code": _code_of(state, row["run_id"]),
        "packages": row["packages"],
    }


def _describe_labels(
    state: LakeState, item: dict[str, Any], row: dict[str, Any] | None
) -> dict[str, Any]:
    curation = state.scored.curation()
    run_id = curation.run_id if curation else None
    known = {} if row is None else {name: row[name] for name in ("recipe", "source", "n_samples")}
    return {
        **known,
        "label_digest": item["label_digest"],
        "curated_at": curation.finished_at if curation else None,
        "curated_by_run": run_id,
        "code": _code_of(state, run_id),
    }


def _describe_vectors(item: dict[str, Any], record: dict[str, Any] | None) -> dict[str, Any]:
    found = {"feature_digest": item["feature_digest"]}
    if record is None:
        return found
    weights = json.loads(record["weights"]) if record["weights"] else {}
    names = ("encoder_digest", "wanted_digest", "n_entities", "dimension")
    return {
        **found,
        **{name: record[name] for name in names},
        **{f"weights {name}": digest for name, digest in weights.items()},
        "embedded_at": record["embedded_at"],
        "embedded_by_run": record["run_id"],
    }


def _describe_table(state: LakeState, name: str) -> dict[str, Any]:
    is_gold = name.startswith("gold.")
    tables = state.tables if is_gold else state.scored
    rows = tables.table(name)
    if is_gold:
        rows = rows.filter(pl.col("release_id") == state.release_id)
    n_rows = rows.select(pl.len()).collect().item()
    return {"table": name, "version": tables.version(name), "n_rows": n_rows}


def _used_snapshots(
    state: LakeState, row: dict[str, Any] | None, record: dict[str, Any] | None
) -> pl.DataFrame:
    """The snapshots of the labels, the entities and the inputs of a score."""
    used: dict[str, list[str]] = {}
    for snapshot_id in (row["snapshot_id"] if row else "").split(","):
        used.setdefault(snapshot_id, []).append("labels")
    entities = state.scored.table("silver.entities").select("snapshot_id").unique().collect()
    for snapshot_id in entities["snapshot_id"]:
        used.setdefault(snapshot_id, []).append("entities")
    encoder = _declared(record)
    if encoder is not None and encoder.reads in _INPUT_MODALITIES:
        inputs = state.scored.table("silver.inputs").filter(pl.col("modality") == encoder.reads)
        if encoder.fields:
            inputs = inputs.filter(pl.col("field").is_in(encoder.fields))
        for snapshot_id in inputs.select("snapshot_id").unique().collect()["snapshot_id"]:
            used.setdefault(snapshot_id, []).append(f"{encoder.reads} of the encoder")
    names = pl.DataFrame(
        {"snapshot_id": list(used), "used_for": [", ".join(words) for words in used.values()]},
        schema={"snapshot_id": pl.String, "used_for": pl.String},
    )
    columns = ["version", "used_for", "retrieved_at", "url", "size_bytes", "sha256"]
    return (
        state.scored.table("bronze.snapshots")
        .collect()
        .sort("retrieved_at")
        .unique("snapshot_id", keep="last")
        .join(names, on="snapshot_id")
        .select("snapshot_id", pl.concat_str("source", pl.lit("."), "file").alias("file"), *columns)
        .sort("file", "version")
    )


def _declared(record: dict[str, Any] | None) -> Encoder | None:
    """The recorded declaration of an encoder; None where it is outdated."""
    try:
        return Encoder.model_validate_json(record["declaration"]) if record else None
    except ValidationError:
        return None


def _encoder_record(state: LakeState, encoder: str) -> dict[str, Any] | None:
    rows = state.scored.table("silver.encoders").filter(pl.col("encoder_id") == encoder).collect()
    return rows.row(0, named=True) if rows.height else None


def _task_record(state: LakeState, task: str) -> dict[str, Any] | None:
    of_task = pl.col("task_id") == parent_task_id(task)
    rows = state.scored.table("silver.tasks").filter(of_task).collect()
    return rows.row(0, named=True) if rows.height else None


def _code_of(state: LakeState, run_id: str | None) -> str | None:
    """The version of the code of a run; None where it is not recorded."""
    if run_id is None:
        return None
    rows = state.tables.table(RUNS).filter(pl.col("run_id") == run_id).collect()
    return str(rows["code"][-1]) if rows.height else None

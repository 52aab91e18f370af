"""How much of a text encoder's score is in the words of the label: mask them, and score again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import Loader, LoaderInput
from genebench.entities.inputs import render_contents
from genebench.errors import LakeError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.metrics import MAIN_METRICS
from genebench.evaluation.problems import PreparedTask, derive_subtasks
from genebench.evaluation.statistics.bootstrap import LEVEL
from genebench.evaluation.statistics.paired_tests import compare_replicates
from genebench.evaluation.word_masking import mask_words, match_label, words_of
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from lakehouse.curate.task_selection import read_task
from lakehouse.score.universes import prepare_task
from lakehouse.tables.time_travel import Tables

LEAKAGE_SCHEMA = pl.Schema(
    {
        "task_id": pl.String(),
        "encoder_id": pl.String(),
        "label": pl.String(),
        "other_label": pl.String(),
        "n_masked": pl.Int64(),
        "n_masked_other": pl.Int64(),
        "value": pl.Float64(),
        "value_masked": pl.Float64(),
        "value_masked_other": pl.Float64(),
        "difference": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "p_value": pl.Float64(),
    }
)
Texts = Sequence[tuple[str, ...]]


def measure_leakage(
    lake: Tables,
    task_id: str,
    encoder: Encoder,
    loader: Loader,
    probe: Probe,
    protocol: Protocol,
    *,
    max_labels: int = 10,
) -> pl.DataFrame:
    """Score a multi-label task's labels with their own words masked, and another label's.

    Every text is masked, whichever labels its entity has, and encoded again; rows, folds and probe
    are the same, so the difference is paired.

    Args:
        lake: The lake, whose inputs are read.
        task_id: A multi-label task of single entities.
        encoder: A text encoder.
        loader: Its loader.
        probe: The probe.
        protocol: The rules.
        max_labels: The most frequent labels whose words occur at all.

    Returns:
        `LEAKAGE_SCHEMA`, a row a label. `difference` is the score with the other label's words
        masked less that with the own ones masked: what the own words gave beyond any words.

    Raises:
        LakeError: The task is not multi-label, the encoder reads no text, or the texts have no
            words of the labels.
    """
    row = read_task(lake, task_id)
    if row["kind"] != "multilabel" or encoder.reads != "text":
        raise LakeError(
            f"leakage is measured on a multi-label task by a text encoder; {task_id} is "
            f"{row['kind']}, {encoder.id} reads {encoder.reads}"
        )
    ids, texts = _read_texts(lake, row, encoder)
    parent = prepare_task(lake, row, pl.Series("entity_id", ids), protocol)
    counts = {label: _count(texts, label) for label in parent.labels}
    derived = {
        task.labels[0].removeprefix("not "): task for task in derive_subtasks(parent, protocol)
    }
    order = np.argsort(-parent.targets.sum(axis=0), kind="stable")
    rows: list[dict[str, Any]] = []

    def score(problem: PreparedTask, words: frozenset[str]) -> dict[str, Any]:
        masked = [tuple(mask_words(part, words)[0] for part in parts) for parts in texts]
        reading = LoaderInput(row["entity_types"], ids, masked)
        return _score(loader, reading, problem, probe, protocol)

    for label in [parent.labels[place] for place in order]:
        other = match_label(label, parent.labels, counts)
        if not counts[label] or other is None or len(rows) >= max_labels:
            continue
        task = derived[label]
        plain, own, off = (
            score(task, words) for words in (frozenset[str](), words_of(label), words_of(other))
        )
        found = compare_replicates(
            off["value"] - own["value"],
            off["replicates"],
            own["replicates"],
            LEVEL,
        )
        rows.append(
            {
                "task_id": task_id,
                "encoder_id": encoder.id,
                "label": label,
                "other_label": other,
                "n_masked": counts[label],
                "n_masked_other": counts[other],
                "value": plain["value"],
                "value_masked": own["value"],
                "value_masked_other": off["value"],
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
            }
        )
    if not rows:
        raise LakeError(
            f"{task_id}: no text that {encoder.id} reads has the words of two labels, one to take "
            "out and one to compare with; choose another task"
        )
    return pl.DataFrame(rows, schema=LEAKAGE_SCHEMA)


def _read_texts(lake: Tables, row: Mapping[str, Any], encoder: Encoder) -> tuple[list[str], Texts]:
    """Sorted ids of the task's entities that the encoder has a text of, and their texts."""
    inputs = lake.table("silver.inputs").filter(
        (pl.col("modality") == "text") & (pl.col("entity_type") == row["entity_types"])
    )
    wanted = lake.table("silver.samples").filter(pl.col("task_id") == row["task_id"])
    needed = wanted.select("entity_id").unique().collect()["entity_id"]
    rendered = render_contents(inputs.collect(), encoder, row["entity_types"], needed)
    rendered = rendered.sort("entity_id")
    return rendered["entity_id"].to_list(), [tuple(one) for one in rendered["contents"].to_list()]


def _count(texts: Texts, label: str) -> int:
    words = words_of(label)
    return sum(mask_words(part, words)[1] for parts in texts for part in parts) if words else 0


def _score(
    loader: Loader, reading: LoaderInput, task: PreparedTask, probe: Probe, protocol: Protocol
) -> dict[str, Any]:
    vectors = loader.encode(reading, _stay_silent)
    (found,) = evaluate(
        vectors.matrix, [task.problem(task.task_id, protocol)], probe, protocol, intervals=True
    )
    if found.intervals is None:
        raise LakeError(f"{task.task_id}: {found.status}: {found.reason}")
    (row,) = found.intervals.filter(metric=MAIN_METRICS[task.kind]).to_dicts()
    drawn: npt.NDArray[np.float64] = np.array(row["replicates"], dtype=np.float64)
    return {"value": row["value"], "replicates": drawn}


def _stay_silent(n_done: int) -> None:
    """Nobody watches the progress of so short an encoding."""
    del n_done

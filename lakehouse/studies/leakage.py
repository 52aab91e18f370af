"""Measures label leakage of text encoders: masks the words of a label and scores again."""

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
from genebench.evaluation.statistics.paired_tests import paired_bootstrap_test
from genebench.evaluation.word_masking import label_words, mask_words, match_label
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from lakehouse.curate.task_selection import read_task
from lakehouse.score.universes import read_prepared_task
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
    tables: Tables,
    task_id: str,
    encoder: Encoder,
    loader: Loader,
    probe: Probe,
    protocol: Protocol,
    *,
    max_labels: int = 10,
) -> pl.DataFrame:
    """Measure how much of each label's score comes from the words of the label in the texts.

    Each label of a multi-label task is scored three times: with all texts unchanged, with the words
    of the label masked, and, as a control, with the words of another label masked that occur about
    as often. The words are masked in every text, whichever labels its entity has, and the texts are
    encoded again. Samples, folds and probe stay the same, so the differences are paired.

    Args:
        tables: The tables of the lake; texts, samples and labels are read.
        task_id: A multi-label task of single entities.
        encoder: A text encoder.
        loader: The loader of the encoder.
        probe: The probe.
        protocol: The protocol.
        max_labels: Maximum number of labels; the most frequent ones whose words occur in the texts
            are measured.

    Returns:
        `LEAKAGE_SCHEMA`, one row per label. `value`, `value_masked` and `value_masked_other` are
        the main metric of the three scores, `n_masked` and `n_masked_other` the numbers of masked
        words. `difference` is value_masked_other - value_masked, with its interval and p value:
        positive if the label's own words carry more of the score than other words do.

    Raises:
        LakeError: The task is not multi-label, the encoder does not read text, or the texts do not
            contain the words of two distinct labels.
    """
    row = read_task(tables, task_id)
    if row["kind"] != "multilabel" or encoder.reads != "text":
        raise LakeError(
            "leakage needs a multi-label task and a text encoder; "
            f"{task_id} is {row['kind']}, {encoder.id} reads {encoder.reads}"
        )
    ids, texts = _read_texts(tables, row, encoder)
    parent = read_prepared_task(tables, row, pl.Series("entity_id", ids), protocol)
    counts = {label: _count(texts, label) for label in parent.labels}
    derived = {
        task.labels[0].removeprefix("not "): task for task in derive_subtasks(parent, protocol)
    }
    order = np.argsort(-parent.targets.sum(axis=0), kind="stable")
    rows: list[dict[str, Any]] = []

    def score(problem: PreparedTask, words: frozenset[str]) -> dict[str, Any]:
        masked = [tuple(mask_words(part, words)[0] for part in parts) for parts in texts]
        return _score(
            loader, LoaderInput(row["entity_types"], ids, masked), problem, probe, protocol
        )

    for label in [parent.labels[place] for place in order]:
        other = match_label(label, parent.labels, counts)
        if not counts[label] or other is None or len(rows) >= max_labels:
            continue
        task = derived[label]
        unmasked, own_masked, other_masked = (
            score(task, words)
            for words in (frozenset[str](), label_words(label), label_words(other))
        )
        found = paired_bootstrap_test(
            other_masked["value"] - own_masked["value"],
            other_masked["replicates"],
            own_masked["replicates"],
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
                "value": unmasked["value"],
                "value_masked": own_masked["value"],
                "value_masked_other": other_masked["value"],
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "p_value": found.p_value,
            }
        )
    if not rows:
        raise LakeError(
            f"{task_id}: the texts that {encoder.id} reads do not contain the words of two "
            "distinct labels, one to mask and one as a control; choose another task"
        )
    return pl.DataFrame(rows, schema=LEAKAGE_SCHEMA)


def _read_texts(
    tables: Tables, row: Mapping[str, Any], encoder: Encoder
) -> tuple[list[str], Texts]:
    """Read the task's entities that have a text for the encoder: sorted ids, and their texts."""
    inputs = tables.table("silver.inputs").filter(
        (pl.col("modality") == "text") & (pl.col("entity_type") == row["entity_types"])
    )
    wanted = tables.table("silver.samples").filter(pl.col("task_id") == row["task_id"])
    needed = wanted.select("entity_id").unique().collect()["entity_id"]
    rendered = render_contents(inputs.collect(), encoder, row["entity_types"], needed)
    rendered = rendered.sort("entity_id")
    return rendered["entity_id"].to_list(), [tuple(one) for one in rendered["contents"].to_list()]


def _count(texts: Texts, label: str) -> int:
    words = label_words(label)
    return sum(mask_words(part, words)[1] for parts in texts for part in parts) if words else 0


def _score(
    loader: Loader, loader_input: LoaderInput, task: PreparedTask, probe: Probe, protocol: Protocol
) -> dict[str, Any]:
    vectors = loader.encode(loader_input, _ignore_progress)
    (found,) = evaluate(
        vectors.matrix, [task.problem(task.task_id, protocol)], probe, protocol, intervals=True
    )
    if found.intervals is None:
        raise LakeError(f"{task.task_id}: {found.status}: {found.reason}")
    (row,) = found.intervals.filter(metric=MAIN_METRICS[task.kind]).to_dicts()
    replicates: npt.NDArray[np.float64] = np.array(row["replicates"], dtype=np.float64)
    return {"value": row["value"], "replicates": replicates}


def _ignore_progress(n_done: int) -> None:
    """Accept the progress callback of `Loader.encode` and do nothing with it."""
    del n_done

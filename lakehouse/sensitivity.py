"""How much of a score is the encoder's, and how much the probe's, the penalty's or the sample's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from genebench.errors import LakeError
from genebench.evaluate import evaluate
from genebench.metrics import MAIN_METRICS, METRICS
from genebench.probes import TRAIN, UNUSED, Probe, Problem
from genebench.problems import prepare
from genebench.protocols import Protocol
from lakehouse.materials import read_vectors

if TYPE_CHECKING:
    from lakehouse.queries import Lake

SENSITIVITY_SCHEMA = pl.Schema(
    {
        "task_id": pl.String(),
        "encoder_id": pl.String(),
        "study": pl.String(),
        "setting": pl.String(),
        "number": pl.Float64(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "sd": pl.Float64(),
        "n_train": pl.Int64(),
        "reason": pl.String(),
    }
)
STUDIES = ("probe", "penalty", "fraction")
TITLES = {"probe": "Probe", "penalty": "C of the linear probe", "fraction": "Share of training"}
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)


def measure_sensitivity(
    lake: "Lake",
    task_id: str,
    encoder_ids: Sequence[str],
    probes: Mapping[str, Probe],
    protocol: Protocol,
    *,
    penalties: Sequence[float] = PENALTIES,
    fractions: Sequence[float] = FRACTIONS,
) -> pl.DataFrame:
    """Score one task again and again, with one thing changed at a time.

    The rows are the entities that all the encoders have; folds are the protocol's, and the same in
    every row of the answer. `probe` exchanges the estimator; `penalty` fits the linear probe at one
    C after the other (nothing is chosen, so the best of them is no honest score); `fraction` keeps
    a seeded share of each fold's training rows (a learning curve), the protocol as it is.

    Args:
        lake: The lake.
        task_id: A task of it.
        encoder_ids: Encoders that have embedded.
        probes: By id; the first one's penalty and learning curve are drawn.
        protocol: The rules around them.
        penalties: Values of C.
        fractions: Shares of the training rows, above 0 and at most 1.

    Returns:
        `SENSITIVITY_SCHEMA`, a row an encoder and setting: the mean of the main metric over folds
        with its deviation, the training rows of a mean fold, or why there is no value. `number` is
        the setting as a number, null for probes.

    Raises:
        LakeError: The task is unknown, or an encoder has no vectors of its entities.
        ValueError: A fraction is not in (0, 1].
    """
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError("a fraction of the training rows is above 0 and at most 1")
    row = lake.task(task_id)
    vectors = {encoder_id: read_vectors(lake.delta, encoder_id) for encoder_id in encoder_ids}
    common = set.intersection(*({*one.entity_ids} for one in vectors.values()))
    if not common:
        raise LakeError(f"no entity has vectors of all of {', '.join(encoder_ids)}")
    universe = pl.Series("entity_id", sorted(common))
    mine = pl.col("task_id") == task_id
    samples = lake.table("silver.samples").filter(mine).collect()
    labels = lake.table("silver.labels").filter(mine).collect()
    problem = prepare(row, samples, labels, universe, protocol).problem(task_id, protocol)
    metric = MAIN_METRICS[row["kind"]]
    rows = []
    for encoder_id, one in vectors.items():
        place = {entity_id: number for number, entity_id in enumerate(one.entity_ids)}
        matrix = one.matrix[[place[entity_id] for entity_id in universe]]
        for study, setting, number, probe, rules, asked in _settings(
            problem, probes, protocol, penalties, fractions
        ):
            (found,) = evaluate(matrix, [asked], probe, rules)
            whole = found.scores.filter(metric=metric, label="")
            rows.append(
                {
                    "task_id": task_id,
                    "encoder_id": encoder_id,
                    "study": study,
                    "setting": setting,
                    "number": number,
                    "metric": metric,
                    "value": whole["value"].mean(),
                    "sd": whole["value"].std(ddof=0),
                    "n_train": round(float((asked.split == TRAIN).sum(axis=0).mean())),
                    "reason": found.reason,
                }
            )
    return pl.DataFrame(rows, schema=SENSITIVITY_SCHEMA)


def _settings(
    problem: Problem,
    probes: Mapping[str, Probe],
    protocol: Protocol,
    penalties: Sequence[float],
    fractions: Sequence[float],
) -> Iterator[tuple[str, str, float | None, Probe, Protocol, Problem]]:
    first = next(iter(probes.values()))
    for probe_id, probe in probes.items():
        yield "probe", probe_id, None, probe, protocol, problem
    for c in penalties:
        fixed = protocol.penalty.model_copy(update={"c": (c,)})
        rules = protocol.model_copy(update={"penalty": fixed})
        yield "penalty", f"{c:g}", c, first, rules, problem
    for fraction in fractions:
        split = thin_training(problem.split, fraction, protocol.folds.seed)
        yield "fraction", f"{fraction:g}", fraction, first, protocol, replace(problem, split=split)


def thin_training(split: Any, fraction: float, seed: int) -> Any:
    """Keep a share of each fold's training rows; a larger share holds all rows of a smaller one.

    Args:
        split: (samples, folds) int8 of UNUSED, TRAIN and TEST.
        fraction: The share.
        seed: Of the order in which rows are taken.

    Returns:
        The same, with the other training rows unused.
    """
    order = np.random.default_rng(seed).permutation(len(split))
    thinned = split.copy()
    for fold in thinned.T:
        trained = order[fold[order] == TRAIN]
        fold[trained[max(round(fraction * len(trained)), 1) :]] = UNUSED
    return thinned


def draw_sensitivity(rows: pl.DataFrame) -> Any:
    """A panel a study, a colour an encoder.

    Args:
        rows: `SENSITIVITY_SCHEMA`, of one task.

    Returns:
        A Vega-Altair chart.
    """
    drawn = rows.filter(pl.col("value").is_not_null())
    title = METRICS[drawn["metric"][0]].title
    panels = []
    for study in STUDIES:
        part = drawn.filter(study=study)
        if not part.height:
            continue
        if study == "probe":
            place = alt.X("setting:N", title=TITLES[study], sort=part["setting"].unique().to_list())
        else:
            place = alt.X("number:Q", title=TITLES[study], scale=alt.Scale(type="log"))
        base = alt.Chart(part).encode(
            x=place,
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False)),
            color=alt.Color("encoder_id:N", title="encoder"),
            tooltip=["encoder_id", "setting", "value", "sd", "n_train"],
        )
        marks = base.mark_point(filled=True, size=50)
        panels.append(
            (marks if study == "probe" else base.mark_line() + marks).properties(width=260)
        )
    return alt.hconcat(*panels).properties(title=drawn["task_id"][0])

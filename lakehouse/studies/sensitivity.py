"""How much of a score is the encoder's, and how much the probe's, the penalty's or the sample's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.resplits import thin_training
from genebench.probes.declaration import TRAIN, Probe, Problem
from genebench.protocols.declaration import Protocol
from lakehouse.curate.task_selection import read_task
from lakehouse.embed.stored_vectors import read_finished
from lakehouse.score.universes import prepare_task
from lakehouse.tables.time_travel import Tables

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
    lake: Tables,
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
        probes: By id; the first one's learning curve is drawn, and its penalty if it is linear.
        protocol: The rules around them.
        penalties: Values of C.
        fractions: Shares of the training rows, above 0 and at most 1.

    Returns:
        `SENSITIVITY_SCHEMA`, a row an encoder and setting: the mean of the main metric over folds
        with its deviation, the training rows of a mean fold, or why there is no value. `number` is
        the setting as a number, null for probes.

    Raises:
        LakeError: The task is unknown, an encoder has no vectors or not yet all, or a fraction is
            not in (0, 1].
    """
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise LakeError("a fraction of the training rows is above 0 and at most 1")
    row = read_task(lake, task_id)
    vectors = {encoder_id: read_finished(lake.delta, encoder_id) for encoder_id in encoder_ids}
    common = set.intersection(*({*one.entity_ids} for one in vectors.values()))
    if not common:
        raise LakeError(f"no entity has vectors of all of {', '.join(encoder_ids)}")
    universe = pl.Series("entity_id", sorted(common))
    problem = prepare_task(lake, row, universe, protocol).problem(task_id, protocol)
    metric = MAIN_METRICS[row["kind"]]
    rows = []
    for encoder_id, one in vectors.items():
        place = {entity_id: number for number, entity_id in enumerate(one.entity_ids)}
        matrix = one.matrix[[place[entity_id] for entity_id in universe]]
        for study, probe, rules, asked in _studies(problem, probes, protocol, penalties, fractions):
            # Problems of one rule are solved together; they come in the order of their groups.
            found = {done.problem_id: done for done in evaluate(matrix, asked, probe, rules)}
            for one_problem in asked:
                done = found[one_problem.id]
                whole = done.scores.filter(metric=metric, label="")
                rows.append(
                    {
                        "task_id": task_id,
                        "encoder_id": encoder_id,
                        "study": study,
                        "setting": done.problem_id,
                        "number": None if study == "probe" else float(done.problem_id),
                        "metric": metric,
                        "value": whole["value"].mean(),
                        "sd": whole["value"].std(ddof=0),
                        "n_train": round(float((one_problem.split == TRAIN).sum(axis=0).mean())),
                        "reason": done.reason,
                    }
                )
    return pl.DataFrame(rows, schema=SENSITIVITY_SCHEMA)


def _studies(
    problem: Problem,
    probes: Mapping[str, Probe],
    protocol: Protocol,
    penalties: Sequence[float],
    fractions: Sequence[float],
) -> Iterator[tuple[str, Probe, Protocol, list[Problem]]]:
    """What is solved together: a study, its probe and rules, and problems named by the setting."""
    first = next(iter(probes.values()))
    for probe_id, probe in probes.items():
        yield "probe", probe, protocol, [replace(problem, id=probe_id)]
    if first.engine == "linear":
        for c in penalties:
            fixed = protocol.penalty.model_copy(update={"c": (c,)})
            rules = protocol.model_copy(update={"penalty": fixed})
            yield "penalty", first, rules, [replace(problem, id=f"{c:g}")]
    seed = protocol.folds.seed
    thinned = [
        replace(thin_training(problem, share, seed), id=f"{share:g}")
        for share in dict.fromkeys(fractions)
    ]
    yield "fraction", first, protocol, thinned


def join_tasks(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`SENSITIVITY_SCHEMA` of several tasks, in their order; empty without one."""
    return pl.concat([SENSITIVITY_SCHEMA.to_frame(), *parts])


def draw_sensitivity(rows: pl.DataFrame) -> Any:
    """A row of panels a task, a panel a study, a colour an encoder.

    Args:
        rows: `SENSITIVITY_SCHEMA`.

    Returns:
        A Vega-Altair chart.

    Raises:
        LakeError: No setting has a value.
    """
    drawn = rows.filter(pl.col("value").is_not_null())
    if not drawn.height:
        raise LakeError(f"nothing to draw: {'; '.join(sorted({*rows['reason']}))}")
    return alt.vconcat(
        *(_draw_task(part) for part in drawn.partition_by("task_id", maintain_order=True))
    )


def _draw_task(rows: pl.DataFrame) -> Any:
    title = METRICS[rows["metric"][0]].title
    panels = []
    for study in STUDIES:
        part = rows.filter(study=study)
        if not part.height:
            continue
        if study == "probe":
            place = alt.X(
                "setting:N",
                title=TITLES[study],
                sort=part["setting"].unique(maintain_order=True).to_list(),
            )
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
    return alt.hconcat(*panels).properties(title=rows["task_id"][0])

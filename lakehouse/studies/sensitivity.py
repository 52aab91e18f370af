"""Measures how a score depends on the probe, the penalty and the number of training rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl

from genebench.errors import LakeError
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.metrics import MAIN_METRICS, METRICS
from genebench.evaluation.resplits import subsample_training
from genebench.probes.declaration import TRAIN, Probe, Problem
from genebench.protocols.declaration import Protocol
from lakehouse.curate.task_selection import read_task
from lakehouse.embed.stored_vectors import read_complete_vectors
from lakehouse.score.universes import read_prepared_task
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
    tables: Tables,
    task_id: str,
    encoder_ids: Sequence[str],
    probes: Mapping[str, Probe],
    protocol: Protocol,
    *,
    penalties: Sequence[float] = PENALTIES,
    fractions: Sequence[float] = FRACTIONS,
) -> pl.DataFrame:
    """Score one task repeatedly, changing one setting at a time.

    The three studies are `probe` (another estimator), `penalty` (the linear probe at each fixed C)
    and `fraction` (a seeded share of each fold's training rows, that is, a learning curve). All
    encoders are scored on the entities that all of them cover, in the protocol's folds. The best
    penalty is chosen on the test rows, so its score is optimistic and must not be reported.

    Args:
        tables: The tables of the lake.
        task_id: The task.
        encoder_ids: Encoders with complete vectors.
        probes: Probe id to its declaration. `fraction` uses the first one; so does `penalty`, if
            it is linear.
        protocol: The protocol.
        penalties: Values of C.
        fractions: Shares of the training rows, above 0 and at most 1.

    Returns:
        `SENSITIVITY_SCHEMA`, one row per encoder, study and setting. `value` and `sd` are the mean
        and population standard deviation of the main metric over folds, `n_train` the mean number
        of training rows of a fold; if `value` is null, `reason` says why. `number` is the setting
        as a number, null for probes.

    Raises:
        LakeError: The task does not exist, the vectors of an encoder are missing or incomplete, no
            entity is covered by all encoders, or a fraction is not in (0, 1].
    """
    if wrong := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        raise LakeError(
            f"{wrong[0]:g} is not a fraction of the training rows; it must be above 0 and at most 1"
        )
    row = read_task(tables, task_id)
    vectors = {
        encoder_id: read_complete_vectors(tables.delta, encoder_id) for encoder_id in encoder_ids
    }
    common = set.intersection(*({*one.entity_ids} for one in vectors.values()))
    if not common:
        raise LakeError(
            f"no entity has vectors of all of {', '.join(encoder_ids)}; study them separately"
        )
    universe = pl.Series("entity_id", sorted(common))
    problem = read_prepared_task(tables, row, universe, protocol).problem(task_id, protocol)
    metric = MAIN_METRICS[row["kind"]]
    rows = []
    for encoder_id, one in vectors.items():
        place = {entity_id: number for number, entity_id in enumerate(one.entity_ids)}
        matrix = one.matrix[[place[entity_id] for entity_id in universe]]
        for study, probe, rules, problems in _settings(
            problem, probes, protocol, penalties, fractions
        ):
            # `evaluate` groups the problems that it solves together, and yields them in that order.
            found = {done.problem_id: done for done in evaluate(matrix, problems, probe, rules)}
            for one_problem in problems:
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


def _settings(
    problem: Problem,
    probes: Mapping[str, Probe],
    protocol: Protocol,
    penalties: Sequence[float],
    fractions: Sequence[float],
) -> Iterator[tuple[str, Probe, Protocol, list[Problem]]]:
    """Yield study, probe, protocol and problems; the id of a problem is its setting."""
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
        replace(subsample_training(problem, share, seed), id=f"{share:g}")
        for share in dict.fromkeys(fractions)
    ]
    yield "fraction", first, protocol, thinned


def concat_tasks(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate rows of `SENSITIVITY_SCHEMA` of several tasks; an empty frame without any."""
    return pl.concat([SENSITIVITY_SCHEMA.to_frame(), *parts])


def draw_sensitivity(rows: pl.DataFrame) -> Any:
    """Draw one row of panels per task, one panel per study and one colour per encoder.

    Args:
        rows: Rows of `SENSITIVITY_SCHEMA`.

    Returns:
        A Vega-Altair chart.

    Raises:
        LakeError: No row has a value.
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

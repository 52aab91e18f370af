"""The score flow: plan the release, and evaluate what is pending, one task run per encoder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import replace as replace_fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.run.context import Context, open_context
from flows.run.gate import append, append_together, finish_run, replace
from flows.run.parameters import (
    NO_SELECTION,
    SETTING,
    EncoderId,
    FamilyId,
    FilePath,
    ProbeId,
    ProfileId,
    ProtocolId,
    TaskId,
    TaskPattern,
    UniverseId,
    Unset,
    choose,
)
from flows.run.progress import track
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.task_runners import TASK_RUNNER, task_result
from flows.run.writer_lock import with_writer_lock
from flows.server.hooks import HOOKS
from genebench.errors import LakeError
from lakehouse.curate.state import require_curated
from lakehouse.curate.task_selection import select_tasks
from lakehouse.embed.encoder_records import encoder_families, encoder_probes
from lakehouse.report.significance import stored_rows
from lakehouse.score.encoder_evaluation import FinishedBatch, evaluate_encoder
from lakehouse.score.plan import ReleasePlan, current_release, plan_release, planned_probes
from lakehouse.score.result_rows import (
    evaluation_rows,
    fold_rows,
    interval_rows,
    prediction_rows,
    score_rows,
    tasks_without_folds,
)

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ScoreRequest:
    """The parameters of a score run, as plain values that can be sent to any worker."""

    profile: str
    protocol: str
    probes: tuple[str, ...]
    universe: str
    tasks: tuple[str, ...]
    encoder_files: tuple[str, ...]
    lake: str
    encoders: tuple[str, ...]
    keeps_predictions: bool = False

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ScoreRequest":
        """Rebuild a request from its fields; lists become tuples."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


@flow(name="score", flow_run_name=run_name, task_runner=TASK_RUNNER, **HOOKS)
@with_writer_lock
def score(
    encoders: list[EncoderId] | Unset = NO_SELECTION,
    tasks: list[TaskId] | Unset = NO_SELECTION,
    task_patterns: list[TaskPattern] | Unset = NO_SELECTION,
    families: list[FamilyId] | Unset = NO_SELECTION,
    probes: list[ProbeId] | Unset = NO_SELECTION,
    protocol: ProtocolId | Unset = SETTING,
    universe: UniverseId = "shared",
    profile: ProfileId | Unset = SETTING,
    dry_run: bool = False,
    encoder_files: list[FilePath] | Unset = NO_SELECTION,
    keep_predictions: bool = False,
) -> RunSummary:
    """Evaluate pending encoder and task pairs, and add them to the release of the protocol.

    An encoder without vectors, or with too few, is refused with the reason; if it was selected by
    name, the run fails.

    Args:
        encoders: Encoders. Default: all with vectors in the lake. Python calls may pass globs.
        tasks: Tasks. Default: all, except superseded tasks, which must be named in full.
        task_patterns: More tasks: sub-tasks, your own tasks, or globs (rna_*).
        families: Families of tasks. Default: all.
        probes: Probes. Default: linear.
        protocol: The protocol; default is the setting GENEBENCH_PROTOCOL.
        universe: shared (entities that every encoder covers) or full (for each encoder, all
            entities that it covers; the release is current_full).
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        dry_run: List what is pending and why, without computing anything.
        encoder_files: YAML files with your own encoders.
        keep_predictions: Store the held-out predictions in the table gold.predictions.
    """
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    require_curated(context.lake)
    named_tasks = [*(tasks or ()), *(task_patterns or ())]
    request = ScoreRequest(
        context.registry.profile.id,
        choose(protocol, context.settings.protocol),
        tuple(probes or ["linear"]),
        universe,
        tuple(select_tasks(context.lake, context.registry, named_tasks, families or [])),
        files,
        context.lake.delta.storage.root,
        tuple(e.id for e in context.choose_encoders(encoders, files)) if encoders else (),
        keep_predictions,
    )
    summary = RunSummary("score")
    plan = make_plan(context, request)
    wanted = _encoders_to_score(plan, request)
    pending = plan.select(request.tasks, wanted)
    summary.refused |= plan.excluded
    summary.refused |= {
        name: f"it has no vectors in the lake; `genebench embed {name}` makes them"
        for name in request.encoders
        if name not in wanted and name not in plan.excluded
    }
    if dry_run:
        summary.done |= describe_pending(pending)
        return finish_run(context, summary)
    _save_folds(context, request, plan)
    failures = {name: why for name, why in summary.refused.items() if name in (encoders or [])}
    runs: dict[str, PrefectFuture[tuple[str, dict[str, str]]]] = {}
    for encoder_id in sorted(wanted):
        n_pending = count_evaluations(pending, encoder_id)
        if not n_pending:
            summary.skipped[encoder_id] = (
                f"{count_evaluations(plan.items, encoder_id):,} evaluations"
            )
            continue
        scoring = score_encoder.with_options(task_run_name=f"score {encoder_id}")
        runs[encoder_id] = scoring.submit(encoder_id, asdict(request))
    for encoder_id, run in runs.items():
        result = task_result(run)
        if isinstance(result, BaseException):
            failures[encoder_id] = str(result)
            continue
        done, failed = result
        n_kept = count_evaluations(plan.items, encoder_id) - count_evaluations(
            plan.pending, encoder_id
        )
        summary.done[encoder_id] = f"{done}, {n_kept:,} kept" if n_kept else done
        failures |= failed
    update_release(context, request)
    return finish_run(context, summary, failures)


@task(name="score encoder", cache_policy=NO_CACHE)
def score_encoder(encoder_id: str, fields: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Evaluate the pending tasks of one encoder; commit finished families every few seconds.

    Args:
        encoder_id: The encoder.
        fields: The fields of a `ScoreRequest`.

    Returns:
        A line of text for the run summary, and the failed evaluations with their reasons.
    """
    request = ScoreRequest.from_dict(fields)
    context = open_context(request.profile, request.encoder_files, lake_root=request.lake)
    plan = make_plan(context, request)
    # Selected for all encoders of the run: evaluations that encoders share go to one task run only.
    chosen = plan.select(request.tasks, _encoders_to_score(plan, request))
    pending = chosen.filter(encoder_id=encoder_id)
    commit = context.commit({"silver.tasks": context.lake.delta.version("silver.tasks")})
    states: dict[str, int] = {}
    failed: dict[str, str] = {}
    with track(f"score {encoder_id}", pending.height, "evaluations") as advance:
        for batch in evaluate_encoder(
            context.lake.delta,
            plan,
            encoder_id,
            pending,
            context.registry.probes,
            context.registry.protocols[request.protocol],
            context.settings,
            advance,
            predictions=request.keeps_predictions,
            encoder_probe=encoder_probes(context.lake.delta, context.registry).get(encoder_id),
        ):
            # Rows count with the evaluation of their batch: a repeated task run doubles nothing.
            names = (context.run_id, uuid4().hex)
            scores = score_rows(batch.items, batch.evaluations, *names)
            rows = evaluation_rows(batch.items, batch.evaluations, *names)
            # Scores first, so that every stored evaluation is complete even if the run is killed.
            frames = {
                "gold.scores": scores,
                **_extra_rows(plan, encoder_id, batch, names),
                "gold.evaluations": rows,
            }
            append_together(context, frames, commit)
            for one in batch.evaluations:
                states[one.status] = states.get(one.status, 0) + 1
                if one.status == "failed":
                    task_id = batch.items[one.problem_id]["task_id"]
                    failed[f"{encoder_id} on {task_id}"] = one.reason
    return ", ".join(f"{n:,} {status}" for status, n in sorted(states.items())), failed


def _extra_rows(
    plan: ReleasePlan, encoder_id: str, batch: FinishedBatch, names: tuple[str, str]
) -> "dict[str, pl.DataFrame]":
    """Return the rows of intervals and predictions of a batch, by table, where it has some."""
    prepared = plan.universe_of(encoder_id).prepared
    ids = {name: task.sample_ids.tolist() for name, task in prepared.items()}
    made = {
        "gold.intervals": interval_rows(batch.items, batch.evaluations, *names),
        "gold.predictions": prediction_rows(batch.items, batch.evaluations, ids, *names),
    }
    return {table: rows for table, rows in made.items() if len(rows)}


def _encoders_to_score(plan: ReleasePlan, request: ScoreRequest) -> set[str]:
    """Return the encoders of the plan that the request selects; all of them by default."""
    planned = {*plan.items["encoder_id"]}
    return planned & {*request.encoders} if request.encoders else planned


def make_plan(context: Context, request: ScoreRequest) -> ReleasePlan:
    """Plan the release of the request's protocol: which evaluations belong to it.

    Raises:
        LakeError: No encoder has vectors of entities that a task samples.
    """
    protocol = context.registry.choose_protocol(request.protocol)
    plan = plan_release(
        context.lake.delta,
        protocol,
        [context.registry.choose_probe(name) for name in request.probes],
        current_release(protocol.id, request.universe),
        request.universe,
        encoder_probes(context.lake.delta, context.registry),
        request.tasks,
        encoder_families(context.lake.delta, context.registry),
    )
    if not plan.universes:
        reasons = "".join(f"\n  {name}: {why}" for name, why in plan.excluded.items())
        raise LakeError(f"no encoder can be scored; run `genebench embed` first{reasons}")
    return plan


def update_release(context: Context, request: ScoreRequest) -> None:
    """Update the rows of a release in `gold.universes` and `gold.releases` to the current plan.

    The release keeps its other probes. A table whose rows are the same gets no new version.
    """
    release = current_release(request.protocol, request.universe)
    delta, known = context.lake.delta, context.registry.probes
    probes = planned_probes(delta, release, request.probes, known)
    plan = make_plan(context, replace_fields(request, probes=probes))
    commit = context.commit({name: context.lake.delta.version(name) for name in _RELEASE_INPUTS})
    partition = {"release_id": plan.release_id}
    for name, planned, rows in (
        ("gold.universes", plan.universe_rows(), plan.universe_rows()),
        ("gold.releases", plan.items, plan.release_rows(context.run_id)),
    ):
        stored = stored_rows(context.lake, name, plan.release_id)
        same = stored.select(planned.columns).sort(planned.columns)
        if not same.equals(planned.sort(planned.columns)):
            previous = stored.select(rows.columns) if stored.height else None
            replace(context, name, rows, commit, partition, previous=previous)


_RELEASE_INPUTS = (
    "silver.tasks",
    "silver.samples",
    "silver.labels",
    "gold.evaluations",
    "gold.scores",
)


def _save_folds(context: Context, request: ScoreRequest, plan: ReleasePlan) -> None:
    protocol = context.registry.choose_protocol(request.protocol)
    for universe in plan.universes:
        missing = tasks_without_folds(
            context.lake.delta, list(universe.prepared.values()), protocol
        )
        if missing:
            append(context, "gold.folds", fold_rows(missing, protocol), context.commit())


def count_evaluations(items: "pl.DataFrame", encoder_id: str) -> int:
    """Return the number of plan rows of an encoder."""
    return int((items["encoder_id"] == encoder_id).sum())


def describe_pending(pending: "pl.DataFrame") -> dict[str, str]:
    """Return the number of pending evaluations for each encoder and reason."""
    counts = pending.group_by("encoder_id", "why").len().sort("encoder_id", "why")
    return {
        f"{encoder_id}: {why}": f"{n:,} evaluations" for encoder_id, why, n in counts.iter_rows()
    }

"""The plan, and the evaluation of what is pending."""

from dataclasses import asdict, dataclass

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.run.context import Context, open_context
from flows.run.gate import append, close, replace
from flows.run.parameters import (
    UNCHOSEN,
    EncoderId,
    FamilyId,
    FilePath,
    ProbeId,
    ProfileId,
    ProtocolId,
    TaskPattern,
    UniverseId,
    Unset,
)
from flows.run.progress import track
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.task_runners import ChosenRunner, result_of
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from genebench.errors import LakeError
from lakehouse.curate.state import refuse_half_curated
from lakehouse.curate.task_selection import select_tasks
from lakehouse.embed.encoder_records import own_probes
from lakehouse.report.significance import stored_rows
from lakehouse.score.plan import Plan, plan_release, release_of
from lakehouse.score.result_rows import (
    evaluation_rows,
    fold_rows,
    interval_rows,
    missing_folds,
    prediction_rows,
    remove_orphans,
    score_rows,
)
from lakehouse.score.run import FamilyResult, evaluate_encoder
from lakehouse.tables.commits import Commit


@dataclass(frozen=True)
class Request:
    """What a score run was asked for; plain values, so that it travels to any worker."""

    profile: str
    protocol: str
    probes: tuple[str, ...]
    universe: str
    tasks: tuple[str, ...]
    encoder_files: tuple[str, ...]
    lake: str
    encoders: tuple[str, ...]
    keeps_predictions: bool = False


@flow(name="score", flow_run_name=run_name, task_runner=ChosenRunner(), **HOOKS)
@one_writer
def score(
    encoders: list[EncoderId] | Unset = UNCHOSEN,
    tasks: list[TaskPattern] | Unset = UNCHOSEN,
    families: list[FamilyId] | Unset = UNCHOSEN,
    probes: list[ProbeId] | Unset = UNCHOSEN,
    protocol: ProtocolId | None = None,
    universe: UniverseId = "shared",
    profile: ProfileId | None = None,
    dry_run: bool = False,
    encoder_files: list[FilePath] | Unset = UNCHOSEN,
    keep_predictions: bool = False,
) -> RunSummary:
    """Evaluate what is pending, and let the release name it.

    An encoder without vectors, or with too few, is refused with the reason; asked for by name, it
    fails the run.

    Args:
        encoders: Encoders; all that have embedded by default. From Python, globs too.
        tasks: Tasks, globs allowed (rna_*); all by default, save those that another supersedes,
            which must be named in full.
        families: Families of tasks; all by default.
        probes: Probes; linear by default.
        protocol: standard or paper; the setting by default.
        universe: shared (entities that every encoder covers) or full (each on all it covers).
        profile: embedded or paper; the setting by default.
        dry_run: Say what is pending and why, and compute nothing.
        encoder_files: Encoder declarations of your own (YAML files).
        keep_predictions: Store the held-out outputs of what is evaluated, in gold.predictions.
    """
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    refuse_half_curated(context.lake)
    request = Request(
        context.registry.profile.id,
        protocol or context.settings.protocol,
        tuple(probes or ["linear"]),
        universe,
        tuple(select_tasks(context.lake, context.registry, tasks or [], families or [])),
        files,
        context.lake.delta.storage.root,
        tuple(e.id for e in context.choose_encoders(encoders, files)) if encoders else (),
        keep_predictions,
    )
    outcome = RunSummary("score")
    plan = make_plan(context, request)
    wanted = _wanted(plan, request)
    pending = plan.select(request.tasks, wanted)
    outcome.refused |= plan.refused
    outcome.refused |= {
        name: f"it has no vectors in the lake; `genebench embed {name}` makes them"
        for name in request.encoders
        if name not in wanted and name not in plan.refused
    }
    if dry_run:
        outcome.done |= describe_pending(pending)
        return close(outcome)
    remove_orphans(context.lake.delta, context.commit())
    _save_folds(context, request, plan)
    failures = {name: why for name, why in outcome.refused.items() if name in (encoders or [])}
    runs: dict[str, PrefectFuture[tuple[str, dict[str, str]]]] = {}
    for encoder_id in sorted(wanted):
        n_pending = count_of(pending, encoder_id)
        if not n_pending:
            outcome.skipped[encoder_id] = f"{count_of(plan.items, encoder_id):,} evaluations"
            continue
        runs[encoder_id] = score_encoder.with_options(
            task_run_name=f"score {encoder_id}", tags=[f"encoder:{encoder_id}"]
        ).submit(encoder_id, asdict(request))
    for encoder_id, run in runs.items():
        result = result_of(run)
        if isinstance(result, BaseException):
            failures[encoder_id] = str(result)
            continue
        outcome.done[encoder_id], failed = result
        failures |= failed
    replace_release(context, request)
    return close(outcome, failures)


@task(name="score encoder", cache_policy=NO_CACHE)
def score_encoder(encoder_id: str, request: dict) -> tuple[str, dict[str, str]]:  # type: ignore[type-arg]
    """Evaluate what is pending for one encoder; each family is committed as it is done.

    Returns:
        A line about it, and the evaluations that failed with their reasons.
    """
    asked = Request(**{k: tuple(v) if isinstance(v, list) else v for k, v in request.items()})
    context = open_context(asked.profile, asked.encoder_files, lake_root=asked.lake)
    plan = make_plan(context, asked)
    # Chosen among all encoders asked for: another worker has what it shares with this one.
    chosen = plan.select(asked.tasks, _wanted(plan, asked))
    pending = chosen.filter(encoder_id=encoder_id)
    commit = context.commit({"silver.tasks": context.lake.delta.version("silver.tasks")})
    # A worker that was lost midway leaves some, and Dask gives its task to another.
    remove_orphans(context.lake.delta, commit, encoder_id)
    states: dict[str, int] = {}
    failed: dict[str, str] = {}
    with track(f"score {encoder_id}", pending.height, "evaluations") as advance:
        for batch in evaluate_encoder(
            context.lake.delta,
            plan,
            encoder_id,
            pending,
            context.registry.probes,
            context.registry.protocols[asked.protocol],
            context.settings,
            advance,
            predictions=asked.keeps_predictions,
            own=own_probes(context.lake.delta, context.registry).get(encoder_id),
        ):
            scores = score_rows(batch.items, batch.evaluations, context.run_id)
            rows = evaluation_rows(batch.items, batch.evaluations, context.run_id)
            # Scores first: an evaluation on record is finished, whatever happens in between.
            related = {"gold.evaluations": rows}
            append(context, "gold.scores", scores, commit, related=related)
            _append_extras(context, plan, encoder_id, batch, commit)
            append(context, "gold.evaluations", rows, commit)
            for one in batch.evaluations:
                states[one.status] = states.get(one.status, 0) + 1
                if one.status == "failed":
                    task_id = batch.items[one.problem_id]["task_id"]
                    failed[f"{encoder_id} on {task_id}"] = one.reason
    return ", ".join(f"{n:,} {status}" for status, n in sorted(states.items())), failed


def _append_extras(
    context: Context, plan: Plan, encoder_id: str, batch: FamilyResult, commit: Commit
) -> None:
    """Append the intervals and predictions of a batch, if there are any."""
    prepared = plan.universe_of(encoder_id).prepared
    ids = {name: task.sample_ids.tolist() for name, task in prepared.items()}
    for table, rows in (
        ("gold.intervals", interval_rows(batch.items, batch.evaluations, context.run_id)),
        (
            "gold.predictions",
            prediction_rows(batch.items, batch.evaluations, ids, context.run_id),
        ),
    ):
        if len(rows):
            append(context, table, rows, commit)


def _wanted(plan: Plan, request: Request) -> set[str]:
    """The encoders to score: all in the lake by default, those whose files are not given too."""
    embedded = {*plan.items["encoder_id"]}
    return embedded & {*request.encoders} if request.encoders else embedded


def make_plan(context: Context, request: Request) -> Plan:
    """Plan the release that a request is about.

    Raises:
        LakeError: No encoder has embedded anything that a task samples.
    """
    protocol = context.registry.choose_protocol(request.protocol)
    plan = plan_release(
        context.lake.delta,
        protocol,
        [context.registry.choose_probe(name) for name in request.probes],
        release_of(protocol.id),
        request.universe,
        own_probes(context.lake.delta, context.registry),
        request.tasks,
    )
    if not plan.universes:
        reasons = "".join(f"\n  {name}: {why}" for name, why in plan.refused.items())
        raise LakeError(f"no encoder can be scored; run `genebench embed` first{reasons}")
    return plan


def replace_release(context: Context, request: Request) -> None:
    """Let the release of the protocol name the evaluations that the plan asks for.

    Nothing is written where it does already: a new version would say that something changed.
    """
    plan = make_plan(context, request)
    commit = context.commit({name: context.lake.delta.version(name) for name in _READ})
    partition = {"release_id": plan.release_id}
    for name, rows in (("gold.universes", plan.universe_rows()), ("gold.releases", plan.items)):
        stored = stored_rows(context.lake, name, plan.release_id).select(rows.columns)
        if not stored.sort(rows.columns).equals(rows.sort(rows.columns)):
            replace(context, name, rows, commit, partition)


_READ = ("silver.tasks", "silver.samples", "silver.labels", "gold.evaluations", "gold.scores")


def _save_folds(context: Context, request: Request, plan: Plan) -> None:
    protocol = context.registry.choose_protocol(request.protocol)
    for universe in plan.universes:
        missing = missing_folds(context.lake.delta, list(universe.prepared.values()), protocol)
        if missing:
            append(context, "gold.folds", fold_rows(missing, protocol), context.commit())


def count_of(items, encoder_id: str) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
    """How many of some plan rows are an encoder's."""
    return int((items["encoder_id"] == encoder_id).sum())


def describe_pending(pending) -> dict[str, str]:  # type: ignore[no-untyped-def] # noqa: ANN001
    """Each reason with the number of evaluations pending for it, by encoder."""
    counts = pending.group_by("encoder_id", "why").len().sort("encoder_id", "why")
    return {
        f"{encoder_id}: {why}": f"{n:,} evaluations" for encoder_id, why, n in counts.iter_rows()
    }

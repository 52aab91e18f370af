"""The benchmark flow: refresh, curate, embed, score and report, one after the other."""

import datetime as dt
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger

from flows.curate import curate
from flows.embed import embed
from flows.refresh import refresh
from flows.report import output_path, report
from flows.run.context import open_context
from flows.run.gate import save_changes
from flows.run.parameters import (
    NO_SELECTION,
    SETTING,
    DeploymentName,
    EncoderId,
    FamilyId,
    FilePath,
    OptionalPath,
    ProfileId,
    ProtocolId,
    Unset,
    choose,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary, Unfinished
from flows.score import score
from flows.server.hooks import HOOKS
from lakehouse.curate.task_selection import select_tasks
from lakehouse.report.diff.lake_diff import diff_since
from lakehouse.score.plan import current_release

# How often a run asks the server whether the run of `embed_deployment` has ended.
POLL_SECONDS = 2.0


@flow(name="benchmark", flow_run_name=run_name, **HOOKS)
def benchmark(
    profile: ProfileId | Unset = SETTING,
    protocol: ProtocolId | Unset = SETTING,
    encoders: list[EncoderId] | Unset = NO_SELECTION,
    families: list[FamilyId] | Unset = NO_SELECTION,
    folder: OptionalPath | Unset = "",
    encoder_files: list[FilePath] | Unset = NO_SELECTION,
    embed_deployment: DeploymentName | Unset = "",
) -> list[RunSummary]:
    """Refresh, curate, embed, score and report; what is up to date is not computed again.

    If a verb fails in part, the next verbs work with what there is, and the run fails at its end.

    Args:
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        protocol: The protocol; default is the setting GENEBENCH_PROTOCOL.
        encoders: Encoders. Default: those of the profile. Python calls may pass globs.
        families: Families of tasks. Default: all.
        folder: A folder to write the HTML page and its figures to. Default: no page.
        encoder_files: YAML files with your own encoders.
        embed_deployment: A deployment that embeds, on the machines of its work pool, such as
            embed/embed. Default: this run embeds.

    Raises:
        RegistryError: An encoder, family or protocol is unknown, or a file is wrong. No verb ran.
        Unfinished: A verb failed in part; `failures` has the reasons.
    """
    # Refuse a mistyped name or a forbidden folder now, before the sources are fetched and curated.
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    context.choose_encoders(encoders or [], files)
    select_tasks(context.lake, context.registry, [], families or [])
    rules = context.registry.choose_protocol(choose(protocol, context.settings.protocol))
    release = current_release(rules.id)
    if folder:
        output_path(folder)
    selected = {"profile": profile, "encoders": encoders, "encoder_files": encoder_files}
    verbs: list[Callable[[], RunSummary]] = [
        partial(refresh, profile=profile),
        partial(curate, profile=profile),
        partial(_embed_elsewhere, embed_deployment, selected)
        if embed_deployment
        else partial(embed, **selected),
        partial(score, families=families, protocol=protocol, **selected),
        partial(report, release=release, profile=profile, folder=folder),
    ]
    summaries = []
    begun = dt.datetime.now(dt.UTC)
    failures: dict[str, str] = {}
    for verb in verbs:
        started = time.monotonic()
        try:
            summary = verb()
        except Unfinished as error:
            summary = error.summary
            failures |= {f"{summary.verb} {name}": why for name, why in error.failures.items()}
        summary.seconds = time.monotonic() - started
        get_run_logger().info(summary.stage_line)
        summaries.append(summary)
    tasks = context.registry.tasks.values()
    save_changes(lambda: diff_since(context.lake, begun, release, tasks))
    if failures:
        raise Unfinished(RunSummary("benchmark"), failures)
    return summaries


def _embed_elsewhere(deployment: str, parameters: dict[str, Any]) -> RunSummary:
    """Run a deployment of embed as a child of this run, and wait for its end.

    Raises:
        Unfinished: The child run did not complete.
    """
    context = FlowRunContext.get()
    parent = context.flow_run if context else None
    # Prefect types its sync methods as coroutines too; outside of an event loop they are not.
    child = cast(
        "FlowRun",
        run_deployment(
            deployment,
            parameters=parameters,
            # What a person set for this run, such as another lake, is also set for its child.
            job_variables=(parent.job_variables if parent else None) or {},
            poll_interval=POLL_SECONDS,
        ),
    )
    if child.state is None or not child.state.is_completed():
        reason = (child.state and child.state.message) or "its run did not complete"
        summary = RunSummary("embed", refused={deployment: reason})
        raise Unfinished(summary, summary.refused)
    return RunSummary("embed", done={deployment: f"flow run {child.name}"})

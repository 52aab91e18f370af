"""The benchmark flow: refresh, curate, embed, score and report, one after the other."""

import time
from collections.abc import Callable
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from flows.curate import curate
from flows.embed import embed
from flows.refresh import refresh
from flows.report import report
from flows.run.context import open_context
from flows.run.parameters import (
    NO_SELECTION,
    EncoderId,
    FamilyId,
    FilePath,
    ProfileId,
    ProtocolId,
    Unset,
)
from flows.run.run_names import run_name
from flows.run.summary import PARTLY_DONE, RunSummary, Unfinished
from flows.run.writer_lock import with_writer_lock
from flows.score import score
from flows.server.hooks import HOOKS
from lakehouse.curate.task_selection import select_tasks
from lakehouse.score.plan import current_release


@flow(name="benchmark", flow_run_name=run_name, **HOOKS)
@with_writer_lock
def benchmark(
    profile: ProfileId | None = None,
    protocol: ProtocolId | None = None,
    encoders: list[EncoderId] | Unset = NO_SELECTION,
    families: list[FamilyId] | Unset = NO_SELECTION,
    folder: FilePath | None = None,
    encoder_files: list[FilePath] | Unset = NO_SELECTION,
) -> list[RunSummary]:
    """Refresh, curate, embed, score and report; what is up to date is not computed again.

    If a verb fails in part, the next verbs work with what there is, and the run fails at its end.

    Args:
        profile: embedded or paper. Default: the setting GENEBENCH_PROFILE.
        protocol: standard or paper. Default: the setting GENEBENCH_PROTOCOL.
        encoders: Encoders. Default: those of the profile. Python calls may pass globs.
        families: Families of tasks. Default: all.
        folder: A folder to write the HTML page and its figures to. Default: no page.
        encoder_files: YAML files with your own encoders.

    Raises:
        RegistryError: An encoder, family or protocol is unknown, or a file is wrong. No verb ran.
        Unfinished: A verb failed in part; `failures` has the reasons.
    """
    # Refuse a mistyped name now, before the sources are fetched and curated.
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    context.choose_encoders(encoders or [], files)
    select_tasks(context.lake, context.registry, [], families or [])
    rules = context.registry.choose_protocol(protocol or context.settings.protocol)
    release = current_release(rules.id)
    failures: dict[str, str] = {}
    stages: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (refresh, {}),
        (curate, {}),
        (embed, {"encoders": encoders, "encoder_files": encoder_files}),
        (
            score,
            {
                "encoders": encoders,
                "families": families,
                "protocol": protocol,
                "encoder_files": encoder_files,
            },
        ),
        (report, {"release": release, "folder": folder}),
    ]
    summaries = []
    for verb, options in stages:
        started = time.monotonic()
        summary = _summary_of(verb(profile=profile, return_state=True, **options), failures)
        summary.seconds = time.monotonic() - started
        get_run_logger().info(summary.stage_line)
        summaries.append(summary)
    if failures:
        raise Unfinished(RunSummary("benchmark"), failures)
    return summaries


def _summary_of(state: "State[RunSummary]", failures: dict[str, str]) -> RunSummary:
    """Return the summary of a verb's run, and add its failures to `failures`.

    Raises:
        Exception: The verb failed as a whole, so the next verbs cannot run.
    """
    result = state.result(raise_on_failure=state.name != PARTLY_DONE)
    if isinstance(result, Unfinished):
        failures |= {f"{result.summary.verb} {name}": why for name, why in result.failures.items()}
        return result.summary
    if isinstance(result, Exception):
        raise result
    return result

"""The five verbs in order."""

from prefect import flow
from prefect.states import State

from flows.curate import curate
from flows.embed import embed
from flows.refresh import refresh
from flows.report import report
from flows.run.context import open_context
from flows.run.parameters import (
    UNCHOSEN,
    EncoderId,
    FamilyId,
    FilePath,
    ProfileId,
    ProtocolId,
    Unset,
)
from flows.run.run_names import run_name
from flows.run.summary import PARTLY_DONE, RunSummary, Unfinished
from flows.run.writer_lock import one_writer
from flows.score import score
from flows.server.hooks import HOOKS
from lakehouse.curate.task_selection import select_tasks
from lakehouse.score.plan import release_of


@flow(name="benchmark", flow_run_name=run_name, **HOOKS)
@one_writer
def benchmark(
    profile: ProfileId | None = None,
    protocol: ProtocolId | None = None,
    encoders: list[EncoderId] | Unset = UNCHOSEN,
    families: list[FamilyId] | Unset = UNCHOSEN,
    folder: FilePath | None = None,
    encoder_files: list[FilePath] | Unset = UNCHOSEN,
) -> list[RunSummary]:
    """Refresh, curate, embed, score and report; what is there already is not done again.

    A verb that fails in part is followed by the others on what is there; the run fails at its end.

    Args:
        profile: embedded or paper; the setting by default.
        protocol: standard or paper; the setting by default.
        encoders: Encoders; those of the profile by default. From Python, globs too.
        families: Families of tasks; all by default.
        folder: Where the report's page and figures go; no page is written if empty.
        encoder_files: Encoder declarations of your own (YAML files).

    Raises:
        RegistryError: No such encoder, family or protocol, or a file is wrong; nothing was run.
        Unfinished: Something failed; the outcomes of all verbs tell what.
    """
    # A mistyped name is found here, not after everything was fetched and curated.
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    context.choose_encoders(encoders or [], files)
    select_tasks(context.lake, context.registry, [], families or [])
    rules = context.registry.choose_protocol(protocol or context.settings.protocol)
    release = release_of(rules.id)
    failures: dict[str, str] = {}
    outcomes = [
        _outcome_of(refresh(profile=profile, return_state=True), failures),
        _outcome_of(curate(profile=profile, return_state=True), failures),
        _outcome_of(
            embed(
                encoders=encoders, profile=profile, encoder_files=encoder_files, return_state=True
            ),
            failures,
        ),
        _outcome_of(
            score(
                encoders=encoders,
                families=families,
                protocol=protocol,
                profile=profile,
                encoder_files=encoder_files,
                return_state=True,
            ),
            failures,
        ),
        _outcome_of(
            report(release=release, profile=profile, folder=folder, return_state=True), failures
        ),
    ]
    if failures:
        raise Unfinished(RunSummary("benchmark"), failures)
    return outcomes


def _outcome_of(state: "State[RunSummary]", failures: dict[str, str]) -> RunSummary:
    """The outcome of a verb; notes what failed of it, and raises where nothing can follow."""
    result = state.result(raise_on_failure=state.name != PARTLY_DONE)
    if isinstance(result, Unfinished):
        failures |= {f"{result.outcome.verb} {name}": why for name, why in result.failures.items()}
        return result.outcome
    return result

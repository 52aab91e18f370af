"""A release into its leaderboard."""

from pathlib import Path

from prefect import flow

from flows.context import open_context
from flows.forms import FilePath, ProfileId, ReleaseId
from flows.names import run_name
from flows.outcome import Outcome
from flows.publish import close, replace, tell
from flows.terminal import leaderboard_markdown
from flows.turns import one_writer
from lakehouse.plan import release_of
from lakehouse.standings import leaderboard_rows


@flow(name="report", flow_run_name=run_name)
@one_writer
def report(
    release: ReleaseId | None = None, profile: ProfileId | None = None, csv: FilePath | None = None
) -> Outcome:
    """Rank the encoders of a release by family and overall.

    Args:
        release: The release; by default the one that score writes under the setting's protocol.
        profile: embedded or paper; the setting by default.
        csv: File to write the leaderboard to, in long form.
    """
    context = open_context(profile)
    release = release or release_of(context.settings.protocol)
    outcome = Outcome("report")
    rows = leaderboard_rows(context.lake, release)
    before = context.lake.leaderboard_rows(release)
    if rows.equals(before):
        outcome.skipped["gold.leaderboard"] = f"release {release} is as it was"
    else:
        commit = context.commit({"gold.scores": context.lake.delta.version("gold.scores")})
        replace(context, "gold.leaderboard", rows, commit, {"release_id": release})
        outcome.done["gold.leaderboard"] = f"{rows.height:,} rows of release {release}"
    if csv is not None:
        rows.write_csv(Path(csv))
        outcome.done[csv] = f"{rows.height:,} rows"
    tell("leaderboard", leaderboard_markdown(context.lake, release))
    return close(outcome)

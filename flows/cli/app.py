"""The command line: the five verbs, and what one asks before and after them."""

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import studies
from flows.cli.results import add_result_commands
from flows.cli.run_flows import run_flows
from genebench.errors import GenebenchError

app = typer.Typer(
    help="Measure what a model understands about genes: refresh → curate → embed → score → report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

add_result_commands(app)
studies.add_study_commands(app)

Profile = Annotated[
    str | None, typer.Option(help="embedded or paper; the setting GENEBENCH_PROFILE by default.")
]
Protocol = Annotated[
    str | None, typer.Option(help="standard or paper; the setting GENEBENCH_PROTOCOL by default.")
]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", "-e", help="Encoder, glob, or your own YAML file; repeatable."),
]
Tasks = Annotated[list[str] | None, typer.Option("--task", "-t", help="Task or glob; repeatable.")]
Families = Annotated[list[str] | None, typer.Option("--family", "-f", help="Family; repeatable.")]
Release = Annotated[
    str | None, typer.Option(help="The release; by default the one that score writes.")
]


class Listed(StrEnum):
    """What `genebench ls` lists."""

    tasks = "tasks"
    encoders = "encoders"
    sources = "sources"
    tables = "tables"
    probes = "probes"
    protocols = "protocols"
    releases = "releases"


class By(StrEnum):
    """The columns of a printed leaderboard."""

    family = "family"
    task = "task"


def main() -> None:
    """Run a command; what genebench foresees ends with one clear message and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or locale that knows few letters gets the others as codes, not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except (GenebenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _split_encoders(encoders: list[str] | None) -> tuple[list[str], list[str]]:
    """Ids and globs, and files of the user's own."""
    given = encoders or []
    files = [name for name in given if name.endswith((".yaml", ".yml"))]
    return [name for name in given if name not in files], files


@app.command(epilog="Example: genebench refresh hpa hgnc --profile paper")
def refresh(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Sources or files; all of the profile by default.")
    ] = None,
    profile: Profile = None,
    pinned: Annotated[bool, typer.Option(help="Exactly the versions of the lock.")] = False,
    lock: Annotated[bool, typer.Option(help="Write what was found into the lock.")] = False,
    version: Annotated[
        str | None, typer.Option(help="Of the named sources, instead of the newest.")
    ] = None,
) -> None:
    """Fetch the source files, keep their bytes, write what is new as raw tables."""

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.refresh import refresh as run

        print_outcome(run(sources, profile, pinned, lock, version))

    run_flows(verb)


@app.command(epilog="Example: genebench curate --task-folder ./my_tasks")
def curate(
    profile: Profile = None,
    force: Annotated[bool, typer.Option(help="Even where nothing changed.")] = False,
    task_folder: Annotated[
        list[str] | None,
        typer.Option(help="Tasks of your own: entities.csv and outcomes.csv; repeatable."),
    ] = None,
    task_file: Annotated[
        list[str] | None,
        typer.Option(help="Tasks of your own: a YAML entry with its CSV; repeatable."),
    ] = None,
    forget_own_tasks: Annotated[
        bool,
        typer.Option("--forget-own-tasks", help="Leave out those that earlier runs were given."),
    ] = False,
) -> None:
    """Build entities, inputs and tasks from the current snapshots."""

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.curate import curate as run

        print_outcome(run(profile, force, task_folder, task_file, forget_own_tasks))

    run_flows(verb)


@app.command(epilog="Example: genebench embed bag_of_words ./mine.yaml")
def embed(
    encoders: Annotated[
        list[str] | None,
        typer.Argument(help="Encoders, globs or your own YAML files; the profile's by default."),
    ] = None,
    encoder: Encoders = None,
    profile: Profile = None,
) -> None:
    """Encode every entity that has no vector yet."""

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.embed import embed as run

        ids, files = _split_encoders([*(encoders or []), *(encoder or [])])
        print_outcome(run(ids, profile, files))

    run_flows(verb)


@app.command(epilog="Example: genebench score --encoder minilm --task 'hla_*' --dry-run")
def score(
    encoder: Encoders = None,
    task: Tasks = None,
    family: Families = None,
    probe: Annotated[list[str] | None, typer.Option(help="Probe; repeatable.")] = None,
    protocol: Protocol = None,
    universe: Annotated[str, typer.Option(help="shared or full.")] = "shared",
    profile: Profile = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what is pending, and why.")] = False,
    keep_predictions: Annotated[
        bool, typer.Option(help="Store the held-out outputs too (gold.predictions).")
    ] = False,
) -> None:
    """Evaluate what is pending, and let the release name it."""

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.score import score as run

        ids, files = _split_encoders(encoder)
        print_outcome(
            run(
                ids, task, family, probe, protocol, universe, profile, dry_run, files,
                keep_predictions,
            )
        )  # fmt: skip

    run_flows(verb)


@app.command(epilog="Example: genebench report --by family --metric roc_auc --csv report.csv")
def report(
    release: Release = None,
    by: Annotated[By, typer.Option(help="What a column is.")] = By.family,
    metric: Annotated[str | None, typer.Option(help="A metric; the main ones by default.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the scores to this file.")] = None,
    csv_form: Annotated[
        str, typer.Option(help="long, report (the published package's) or leaderboard.")
    ] = "long",
    folder: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report"),
    page: Annotated[bool, typer.Option(help="Write the page.")] = True,
    figures: Annotated[bool, typer.Option(help="Write the figures as SVG and PNG.")] = True,
    profile: Profile = None,
) -> None:
    """Rank the encoders of a release by family and overall, and write its page."""

    def verb() -> None:
        from flows.cli.render import print_page
        from flows.cli.tables import print_leaderboard, print_outcome, print_task_table
        from flows.report import report as run
        from genebench.settings import get_settings
        from lakehouse import open_lake
        from lakehouse.score.plan import release_of

        shown = release or release_of(get_settings().protocol)
        place = str(folder) if page else None
        print_outcome(run(shown, profile, str(csv) if csv else None, csv_form, place, figures))
        if by is By.task:
            print_task_table(open_lake(), shown, metric or "roc_auc")
        else:
            print_leaderboard(open_lake(), shown, metric)
        if place:
            print_page(place)

    run_flows(verb)


@app.command(epilog="Example: genebench benchmark --encoder bag_of_words --family genomic")
def benchmark(
    profile: Profile = None,
    protocol: Protocol = None,
    encoder: Encoders = None,
    family: Families = None,
    folder: Annotated[Path, typer.Option(help="Where the report's page goes.")] = Path("report"),
) -> None:
    """Run the five verbs in order; what is there already is not done again."""

    def verb() -> None:
        from flows.benchmark import benchmark as run
        from flows.cli.render import print_page
        from flows.cli.tables import print_leaderboard, print_outcome
        from genebench.settings import get_settings
        from lakehouse import open_lake
        from lakehouse.score.plan import release_of

        ids, files = _split_encoders(encoder)
        for outcome in run(profile, protocol, ids, family, str(folder), files):
            print_outcome(outcome)
        print_leaderboard(open_lake(), release_of(protocol or get_settings().protocol))
        print_page(str(folder))

    run_flows(verb)


@app.command(epilog="Example: genebench up --gpus 2")
def up(
    gpus: Annotated[int, typer.Option(min=0, help="Encoders on a GPU at once.")] = 1,
    workers: Annotated[
        bool, typer.Option(help="Start workers here; off for a server's own host.")
    ] = True,
) -> None:
    """Start a Prefect server that stays, with its pools, limits, deployments and workers."""
    from flows.server.local_stack import start_site

    print(start_site(gpus, has_workers=workers))


@app.command(epilog="Example: genebench down")
def down() -> None:
    """Stop what `genebench up` started, and nothing else."""
    from flows.server.local_stack import stop_site

    print(stop_site())


@app.command(epilog="Example: genebench ls tasks --family localization")
def ls(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    family: Families = None,
    profile: Profile = None,
) -> None:
    """List tasks, encoders, sources, tables, probes, protocols or releases."""
    from flows.cli import inspect as listings

    listings.print_list(what.value, family or [], profile)


@app.command(epilog="Example: genebench show chromosome")
def show(
    name: Annotated[str, typer.Argument(help="A task, encoder, source, table, probe, protocol.")],
    profile: Profile = None,
) -> None:
    """Show all that is known of one thing."""
    from flows.cli import inspect as listings

    listings.print_card(name, profile)


@app.command(epilog="Example: genebench check --profile paper")
def check(profile: Profile = None) -> None:
    """Read every declaration and report every mistake at once."""
    from flows.cli import inspect as listings

    listings.print_check(profile)


@app.command(epilog="Example: genebench status")
def status(protocol: Protocol = None, profile: Profile = None) -> None:
    """Say what the lake holds, what is pending, and why."""
    from flows.cli import inspect as listings

    listings.print_status(protocol, profile)


@app.command(epilog="Example: genebench cards tasks.md --profile paper")
def cards(
    file: Annotated[Path, typer.Argument(help="The Markdown file to write.")],
    profile: Profile = None,
) -> None:
    """Write the cards of all tasks: definition, sources, sizes, and the published ones."""
    from flows.cli import inspect as listings

    listings.write_cards(file, profile)


@app.command(epilog="Example: genebench validations --html validations.html")
def validations(
    html: Annotated[
        Path | None, typer.Option(help="Write a page that needs no other file.")
    ] = None,
) -> None:
    """Say what was expected of each table and what was found."""
    from flows.cli import inspect as listings

    listings.print_validations(html)

"""The `genebench` command: its entry point, and the commands for the server and inspection."""

import io
import sys
import traceback
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.board import board
from flows.cli.diff import add_diff_command
from flows.cli.evaluate import evaluate
from flows.cli.options import Families, Profile, Protocol
from flows.cli.results import add_result_commands
from flows.cli.studies import add_study_commands
from flows.cli.upkeep import backup, doctor, restore, tidy
from flows.cli.verbs import add_verb_commands
from genebench.errors import GenebenchError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

SERVER = "Prefect server"
INSPECT = "Inspect"
UPKEEP = "Upkeep of a lake"

app.command(epilog="Example: genebench evaluate my_vectors.csv")(evaluate)
app.command(epilog="Example: genebench board submissions/*.parquet -o site")(board)
add_verb_commands(app)
add_result_commands(app)
add_diff_command(app)
add_study_commands(app)
app.command(epilog="Example: genebench tidy --apply", rich_help_panel=UPKEEP)(tidy)
app.command(epilog="Example: genebench doctor --digests", rich_help_panel=UPKEEP)(doctor)
app.command(epilog="Example: genebench backup ../backup", rich_help_panel=UPKEEP)(backup)
app.command(epilog="Example: genebench restore ../backup", rich_help_panel=UPKEEP)(restore)


class ListKind(StrEnum):
    """What `genebench ls` lists."""

    tasks = "tasks"
    encoders = "encoders"
    sources = "sources"
    tables = "tables"
    probes = "probes"
    protocols = "protocols"
    releases = "releases"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"genebench {version('genebench-lakehouse')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Benchmark gene embeddings: refresh → curate → embed → score → report."""


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 wrong use, 2 data refused or part undone, 3 a fault.

    A `GenebenchError` or `OSError` is printed as one message, any other error with its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the terminal cannot encode are printed as escapes instead of raising.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        # click ends with 2 after a wrong option or argument.
        sys.exit(1 if end.code == 2 else end.code)
    except (GenebenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
    except Exception:  # noqa: BLE001 - whatever it is, the exit code says so
        traceback.print_exc()
        print("error: this is a fault of genebench; please report the lines above", file=sys.stderr)
        sys.exit(3)


@app.command(epilog="Example: genebench up --gpus 2", rich_help_panel=SERVER)
def up(
    gpus: Annotated[
        int, typer.Option(min=0, help="Encoders that may use a GPU at the same time.")
    ] = 1,
    workers: Annotated[bool, typer.Option(help="Start workers on this machine.")] = True,
) -> None:
    """Start a Prefect server in the background with its UI, deployments and workers."""
    from flows.server.local_stack import start_stack

    print(start_stack(gpus, has_workers=workers))


@app.command(epilog="Example: genebench down", rich_help_panel=SERVER)
def down() -> None:
    """Stop the server and the workers that `genebench up` started."""
    from flows.server.local_stack import stop_stack

    print(stop_stack())


@app.command(epilog="Example: genebench ls tasks --family localization", rich_help_panel=INSPECT)
def ls(
    what: Annotated[ListKind, typer.Argument(help="What to list.")],
    family: Families = None,
    profile: Profile = None,
) -> None:
    """List tasks, encoders, sources, tables, probes, protocols or releases."""
    from flows.cli import inspect

    inspect.print_list(what.value, family or [], profile)


@app.command(epilog="Example: genebench show chromosome", rich_help_panel=INSPECT)
def show(
    name: Annotated[
        str, typer.Argument(help="Task, encoder, source, table, probe, protocol or release.")
    ],
    profile: Profile = None,
) -> None:
    """Show one task, encoder, source, table, probe, protocol or release."""
    from flows.cli import inspect

    inspect.print_card(name, profile)


@app.command(epilog="Example: genebench check --profile paper", rich_help_panel=INSPECT)
def check(profile: Profile = None) -> None:
    """Validate all declarations; report every mistake at once."""
    from flows.cli import inspect

    inspect.print_check(profile)


@app.command(epilog="Example: genebench status", rich_help_panel=INSPECT)
def status(
    protocol: Protocol = None,
    profile: Profile = None,
    at: Annotated[
        str | None, typer.Option(help="Show tables and sources as of a time: 2026-11-20.")
    ] = None,
) -> None:
    """Show the tables of the lake, the age of its sources, and what is pending and why."""
    from flows.cli import inspect, source_status

    if at is not None:
        source_status.print_status_at(profile, at)
        return
    inspect.print_status(protocol, profile)
    source_status.print_freshness(profile)


@app.command(epilog="Example: genebench cards tasks.md --profile paper", rich_help_panel=INSPECT)
def cards(
    file: Annotated[Path, typer.Argument(help="Markdown file to write.")],
    profile: Profile = None,
) -> None:
    """Write the cards of all tasks: definition, sources, sizes, published sizes."""
    from flows.cli import inspect

    inspect.write_cards(file, profile)


@app.command(
    epilog="Example: genebench validations --html validations.html", rich_help_panel=INSPECT
)
def validations(
    html: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML page to this file.")
    ] = None,
) -> None:
    """Show the newest validation of each table: expectations met and not met."""
    from flows.cli import inspect

    inspect.print_validations(html)

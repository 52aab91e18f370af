"""The command `board`: a static leaderboard of many bundles."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from genebench.errors import GenebenchError


def board(
    bundles: Annotated[
        list[Path], typer.Argument(help="Bundles written by `genebench evaluate --bundle`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the site.")] = Path(
        "site"
    ),
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE: vectors of an encoder, from which a sample of its scores is computed "
            "again; repeatable."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check: write nothing, and exit with code 1 if one is refused."
        ),
    ] = False,
) -> None:
    """Check bundles and write a static leaderboard of all their encoders."""
    from flows.cli.render import print_line
    from genebench.reference.board import build_board as building

    named = _named_files(vectors or [])
    if check:
        tasks = building.prepare_board_tasks()
        checked = building.check_bundles(bundles, tasks, named, _print_progress)
        if any(one.refused for one in checked):
            raise building.refusal_error(checked)
        print_line(f"bundles accepted: {len(checked)}")
        return
    made = building.build_board(bundles, output, named, _print_progress)
    n_refused = len(made.refused())
    print_line(
        f"{output / building.PAGE_FILE}: {made.leaderboard.height} encoders; bundles accepted: "
        f"{len(bundles) - n_refused}, refused: {n_refused}"
    )


def _named_files(values: list[str]) -> dict[str, Path]:
    found = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not name or not path:
            raise GenebenchError(f"--vectors {value}: give NAME=FILE, such as my_model=vectors.csv")
        found[name] = Path(path)
    return found


def _print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

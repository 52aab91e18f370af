"""The commands that run flows: refresh, curate, embed, score, report and benchmark."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Encoders, Families, Metric, Profile, Protocol, Release, Tasks
from flows.cli.run_flows import BriefLogFilter, run_flows


class LeaderboardColumns(StrEnum):
    """What a column of the printed leaderboard is."""

    family = "family"
    task = "task"


def _split_encoders(encoders: list[str] | None) -> tuple[list[str], list[str]]:
    """Separate ids and globs from YAML files."""
    given = encoders or []
    files = [name for name in given if name.endswith((".yaml", ".yml"))]
    return [name for name in given if name not in files], files


def refresh(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sources (hpa) or files (hpa.proteinatlas). Default: all of the profile."
        ),
    ] = None,
    profile: Profile = None,
    pinned: Annotated[
        bool, typer.Option(help="Fetch exactly the versions in the lock file.")
    ] = False,
    lock: Annotated[
        bool, typer.Option(help="Write the fetched versions to the lock file.")
    ] = False,
    version: Annotated[
        str | None, typer.Option(help="Version of the named sources. Default: the newest.")
    ] = None,
) -> None:
    """Fetch source files, store them as snapshots, and write new ones as raw tables."""

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.refresh import refresh as run
        from genebench.registry.loading import load_registry
        from genebench.settings import get_settings
        from lakehouse import open_lake
        from lakehouse.refresh.pins import lock_current

        print_summary(run(sources, profile, pinned, version))
        if lock:
            registry = load_registry(profile or get_settings().profile)
            lock_current(open_lake(), registry, registry.select_files(sources or []))

    run_flows(verb)


def curate(
    profile: Profile = None,
    force: Annotated[bool, typer.Option(help="Rebuild even if nothing changed.")] = False,
    task_folder: Annotated[
        list[str] | None,
        typer.Option(help="Folder of user tasks (entities.csv, outcomes.csv); repeatable."),
    ] = None,
    task_file: Annotated[
        list[str] | None,
        typer.Option(help="YAML file of user tasks, with its CSV files; repeatable."),
    ] = None,
    forget_own_tasks: Annotated[
        bool,
        typer.Option("--forget-own-tasks", help="Remove the user tasks given to earlier runs."),
    ] = False,
) -> None:
    """Build entities, inputs and tasks from the current snapshots."""

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.curate import curate as run

        print_summary(run(profile, force, task_folder, task_file, forget_own_tasks))

    run_flows(verb)


def embed(
    encoders: Annotated[
        list[str] | None,
        typer.Argument(help="Encoder ids, globs or YAML files. Default: those of the profile."),
    ] = None,
    encoder: Encoders = None,
    profile: Profile = None,
) -> None:
    """Encode every entity that has no vector yet."""

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.embed import embed as run

        ids, files = _split_encoders([*(encoders or []), *(encoder or [])])
        print_summary(run(ids, profile, files))

    run_flows(verb)


def score(
    encoder: Encoders = None,
    task: Tasks = None,
    family: Families = None,
    probe: Annotated[
        list[str] | None, typer.Option(help="Probe; repeatable. Default: linear.")
    ] = None,
    protocol: Protocol = None,
    universe: Annotated[
        str,
        typer.Option(
            help="shared (entities that every encoder covers), or full (all that each covers; "
            "the release is current_full)."
        ),
    ] = "shared",
    profile: Profile = None,
    dry_run: Annotated[
        bool, typer.Option(help="List pending evaluations and why; compute nothing.")
    ] = False,
    keep_predictions: Annotated[
        bool, typer.Option(help="Store held-out predictions in gold.predictions.")
    ] = False,
) -> None:
    """Run the pending evaluations and write them to the release."""

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.score import score as run

        ids, files = _split_encoders(encoder)
        print_summary(
            run(
                encoders=ids,
                task_patterns=task,
                families=family,
                probes=probe,
                protocol=protocol,
                universe=universe,
                profile=profile,
                dry_run=dry_run,
                encoder_files=files,
                keep_predictions=keep_predictions,
            )
        )

    run_flows(verb)


def report(
    release: Release = None,
    by: Annotated[
        LeaderboardColumns, typer.Option(help="What a column of the leaderboard is.")
    ] = LeaderboardColumns.family,
    metric: Metric = None,
    csv: Annotated[Path | None, typer.Option(help="Write the scores to this CSV file.")] = None,
    csv_form: Annotated[
        str, typer.Option(help="long, report (the published package's format) or leaderboard.")
    ] = "long",
    folder: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("report"),
    page: Annotated[bool, typer.Option(help="Write the page.")] = True,
    figures: Annotated[bool, typer.Option(help="Write the figures as SVG and PNG files.")] = True,
    profile: Profile = None,
) -> None:
    """Rank the encoders of a release by family and overall, and write its page."""

    def verb() -> None:
        from flows.cli.render import print_leaderboard, print_page, print_summary, print_task_table
        from flows.report import report as run
        from genebench.settings import get_settings
        from lakehouse import open_lake
        from lakehouse.score.plan import current_release

        shown = release or current_release(get_settings().protocol)
        page_folder = str(folder) if page else None
        print_summary(
            run(shown, profile, str(csv) if csv else None, csv_form, page_folder, figures)
        )
        if by is LeaderboardColumns.task:
            print_task_table(open_lake(), shown, metric or "roc_auc")
        else:
            print_leaderboard(open_lake(), shown, metric)
        if page_folder:
            print_page(page_folder)

    run_flows(verb)


def benchmark(
    profile: Profile = None,
    protocol: Protocol = None,
    encoder: Encoders = None,
    family: Families = None,
    folder: Annotated[Path, typer.Option(help="Folder of the report page.")] = Path("report"),
) -> None:
    """Run the five verbs in order; results already in the lake are not computed again."""
    brief = BriefLogFilter()

    def verb() -> None:
        from flows.benchmark import benchmark as run
        from flows.cli import render
        from genebench.settings import get_settings
        from lakehouse import open_lake
        from lakehouse.score.plan import current_release

        ids, files = _split_encoders(encoder)
        for summary in run(profile, protocol, ids, family, str(folder), files):
            render.print_refused(summary)
        if brief.n_data_warnings:
            render.print_data_warnings(brief.n_data_warnings)
        lake = open_lake()
        release = current_release(protocol or get_settings().protocol)
        render.print_leaderboard(lake, release)
        render.print_page(str(folder))
        render.print_next_commands(lake, release)

    run_flows(verb, brief)


def add_verb_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for run, example in (
        (refresh, "refresh hpa hgnc --profile paper"),
        (curate, "curate --task-folder ./my_tasks"),
        (embed, "embed bag_of_words ./mine.yaml"),
        (score, "score --encoder minilm --task 'hla_*' --dry-run"),
        (report, "report --by family --metric roc_auc --csv report.csv"),
        (benchmark, "benchmark --encoder bag_of_words --family genomic"),
    ):
        app.command(epilog=f"Example: genebench {example}", rich_help_panel="Run the benchmark")(
            run
        )

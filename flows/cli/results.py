"""The commands on results: query, release, lineage, compare, export and import."""

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Csv, Metric, Profile, Release

if TYPE_CHECKING:
    import polars as pl


class RowFormat(StrEnum):
    """Format of the rows that `genebench query` prints or writes."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def query(
    sql: Annotated[
        str, typer.Argument(help="SELECT statement; `genebench ls tables` lists the tables.")
    ],
    form: Annotated[
        RowFormat, typer.Option("--format", "-f", help="Format of the printed rows.")
    ] = RowFormat.table,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .csv, .json or .parquet.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Read the tables as of a time: 2026-11-20 or 2026-11-20T12:00."),
    ] = None,
) -> None:
    """Query the tables of the lake with SQL."""
    from flows.cli.render import print_frame
    from genebench.errors import LakeError
    from lakehouse import open_lake

    lake = open_lake() if at is None else open_lake().at(at)
    rows = lake.query(sql)
    if output is not None:
        ending = output.suffix.removeprefix(".")
        if ending not in (RowFormat.csv, RowFormat.json, RowFormat.parquet):
            raise LakeError(
                f"{output}: unknown file format; end the file in .csv, .json or .parquet"
            )
        _write(rows, RowFormat(ending), output)
        typer.echo(f"{rows.height:,} rows in {output}")
    elif form == RowFormat.table:
        print_frame(rows)
    elif form == RowFormat.parquet:
        raise LakeError("parquet is a binary format; name a file: --output rows.parquet")
    else:
        sys.stdout.write(_text(rows, form))


def _text(rows: "pl.DataFrame", form: RowFormat) -> str:
    from genebench.errors import LakeError

    if form == RowFormat.json:
        return rows.write_json() + "\n"
    if nested := [name for name, dtype in rows.schema.items() if dtype.is_nested()]:
        raise LakeError(
            f"{', '.join(nested)}: CSV cannot hold lists; select other columns, or use "
            "--format json or --output rows.parquet"
        )
    return rows.write_csv()


def _write(rows: "pl.DataFrame", form: RowFormat, output: Path) -> None:
    if form == RowFormat.parquet:
        rows.write_parquet(output)
    else:
        output.write_text(_text(rows, form), encoding="utf-8")


def release(
    name: Annotated[str, typer.Argument(help="Name of the new release, such as 2026.1.")],
    source: Annotated[
        str | None, typer.Option(help="Release to freeze. Default: the one that `score` writes.")
    ] = None,
    allow_pending: Annotated[
        bool, typer.Option("--allow-pending", help="Freeze even if evaluations are pending.")
    ] = False,
    profile: Profile = None,
) -> None:
    """Freeze a release under a permanent name."""
    from flows.cli.run_flows import run_flows

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.release import release as run

        print_summary(run(name, source, allow_pending, profile))

    run_flows(verb)


def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV file of published results; `published` for those that ship with genebench."
        ),
    ],
    name: Annotated[str, typer.Argument(help="Name of the imported release.")],
    sizes: Annotated[
        Path | None,
        typer.Option(
            help="CSV file of task and n_evaluated. Default: evaluated_sizes.csv beside it."
        ),
    ] = None,
    profile: Profile = None,
) -> None:
    """Import published results as a separate release."""
    from flows.cli.run_flows import run_flows

    def verb() -> None:
        from flows.cli.render import print_summary
        from flows.release import import_results as run

        print_summary(run(file, name, str(sizes) if sizes else None, profile))

    run_flows(verb)


def lineage(
    task: Annotated[str, typer.Argument(help="Task or sub-task.")],
    encoder: Annotated[str, typer.Argument(help="Encoder.")],
    release: Release = None,
    probe: Annotated[str, typer.Option(help="Probe.")] = "linear",
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash the stored bytes of the sources again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Follow a score back to its evaluation, tables, snapshots and bytes, with all digests."""
    from flows.cli.render import print_lineage
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.report.lineage import read_lineage, verify_bytes
    from lakehouse.score.plan import current_release

    lake = open_lake()
    shown = release or current_release(get_settings().protocol)
    found = read_lineage(lake, task, encoder, shown, probe)
    if verify:
        found = replace(found, snapshots=verify_bytes(lake, found.snapshots))
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=1) + "\n")
    else:
        print_lineage(found)


def compare(
    encoders: Annotated[
        list[str] | None, typer.Argument(help="Two encoders to compare fold by fold.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option("--with", help="CSV file of published results, or an imported release."),
    ] = None,
    release: Release = None,
    metric: Metric = None,
    probe: Annotated[str, typer.Option(help="Probe of the computed scores.")] = "linear",
    csv: Csv = None,
    profile: Profile = None,
) -> None:
    """Compare two encoders, or a release with published results (--with)."""
    from flows.cli.render import print_comparison, print_published
    from genebench.errors import LakeError
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.score.plan import current_release

    lake = open_lake()
    ours = release or current_release(get_settings().protocol)
    if published is not None and not encoders:
        rows = _compare_published(published, ours, metric, probe, profile)
        print_published(rows, ours, published)
    elif encoders and len(encoders) == 2 and published is None:
        encoder_a, encoder_b = encoders
        rows = lake.compare(encoder_a, encoder_b, ours, metric=metric, probe=probe)
        print_comparison(lake, rows, encoder_a, encoder_b)
    else:
        raise LakeError(
            "compare takes two encoders (genebench compare minilm bag_of_words) or published "
            "numbers (genebench compare --with results.csv)"
        )
    _save(rows, csv)


def _compare_published(
    published: str, release: str, metric: str | None, probe: str, profile: str | None
) -> "pl.DataFrame":
    from flows.cli.inspect import open_registry
    from lakehouse import open_lake
    from lakehouse.report.imports import read_imported
    from lakehouse.report.published_comparison import compare_published

    lake = open_lake()
    tasks = open_registry(profile or lake.profile()).tasks
    is_file = published.endswith(".csv") or Path(published).is_file()
    rows = (
        read_imported(Path(published), "published", tasks, "no-run")
        if is_file
        else lake.imported_scores(published)
    )
    return compare_published(lake, rows, tasks, release, metric=metric, probe=probe)


def export(
    release: Annotated[str, typer.Argument(help="Release.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the Parquet file and its data card.")],
) -> None:
    """Write a release as one Parquet file with a data card."""
    from flows.run.context import code_version
    from lakehouse import open_lake
    from lakehouse.report.exports import export_release

    for path in export_release(open_lake(), release, folder, code_version()):
        typer.echo(f"{path} ({path.stat().st_size:,} bytes)")


def _save(rows: "pl.DataFrame", csv: Path | None) -> None:
    if csv is not None:
        rows.write_csv(csv)
        typer.echo(f"{rows.height:,} rows in {csv}")


def add_result_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for run, name, example in (
        (query, "query", "query 'select encoder_id, n_entities, dimension from encoders'"),
        (release, "release", "release 2026.1"),
        (lineage, "lineage", "lineage chromosome minilm --verify"),
        (compare, "compare", "compare --with published.csv --release current_paper"),
        (export, "export", "export 2026.1 ./shared"),
        (import_, "import", "import task_report.csv published"),
    ):
        app.command(name, epilog=f"Example: genebench {example}", rich_help_panel="Results")(run)

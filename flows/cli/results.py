"""The commands about results: ask them, freeze, compare, export and import them."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

Profile = Annotated[
    str | None, typer.Option(help="embedded or paper; the setting GENEBENCH_PROFILE by default.")
]
Release = Annotated[
    str | None, typer.Option(help="The release; by default the one that score writes.")
]
Metric = Annotated[str | None, typer.Option(help="A metric; the main ones by default.")]
Csv = Annotated[Path | None, typer.Option(help="Write all rows to this file too.")]


class Form(StrEnum):
    """How `genebench query` prints."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def query(
    sql: Annotated[str, typer.Argument(help="A select over the tables; `genebench ls tables`.")],
    form: Annotated[
        Form, typer.Option("--format", "-f", help="How rows are written.")
    ] = Form.table,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; its ending sets the format.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Tables as they were: 2026-11-20 or 2026-11-20T12:00.")
    ] = None,
) -> None:
    """Ask the tables in SQL."""
    from flows.cli.render import print_frame
    from genebench.errors import LakeError
    from lakehouse import open_lake

    lake = open_lake() if at is None else open_lake().at(at)
    rows = lake.query(sql)
    if output is not None:
        ending = output.suffix.removeprefix(".")
        if ending not in (Form.csv, Form.json, Form.parquet):
            raise LakeError(f"{output}: end the file in .csv, .json or .parquet")
        _write(rows, Form(ending), output)
        typer.echo(f"{rows.height:,} rows in {output}")
    elif form == Form.table:
        print_frame(rows)
    elif form == Form.parquet:
        raise LakeError("parquet is no text; name a file: --output rows.parquet")
    else:
        sys.stdout.write(_text(rows, form))


def _text(rows: "pl.DataFrame", form: Form) -> str:
    from genebench.errors import LakeError

    if form == Form.json:
        return rows.write_json() + "\n"
    if nested := [name for name, dtype in rows.schema.items() if dtype.is_nested()]:
        raise LakeError(
            f"{', '.join(nested)}: a list has no form in csv; select other columns, or write json "
            "or parquet"
        )
    return rows.write_csv()


def _write(rows: "pl.DataFrame", form: Form, output: Path) -> None:
    if form == Form.parquet:
        rows.write_parquet(output)
    else:
        output.write_text(_text(rows, form), encoding="utf-8")


def release(
    name: Annotated[str, typer.Argument(help="The new release, such as 2026.1.")],
    source: Annotated[
        str | None, typer.Option(help="The release frozen; by default the one that score writes.")
    ] = None,
    allow_pending: Annotated[
        bool, typer.Option("--allow-pending", help="Even where evaluations are pending.")
    ] = False,
    profile: Profile = None,
) -> None:
    """Freeze a release: name its evaluations for good."""
    from flows.cli.run_flows import run_flows

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.release import release as run

        print_outcome(run(name, source, allow_pending, profile))

    run_flows(verb)


def import_(
    file: Annotated[Path, typer.Argument(help="A CSV file of published results.")],
    name: Annotated[str, typer.Argument(help="What the release is to be called.")],
    sizes: Annotated[
        Path | None, typer.Option(help="CSV of task and n_evaluated; the one beside by default.")
    ] = None,
    profile: Profile = None,
) -> None:
    """Import results of others under a name of their own; they never mix with ours."""
    from flows.cli.run_flows import run_flows

    def verb() -> None:
        from flows.cli.tables import print_outcome
        from flows.release import import_results as run

        print_outcome(run(str(file), name, str(sizes) if sizes else None, profile))

    run_flows(verb)


def diff(
    before: Annotated[str, typer.Argument(help="A release.")],
    after: Annotated[str, typer.Argument(help="Another release.")],
    metric: Metric = None,
    csv: Csv = None,
) -> None:
    """Say which scores moved between two releases, and why."""
    from flows.cli.render import print_diff
    from lakehouse import open_lake
    from lakehouse.report.releases import diff_releases as run

    rows = run(open_lake(), before, after, metric)
    print_diff(rows, before, after)
    _save(rows, csv)


def compare(
    encoders: Annotated[
        list[str] | None, typer.Argument(help="Two encoders, compared fold by fold.")
    ] = None,
    published: Annotated[
        str | None,
        typer.Option("--with", help="A CSV file of published results, or an imported release."),
    ] = None,
    release: Release = None,
    metric: Metric = None,
    probe: Annotated[str, typer.Option(help="The probe of ours.")] = "linear",
    csv: Csv = None,
    profile: Profile = None,
) -> None:
    """Compare our numbers with published ones (--with), or two encoders with each other."""
    from flows.cli.render import print_comparison, print_published
    from genebench.errors import LakeError
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.score.plan import release_of

    lake = open_lake()
    ours = release or release_of(get_settings().protocol)
    if published is not None and not encoders:
        rows = _beside_published(published, ours, metric, probe, profile)
        print_published(rows, ours, published)
    elif encoders and len(encoders) == 2 and published is None:
        rows = lake.compare(*encoders, ours, metric=metric, probe=probe)
        print_comparison(rows, *encoders)
    else:
        raise LakeError(
            "compare takes two encoders (genebench compare minilm bag_of_words) or published "
            "numbers (genebench compare --with results.csv)"
        )
    _save(rows, csv)


def _beside_published(
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
        else lake.foreign(published)
    )
    return compare_published(lake, rows, tasks, release, metric=metric, probe=probe)


def export(
    release: Annotated[str, typer.Argument(help="The release.")],
    folder: Annotated[Path, typer.Argument(help="Where the parquet file and its card go.")],
) -> None:
    """Write a release as one parquet file with a data card."""
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
    """Add these commands to the command line."""
    for run, name, example in (
        (query, "query", "query 'select encoder_id, n_entities, dimension from encoders'"),
        (release, "release", "release 2026.1"),
        (diff, "diff", "diff 2026.1 current"),
        (compare, "compare", "compare --with published.csv --release current_paper"),
        (export, "export", "export 2026.1 ./shared"),
        (import_, "import", "import task_report.csv published"),
    ):
        app.command(name, epilog=f"Example: genebench {example}")(run)

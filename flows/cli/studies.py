"""The commands of the studies: leakage, later (temporal hold-out) and sensitivity."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Csv, Protocol

if TYPE_CHECKING:
    import polars as pl

Task = Annotated[str, typer.Argument(help="Multi-label task of single entities.")]
EncoderId = Annotated[str, typer.Option("--encoder", "-e", help="Encoder.")]
ProbeId = Annotated[str, typer.Option(help="Probe.")]


def leakage(
    task: Task,
    encoder: EncoderId = "tfidf",
    labels: Annotated[int, typer.Option(min=1, help="Number of labels, most frequent first.")] = 10,
    probe: ProbeId = "linear",
    protocol: Protocol = None,
    csv: Csv = None,
) -> None:
    """Mask the words of a label in the texts and score again."""
    from genebench.encoders.loader import LoaderContext, load_encoder
    from genebench.errors import GenebenchError
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.studies.leakage import measure_leakage

    settings = get_settings()
    registry = load_registry(settings.profile)
    chosen = registry.select_encoders([encoder])
    if len(chosen) > 1:
        raise GenebenchError(
            f"leakage takes one encoder; {encoder!r} matches {len(chosen)}: {', '.join(chosen)}"
        )
    declared = registry.encoders[chosen[0]]
    rows = measure_leakage(
        open_lake(),
        task,
        declared,
        load_encoder(declared, LoaderContext(settings.weights, None, settings.device)),
        registry.choose_probe(probe),
        registry.choose_protocol(protocol or settings.protocol),
        max_labels=labels,
    )
    _show(rows, ("label", "other_label", "value", "difference", "low", "high", "p_value"), csv)


def later(
    task: Task,
    as_of: Annotated[
        str,
        typer.Option(
            help="Training labels: a release of the source (bioconductor=3.16.0), a month of its "
            "data (2022-09), or a day of the lake (2026-11-20)."
        ),
    ],
    encoder: EncoderId = "tfidf",
    probe: ProbeId = "linear",
    protocol: Protocol = None,
    min_gained: Annotated[
        int, typer.Option(help="Least number of entities that gained a label.")
    ] = 10,
    csv: Csv = None,
) -> None:
    """Train on the labels of an earlier release or day, test on those gained since."""
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.curate.task_selection import read_task
    from lakehouse.studies.past_release import is_release, read_past_release
    from lakehouse.studies.temporal_holdout import measure_temporal_holdout

    settings = get_settings()
    registry = load_registry(settings.profile)
    lake = open_lake()
    past = None
    if is_release(as_of):
        past = read_past_release(lake, registry, read_task(lake, task), as_of)
    rows = measure_temporal_holdout(
        lake,
        task,
        encoder,
        past or as_of,
        registry.choose_probe(probe),
        registry.choose_protocol(protocol or settings.protocol),
        min_gained=min_gained,
    )
    _show(rows, ("label", "n_tested", "n_gained", "value", "low", "high", "reason"), csv)


def sensitivity(
    task: Annotated[
        list[str] | None, typer.Argument(help="Tasks. Default: those that the profile names.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option("--encoder", "-e", help="Encoder; repeatable. Default: tfidf."),
    ] = None,
    probe: Annotated[
        list[str] | None, typer.Option(help="Probe; repeatable. The first draws the curves.")
    ] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Fraction of the training rows; repeatable.")
    ] = None,
    protocol: Protocol = None,
    csv: Csv = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the curves to this .svg, .png or .html file.")
    ] = None,
) -> None:
    """Score tasks with other probes, other penalties and fewer training rows."""
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.studies.sensitivity import (
        FRACTIONS,
        concat_tasks,
        draw_sensitivity,
        measure_sensitivity,
    )

    settings = get_settings()
    registry = load_registry(settings.profile)
    chosen = probe or ["linear", "knn", "gradient_boosting", "mlp"]
    probes = {name: registry.choose_probe(name) for name in chosen}
    rules = registry.choose_protocol(protocol or settings.protocol)
    parts = []
    for task_id in task or registry.profile.sensitivity:
        typer.echo(f"{task_id} …", err=True)
        part = measure_sensitivity(
            open_lake(),
            task_id,
            registry.select_encoders(encoder or ["tfidf"]),
            probes,
            rules,
            fractions=fraction or FRACTIONS,
        )
        parts.append(part)
    rows = concat_tasks(parts)
    _show(
        rows, ("task_id", "encoder_id", "study", "setting", "value", "sd", "n_train", "reason"), csv
    )
    if figure is not None:
        draw_sensitivity(rows).save(figure)
        typer.echo(f"figure in {figure}")


def add_study_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for run, example in (
        (leakage, "leakage cellular_component --encoder tfidf"),
        (later, "later biological_process --as-of bioconductor=3.16.0"),
        (sensitivity, "sensitivity hla_class -e tfidf -e minilm --figure curves.svg"),
    ):
        app.command(epilog=f"Example: genebench {example}", rich_help_panel="Studies")(run)


def _show(rows: "pl.DataFrame", columns: tuple[str, ...], csv: Path | None) -> None:
    from flows.cli.render import print_frame

    print_frame(rows.select(columns))
    if csv is not None:
        rows.write_csv(csv)
        typer.echo(f"{rows.height:,} rows in {csv}")

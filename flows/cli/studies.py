"""The commands of studies beside the leaderboard: leaked words, later labels, other probes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

Task = Annotated[str, typer.Argument(help="A multi-label task of single entities.")]
EncoderId = Annotated[str, typer.Option("--encoder", "-e", help="The encoder.")]
ProtocolId = Annotated[
    str | None, typer.Option(help="standard or paper; the setting GENEBENCH_PROTOCOL by default.")
]
ProbeId = Annotated[str, typer.Option(help="The probe.")]
Csv = Annotated[Path | None, typer.Option(help="Write all rows to this file too.")]


def leakage(
    task: Task,
    encoder: EncoderId = "tfidf",
    labels: Annotated[int, typer.Option(min=1, help="So many of the most frequent labels.")] = 10,
    probe: ProbeId = "linear",
    protocol: ProtocolId = None,
    csv: Csv = None,
) -> None:
    """Take a label's own words out of the texts, and score again."""
    from genebench.encoders.loader import LoaderContext, load_encoder
    from genebench.errors import RegistryError
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.studies.leakage import measure_leakage

    settings = get_settings()
    registry = load_registry(settings.profile)
    chosen = registry.select_encoders([encoder])
    if len(chosen) > 1:
        raise RegistryError(
            [f"leakage reads one encoder, and {encoder!r} is {len(chosen)}: {', '.join(chosen)}"]
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
    as_of: Annotated[str, typer.Option(help="Train on the labels of this day: 2026-11-20.")],
    encoder: EncoderId = "tfidf",
    probe: ProbeId = "linear",
    protocol: ProtocolId = None,
    min_gained: Annotated[int, typer.Option(help="Leave out labels gained less often.")] = 10,
    csv: Csv = None,
) -> None:
    """Train on the labels of one day, test on those gained since."""
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.studies.temporal_holdout import predict_later

    settings = get_settings()
    registry = load_registry(settings.profile)
    rows = predict_later(
        open_lake(),
        task,
        encoder,
        as_of,
        registry.choose_probe(probe),
        registry.choose_protocol(protocol or settings.protocol),
        min_gained=min_gained,
    )
    _show(rows, ("label", "n_tested", "n_gained", "value", "low", "high", "reason"), csv)


def sensitivity(
    task: Annotated[
        list[str] | None, typer.Argument(help="Tasks; those that the profile names by default.")
    ] = None,
    encoder: Annotated[
        list[str] | None, typer.Option("--encoder", "-e", help="Encoder; repeatable.")
    ] = None,
    probe: Annotated[
        list[str] | None, typer.Option(help="Probe; repeatable. The first one's curves are drawn.")
    ] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Share of the training rows; repeatable.")
    ] = None,
    protocol: ProtocolId = None,
    csv: Csv = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw it: an .svg, .png or .html file.")
    ] = None,
) -> None:
    """Score tasks with other probes, other penalties, and fewer training rows."""
    from genebench.registry.loading import load_registry
    from genebench.settings import get_settings
    from lakehouse import open_lake
    from lakehouse.studies.sensitivity import (
        FRACTIONS,
        draw_sensitivity,
        join_tasks,
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
    rows = join_tasks(parts)
    _show(
        rows, ("task_id", "encoder_id", "study", "setting", "value", "sd", "n_train", "reason"), csv
    )
    if figure is not None:
        draw_sensitivity(rows).save(figure)
        typer.echo(f"figure in {figure}")


def add_study_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example: genebench leakage cellular_component --encoder tfidf")(leakage)
    app.command(epilog="Example: genebench later biological_process --as-of 2026-11-20")(later)
    app.command(
        epilog="Example: genebench sensitivity hla_class -e tfidf -e minilm --figure curves.svg"
    )(sensitivity)


def _show(rows: "pl.DataFrame", columns: tuple[str, ...], csv: Path | None) -> None:
    from flows.cli.render import print_frame

    print_frame(rows.select(columns))
    if csv is not None:
        rows.write_csv(csv)
        typer.echo(f"{rows.height:,} rows in {csv}")

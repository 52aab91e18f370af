"""Options that several commands share, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer

Profile = Annotated[
    str | None, typer.Option(help="embedded or paper. Default: the setting GENEBENCH_PROFILE.")
]
Protocol = Annotated[
    str | None, typer.Option(help="standard or paper. Default: the setting GENEBENCH_PROTOCOL.")
]
Encoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", "-e", help="Encoder id, glob or YAML file; repeatable."),
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="Task id or glob; repeatable.")
]
Families = Annotated[
    list[str] | None, typer.Option("--family", "-f", help="Family of tasks; repeatable.")
]
Release = Annotated[str | None, typer.Option(help="Release. Default: the one that `score` writes.")]
Metric = Annotated[
    str | None, typer.Option(help="Metric. Default: the main metric of each kind of task.")
]
Csv = Annotated[Path | None, typer.Option(help="Also write all rows to this CSV file.")]

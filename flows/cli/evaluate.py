"""The command `evaluate`: a file of vectors beside the encoders of the reference release."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Tasks

if TYPE_CHECKING:
    from genebench.reference.comparison import Comparison
    from genebench.reference.packaged_reference import Reference


def evaluate(
    vectors: Annotated[
        Path,
        typer.Argument(
            help="File of gene vectors (csv, tsv, parquet, npz, npy, h5ad, safetensors, word2vec), "
            "or a model: an encoder id, a sentence-transformers folder, hf:org/name."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name in the results. Default: the name of the file.")
    ] = None,
    ids: Annotated[
        str,
        typer.Option(
            help="Namespace of the identifiers: auto, symbol, ensembl, entrez, uniprot or hgnc."
        ),
    ] = "auto",
    id_column: Annotated[
        str | None, typer.Option(help="Column of the identifiers. Default: the column of text.")
    ] = None,
    id_file: Annotated[
        Path | None, typer.Option(help="Text file with one identifier a line, for npy.")
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            "--vectors", help="Column, array or tensor that holds the vectors, such as obsm/X_pca."
        ),
    ] = None,
    header: Annotated[
        bool | None, typer.Option(help="Whether the first line of a table names the columns.")
    ] = None,
    task: Tasks = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Rival to compare with; repeatable. Default: all.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Bundle with further rivals; repeatable.")
    ] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Embed and fit the rivals again, on the genes of your vectors. Takes minutes.",
        ),
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="Profile of the tasks. Of another than embedded, the lake must have the tasks; "
            "paper is compared with the published scores."
        ),
    ] = "embedded",
    bundle: Annotated[
        Path | None, typer.Option(help="Write a parquet file that others can compare with.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the results as an HTML page.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row a task as CSV.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all results as JSON.")] = False,
    cache: Annotated[
        bool, typer.Option(help="Read the result of the same vectors and options if there is one.")
    ] = True,
) -> None:
    """Score your vectors and compare them with the encoders that ship with genebench."""
    from genebench.encoders.vector_files.layout import load_vectors
    from genebench.reference.evaluate_vectors import embed_reference_genes, evaluate_vectors
    from genebench.reference.result_cache import evaluate_with_cache

    embedded = embed_reference_genes(str(vectors), _print_progress, task or ())
    if embedded is None:
        names, matrix = load_vectors(vectors, id_column, array, id_file, has_header=header)
    else:
        (names, matrix), ids = embedded, "entrez"
    _print_progress(f"{vectors}: {len(names):,} rows, {matrix.shape[1]:,} numbers each")
    reference = _read_reference(profile)
    run: Callable[..., Comparison] = evaluate_with_cache if cache else evaluate_vectors
    if reference is not None:
        run = partial(evaluate_vectors, reference=reference)
    found = run(
        names,
        matrix,
        name=name or vectors.name.partition(".")[0].partition("@")[0],
        ids=ids,
        tasks=task or (),
        against=against or (),
        bundles=beside or (),
        refit=refit,
        progress=_print_progress,
    )
    if bundle is not None:
        found.write_bundle(bundle)
        _print_progress(f"bundle: {bundle}")
    if report is not None:
        found.report(report)
        _print_progress(f"page: {report}")
    if csv is not None:
        found.tasks().write_csv(csv)
        _print_progress(f"tasks: {csv}")
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=1) + "\n")
    else:
        print_evaluation(found)


def _read_reference(profile: str) -> "Reference | None":
    """The tasks of the lake under the protocol of the published scores; None for `embedded`."""
    from genebench.reference.packaged_reference import PROFILE

    if profile == PROFILE:
        return None
    from genebench.reference.published_scores import PUBLISHED_PROTOCOL
    from genebench.registry.loading import load_registry
    from lakehouse import open_lake
    from lakehouse.score.lake_reference import read_lake_reference

    registry = load_registry(profile)
    return read_lake_reference(open_lake(), registry, registry.protocols[PUBLISHED_PROTOCOL])


def _print_progress(text: str) -> None:
    """Print a line of progress to the standard error, so that `--json` can be piped."""
    print(text, file=sys.stderr, flush=True)


def print_evaluation(found: "Comparison") -> None:
    """Print the answer on one screen: sentence, families, verdicts, tasks, controls, notes."""
    from flows.cli.render import print_line, print_rows
    from genebench.reference.comparison_text import comparison_remarks, comparison_text_tables

    print_line(found.sentence())
    for table in comparison_text_tables(found):
        print_rows(table.title, table.columns, table.rows)
    for remark in comparison_remarks(found):
        print_line(remark)

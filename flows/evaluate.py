"""The evaluate flow: one file of vectors beside the encoders of the reference release."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import deployment

from flows.report import output_path
from flows.run.gate import save_artifact
from flows.run.parameters import (
    NO_SELECTION,
    EmbeddingName,
    NamespaceId,
    OptionalPath,
    ReferenceTaskId,
    RivalId,
    Unset,
    VectorsAddress,
)
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.server.hooks import HOOKS
from genebench.errors import GenebenchError
from lakehouse.refresh.http import FetchError, download

if TYPE_CHECKING:
    from genebench.encoders.vector_files.vector_format import NamedVectors

MAX_BYTES = 8_000_000_000
WEB = ("http://", "https://")
PAGE, TASKS, BUNDLE = "evaluation.html", "tasks.csv", "bundle.parquet"


@flow(name="evaluate", flow_run_name=run_name, **HOOKS)
def evaluate(
    vectors: VectorsAddress,
    name: EmbeddingName | Unset = "",
    ids: NamespaceId = "auto",
    tasks: list[ReferenceTaskId] | Unset = NO_SELECTION,
    against: list[RivalId] | Unset = NO_SELECTION,
    folder: OptionalPath | Unset = "",
) -> RunSummary:
    """Score gene vectors and compare them with the encoders that ship with genebench.

    No lake is read or written. The tables are an artifact of the run.

    Args:
        vectors: A file of vectors that the worker can read (csv, tsv, parquet, npz, h5ad,
            word2vec), its http or https address, an encoder of the profile embedded, or a model of
            the Hugging Face hub (hf:org/name).
        name: The name in the results. Default: the name of the file.
        ids: The namespace of the identifiers; auto infers it.
        tasks: Tasks. Default: all of the profile embedded.
        against: Rivals to compare with. Default: all.
        folder: A folder to write the page, the tasks as CSV and the bundle to. Default: no files.

    Raises:
        GenebenchError: The vectors cannot be read or name no genes, or a task or rival is unknown.
    """
    from genebench.reference.comparison_text import comparison_markdown
    from genebench.reference.result_cache import evaluate_with_cache

    target = output_path(folder) if folder else None
    names, matrix, namespace = _read_vectors(vectors, ids, tasks or [])
    found = evaluate_with_cache(
        names,
        matrix,
        name=name or Path(vectors).name.partition(".")[0].partition("@")[0],
        ids=namespace,
        tasks=tasks or (),
        against=against or (),
        progress=get_run_logger().info,
    )
    get_run_logger().info(found.sentence())
    save_artifact("evaluation", comparison_markdown(found))
    summary = RunSummary("evaluate", done={found.name: found.sentence()})
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        summary.done[str(found.report(target / PAGE))] = "page"
        found.tasks().write_csv(target / TASKS)
        summary.done[str(target / TASKS)] = f"{found.tasks().height} tasks"
        found.write_bundle(target / BUNDLE)
        summary.done[str(target / BUNDLE)] = "scores and predictions, for others to compare with"
    return summary


def _read_vectors(address: str, ids: str, tasks: list[str]) -> "tuple[*NamedVectors, str]":
    """Return identifiers, vectors and the namespace of the identifiers."""
    from genebench.encoders.vector_files.layout import load_vectors
    from genebench.reference.evaluate_vectors import embed_reference_genes

    if address.startswith(WEB):
        return *_fetch_vectors(address), ids
    _require_readable(address)
    embedded = embed_reference_genes(address, get_run_logger().info, tasks)
    if embedded is not None:
        return *embedded, "entrez"
    return *load_vectors(Path(address).expanduser()), ids


def _fetch_vectors(url: str) -> "NamedVectors":
    """Download a file of vectors to a temporary folder and read it."""
    from genebench.encoders.vector_files.layout import load_vectors

    with tempfile.TemporaryDirectory() as scratch:
        try:
            fetched = download(url, Path(scratch), MAX_BYTES)
        except FetchError as error:
            raise GenebenchError(f"{url}: {error}") from error
        if fetched is None:
            raise GenebenchError(f"{url}: the server answered that nothing has changed")
        # The end of the name says the format.
        path = fetched.path.rename(Path(scratch) / Path(url.partition("?")[0]).name)
        return load_vectors(path)


def _require_readable(address: str) -> None:
    """Refuse a path outside of the working folder to a run of a deployment.

    Whoever may start a run from the Prefect UI need not be allowed to read files on the worker.
    """
    path = Path(address).expanduser()
    is_below = path.resolve().is_relative_to(Path.cwd().resolve())
    if deployment.id and not is_below:
        raise GenebenchError(
            f"a run of a deployment reads vectors below its working folder {Path.cwd()} only, not "
            f"{address}; put the file there, or give its https address"
        )

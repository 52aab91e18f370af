"""Evaluates vectors against the reference release that ships with the package."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.identifier_inference import map_vectors
from genebench.encoders.vector_files.vector_format import require_finite
from genebench.errors import GenebenchError
from genebench.reference.comparison import Comparison
from genebench.reference.local_embedding import embed_genes, find_model_encoder
from genebench.reference.packaged_reference import (
    PROBE,
    PROFILE,
    Reference,
    collect_rivals,
    packaged_reference,
    prepare_reference_tasks,
)
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.python_input import to_names_and_matrix
from genebench.reference.refitted_rivals import refit_rivals
from genebench.reference.rivals import score_rivals
from genebench.reference.score_table import add_published, score_table
from genebench.reference.stored_scores import StoredScore
from genebench.reference.vectors_evaluation import (
    ScoredTask,
    bundle_rows,
    place_vectors,
    require_tasks,
    score_tasks,
    vectors_digest,
)
from genebench.reference.verdicts import compare_scopes, compare_tasks
from genebench.registry.loading import load_registry
from genebench.settings import get_settings

# A task with fewer covered samples is not scored, unless it has no more samples itself.
MIN_SAMPLES = 100

Progress = Callable[[str], None]


def embed_reference_genes(
    model: str, progress: Progress, tasks: Collection[str] = ()
) -> tuple[list[str], npt.NDArray[np.float32]] | None:
    """Embed the genes of the reference release with a model.

    Args:
        model: See `local_embedding.find_model_encoder`.
        progress: Called with one line of text for each tenth of the genes.
        tasks: The tasks on which the vectors will be scored. Default: all.

    Returns:
        (genes,) Entrez ids and (genes, d) float32; None if the word names a file of vectors.
    """
    registry = load_registry(PROFILE)
    encoder = find_model_encoder(model, registry)
    if encoder is None:
        return None
    return embed_genes(encoder, registry, prepare_reference_tasks(tasks), progress)


def evaluate_vectors(
    names: Sequence[str],
    matrix: npt.NDArray[Any],
    *,
    name: str = "mine",
    ids: str = "auto",
    tasks: Collection[str] = (),
    against: Collection[str] = (),
    bundles: Collection[Path] = (),
    refit: bool = False,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluate vectors of genes and compare them with the encoders of the reference release.

    The vectors alone are fitted, on the folds of the reference. The stored predictions of the
    reference's encoders are restricted to the held-out rows that the vectors cover. With vectors
    of few genes the rivals keep the advantage of more training rows; `docs/method.md` measures it.

    Args:
        names: (rows,) identifiers of genes.
        matrix: (rows, d) finite numbers; rows of one gene are averaged.
        name: Name of the vectors in the results.
        ids: Namespace of the identifiers: symbol, ensembl, entrez, uniprot or hgnc; `auto` infers
            it.
        tasks: Tasks to score. Default: all of the profile embedded.
        against: Rivals to compare with. Default: all.
        bundles: Bundles with further rivals, written by `Comparison.write_bundle`.
        refit: Embed the rivals here and fit them on the genes that the vectors cover, in place of
            their stored predictions. It takes as long as a benchmark of all of them.
        reference: The tasks and the rivals. Default: the release that ships with the package.
        progress: Called with one line of text after each step.

    Raises:
        EncoderError: The identifiers name no genes, or their namespace is not clear.
        GenebenchError: The matrix is not finite or has another number of rows, a task or rival is
            unknown, or a bundle is damaged; or rivals are to be fitted again that cannot be.
    """
    report_progress = progress or _ignore_progress
    numbers = _checked_matrix(names, matrix)
    settings = get_settings()
    # torch takes a second or two to import, which pass while the tasks are prepared.
    Thread(target=import_module, args=("torch",)).start()
    reference = reference or packaged_reference(tasks)
    registry = load_registry(reference.profile)
    protocol, probe = reference.protocol, registry.probes[PROBE]
    packaged = reference.tasks
    entity_ids = packaged.entity_ids
    rivals = collect_rivals(reference, bundles, against, probe)
    if refit:
        _require_embeddable(reference)
    task_ids = require_tasks(packaged, tasks)
    vectors, identifiers = map_vectors(names, numbers, ids, packaged.inputs)
    for line in identifiers.lines():
        report_progress(line)
    placed, has_vector = place_vectors(vectors, entity_ids)
    del vectors
    coverage = _coverage(packaged, task_ids, has_vector)
    for row in coverage.iter_rows(named=True):
        if row["n_covered"] < row["n_samples"]:
            share = row["n_covered"] / row["n_samples"]
            report_progress(f"{row['task_id']}: {row['n_covered']:,} samples covered ({share:.0%})")
    own_name = _slug(name, rivals)
    too_few = _too_few_samples(coverage)
    scored: list[ScoredTask] = []
    found: list[StoredScore | str] = []
    notes = [*reference.notes]
    notes += [f"{name}: {reason}" for name, reason in {**packaged.left_out, **too_few}.items()]
    enough = [task_id for task_id in task_ids if task_id not in too_few]

    def report_task(task_id: str, n_done: int, n_tasks: int) -> None:
        report_progress(f"scored {task_id} ({n_done} of {n_tasks})")

    threads = settings.threads or os.cpu_count() or 1
    for one in score_tasks(
        placed, has_vector, packaged, enough, probe, protocol, settings, report_task
    ):
        scored.append(one)
        if one.evaluation.status != "ok":
            notes.append(f"{one.task.task_id}: no score: {one.evaluation.reason}")
            continue
        if not refit:
            found += score_rivals(one, rivals, protocol, threads)
    if refit:
        found += refit_rivals(
            scored, rivals, has_vector, registry, packaged, probe, protocol, report_progress
        )
    notes += [one for one in found if isinstance(one, str)]
    compared = [one for one in found if isinstance(one, StoredScore)]
    differences = compare_tasks(scored, compared)
    card = {
        "encoder_id": own_name,
        "title": name,
        "description": "",
        "modality": "mine",
        "is_control": False,
        "vectors_digest": vectors_digest(placed, has_vector),
    }
    scores = score_table(own_name, scored, compared, rivals, packaged)
    return Comparison(
        own_name,
        reference.profile,
        protocol.id,
        add_published(scores, reference.published, against),
        differences,
        compare_scopes(differences, reference.profile),
        coverage,
        identifiers,
        tuple(dict.fromkeys(notes)),
        bundle_rows(scored, entity_ids, probe, protocol, reference.profile, card),
    )


def evaluate(
    data: Any,
    ids: Sequence[str] | str | None = None,
    *,
    name: str = "mine",
    namespace: str = "auto",
    array: str | None = None,
    tasks: Collection[str] = (),
    against: Collection[str] = (),
    bundles: Collection[Path] = (),
    refit: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluate vectors of genes and compare them with the encoders of the reference release.

    Args:
        data: A numpy array or torch tensor (rows, d), a polars or pandas frame, or an AnnData
            object.
        ids: Identifiers of the rows, or the name of a column with them. Default: the first column
            of a polars frame, the index of a pandas frame, the names of an AnnData object.
        name: Name of the vectors in the results.
        namespace: Namespace of the identifiers; see `evaluate_vectors`.
        array: Array of an AnnData object: `X`, `obsm/<name>` or `varm/<name>`.
        tasks: See `evaluate_vectors`.
        against: See `evaluate_vectors`.
        bundles: See `evaluate_vectors`.
        refit: See `evaluate_vectors`.
        progress: See `evaluate_vectors`.

    Raises:
        GenebenchError: See `evaluate_vectors`; or the object is of another type.

    Example:
        >>> import genebench                                          # doctest: +SKIP
        >>> found = genebench.evaluate(matrix, ids=symbols, name="my model")
        >>> found.table(), found.compare("minilm"), found.report("page.html")
    """
    names, matrix = to_names_and_matrix(data, ids, array)
    return evaluate_vectors(
        names,
        matrix,
        name=name,
        ids=namespace,
        tasks=tasks,
        against=against,
        bundles=bundles,
        refit=refit,
        progress=progress,
    )


def _checked_matrix(names: Sequence[str], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    numbers = np.ascontiguousarray(matrix, dtype=np.float32)
    if numbers.ndim != 2 or len(numbers) != len(names) or not numbers.size:
        raise GenebenchError(
            f"the vectors have shape {numbers.shape}, but there are {len(names)} identifiers; one "
            "row is needed for each identifier"
        )
    return require_finite(names, numbers)


def _require_embeddable(reference: Reference) -> None:
    if reference.profile != PROFILE:
        raise GenebenchError(
            f"rivals of the profile {reference.profile} cannot be fitted again here; run "
            f"`genebench benchmark --profile {reference.profile}` with your vectors as an encoder"
        )


def _ignore_progress(text: str) -> None:
    """Progress without a listener."""


def _slug(name: str, rivals: pl.DataFrame) -> str:
    slug = re.sub(r"\W+", "_", name.strip()).strip("_").lower() or "mine"
    return f"my_{slug}" if slug in set(rivals["encoder_id"]) else slug


def _too_few_samples(coverage: pl.DataFrame) -> dict[str, str]:
    """The tasks of which the vectors cover too few samples to be scored, with the reason."""
    least = pl.min_horizontal("n_samples", MIN_SAMPLES)
    rows = coverage.filter(pl.col("n_covered") < least).iter_rows(named=True)
    return {
        row["task_id"]: f"no score: the vectors cover {row['n_covered']:,} of "
        f"{row['n_samples']:,} samples; at least {min(row['n_samples'], MIN_SAMPLES)} are needed"
        for row in rows
    }


def _coverage(
    packaged: UniverseTasks, task_ids: Sequence[str], has_vector: npt.NDArray[np.bool_]
) -> pl.DataFrame:
    rows = [
        {
            "task_id": task_id,
            "family": packaged.tasks[task_id].family,
            "n_samples": packaged.tasks[task_id].n_samples,
            "n_covered": int(has_vector[packaged.tasks[task_id].rows].all(axis=1).sum()),
        }
        for task_id in task_ids
    ]
    return pl.DataFrame(rows)

"""The embed flow: encode inputs to vectors, one task run per encoder."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect import allow_failure, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.run.context import Context, open_context
from flows.run.gate import append, finish_run, replace
from flows.run.parameters import (
    NO_SELECTION,
    SETTING,
    EncoderId,
    FilePath,
    ProfileId,
    Unset,
)
from flows.run.progress import track
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.task_runners import TASK_RUNNER, task_result
from flows.run.writer_lock import with_writer_lock
from flows.server.hooks import HOOKS
from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest_encoder as encoder_digest
from genebench.encoders.encoder_digest import encoders_of_same_model
from genebench.encoders.loader import check_dimension, load_encoder
from genebench.encoders.weights.locations import weight_digests
from genebench.errors import EncoderUnavailable
from lakehouse.curate.state import require_curated
from lakehouse.embed.encoder_records import (
    encoder_row,
    is_declaration_stored,
    recorded_weights,
    stored_size,
)
from lakehouse.embed.pending import PendingEmbedding, plan_embedding
from lakehouse.embed.vector_rows import (
    copied_rows,
    embedding_rows,
    loader_input,
    reusable_rows,
)

if TYPE_CHECKING:
    import polars as pl


@flow(name="embed", flow_run_name=run_name, task_runner=TASK_RUNNER, **HOOKS)
@with_writer_lock
def embed(
    encoders: list[EncoderId] | Unset = NO_SELECTION,
    profile: ProfileId | Unset = SETTING,
    encoder_files: list[FilePath] | Unset = NO_SELECTION,
) -> RunSummary:
    """Encode every entity whose vector is missing or outdated.

    A vector is outdated if its input or its encoder has changed. The vector of a text or sequence
    that another encoder of the same model has encoded is copied. An encoder whose weights or
    inputs are missing is refused with the reason; if it was selected by name, the run fails.

    Args:
        encoders: Encoders. Default: those of the profile. Python calls may pass globs.
        profile: The profile; default is the setting GENEBENCH_PROFILE.
        encoder_files: YAML files with your own encoders.
    """
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    require_curated(context.lake)
    summary = RunSummary("embed")
    failures: dict[str, str] = {}
    named = {*(encoders or []), *context.registry.user_encoders}
    runs: dict[str, PrefectFuture[tuple[int, str]]] = {}
    for encoder in context.choose_encoders(encoders or [], files):
        same_model = encoders_of_same_model(
            encoder, context.loader_context, context.registry.encoders
        )
        before = [runs[one] for one in (*encoder.bases(), *same_model) if one in runs]
        runs[encoder.id] = embed_encoder.with_options(
            task_run_name=f"embed {encoder.id}",
            # For each set of tags Prefect asks the server for concurrency slots, which takes 1 s.
            tags=["gpu"] if encoder.needs_gpu else [],
        ).submit(
            encoder.id,
            context.registry.profile.id,
            files,
            context.lake.delta.storage.root,
            wait_for=[allow_failure(run) for run in before],
            return_state=False,
        )
    for encoder_id, run in runs.items():
        result = task_result(run)
        if isinstance(result, EncoderUnavailable) and encoder_id not in named:
            summary.refused[encoder_id] = str(result)
            continue
        if isinstance(result, BaseException):
            failures[encoder_id] = str(result)
            continue
        n_encoded, text = result
        (summary.done if n_encoded else summary.skipped)[encoder_id] = text
    return finish_run(context, summary, failures)


@task(name="embed encoder", cache_policy=NO_CACHE)
def embed_encoder(
    encoder_id: str, profile: str, files: tuple[str, ...], lake: str
) -> tuple[int, str]:
    """Encode the pending entities of one encoder, and commit the vectors chunk by chunk.

    Args:
        encoder_id: The encoder.
        profile: The profile.
        files: User encoders (YAML files).
        lake: The root of the flow run's lake; a worker with another lake refuses to write.

    Returns:
        The number of entities encoded, and a line of text for the run summary.
    """
    context = open_context(profile, files, lake_root=lake)
    encoder = context.registry.encoders[encoder_id]
    declared = context.registry.encoders
    digest = encoder_digest(encoder, context.loader_context, declared)
    bases = {
        b: encoder_digest(declared[b], context.loader_context, declared) for b in encoder.bases()
    }
    pending = plan_embedding(context.lake.delta, encoder, digest, bases)
    if pending.is_done:
        if not is_declaration_stored(context.lake.delta, encoder):
            _record_encoder(context, pending, is_complete=True)
        return 0, f"{pending.wanted.height:,} vectors are up to date"
    copied = copied_rows(
        context.lake.delta,
        pending,
        encoders_of_same_model(encoder, context.loader_context, declared),
        context.run_id,
    )
    n_encoded, counts = _encode_pending(context, encoder, pending.without(copied), copied)
    size = stored_size(context.lake.delta, encoder_id)
    notes = "".join(f", {name} {n:,}" for name, n in counts.items() if n)
    return n_encoded + copied.height, (
        f"{n_encoded:,} encoded; {size['n_entities']:,} vectors of {size['dimension']} "
        f"dimensions{notes}"
    )


def _encode_pending(
    context: Context, encoder: Encoder, pending: PendingEmbedding, copied: "pl.DataFrame"
) -> tuple[int, dict[str, int]]:
    commit = context.commit()
    known = context.lake.encoders().filter(encoder_id=encoder.id)
    loader = load_encoder(encoder, context.loader_context)
    n_encoded = 0
    counts = {"copied": copied.height}
    chunks = list(pending.chunks())
    if not chunks:
        _start_encoding(context, encoder, pending, copied)
    with track(f"embed {encoder.id}", sum(c.height for c in chunks), "entities") as advance:
        for chunk in chunks:
            inputs = loader_input(context.lake.delta, pending, chunk)
            vectors = check_dimension(encoder, loader.encode(inputs, advance))
            if chunk is chunks[0]:
                # Not before the first vectors exist: missing or wrong weights change no table.
                _start_encoding(context, encoder, pending, copied)
            rows = embedding_rows(pending, chunk, vectors, context.run_id)
            append(context, "silver.embeddings", rows, commit)
            n_encoded += rows.height
            for name, n in vectors.counts.items():
                counts[name] = counts.get(name, 0) + n
    is_new = bool(chunks) or copied.height > 0
    weights = weight_digests(encoder, context.loader_context) if is_new else {}
    previous = known if known.height else None
    _record_encoder(context, pending, is_complete=True, weights=weights, previous=previous)
    return n_encoded, counts


def _start_encoding(
    context: Context, encoder: Encoder, pending: PendingEmbedding, copied: "pl.DataFrame"
) -> None:
    """Record that an encoder is incomplete, delete its outdated vectors, add the copied ones."""
    _record_encoder(context, pending, is_complete=False)
    if pending.has_stale or encoder.is_fitted:
        kept = reusable_rows(context.lake.delta, pending)
        kept = kept.clear() if encoder.is_fitted else kept
        partition = {"encoder_id": encoder.id}
        replace(context, "silver.embeddings", kept, context.commit(), partition)
    if len(copied):
        append(context, "silver.embeddings", copied, context.commit())


def _record_encoder(
    context: Context,
    pending: PendingEmbedding,
    is_complete: bool,
    weights: Mapping[str, str] | None = None,
    previous: "pl.DataFrame | None" = None,
) -> None:
    delta, encoder_id = context.lake.delta, pending.encoder.id
    # Vectors that were kept are of the weights that are recorded.
    known = weights or recorded_weights(delta, encoder_id)
    known = {name: digest for name, digest in known.items() if name != "revision"}
    size = stored_size(delta, encoder_id)
    row = encoder_row(pending, is_complete, size, context.run_id, known)
    partition = {"encoder_id": encoder_id}
    replace(context, "silver.encoders", row, context.commit(), partition, previous=previous)

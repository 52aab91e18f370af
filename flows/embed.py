"""Inputs into embeddings."""

from collections.abc import Mapping

from prefect import allow_failure, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.run.context import Context, open_context
from flows.run.gate import append, close, replace
from flows.run.parameters import UNCHOSEN, EncoderId, FilePath, ProfileId, Unset
from flows.run.progress import track
from flows.run.run_names import run_name
from flows.run.summary import RunSummary
from flows.run.task_runners import ChosenRunner, result_of
from flows.run.writer_lock import one_writer
from flows.server.hooks import HOOKS
from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest as encoder_digest
from genebench.encoders.loader import check_dimension, load_encoder
from genebench.encoders.weights.locations import weight_digests
from genebench.errors import EncoderUnavailable
from lakehouse.curate.state import refuse_half_curated
from lakehouse.embed.encoder_records import encoder_row, is_recorded, lineage, stored_size
from lakehouse.embed.pending import PendingEmbedding, plan_embedding
from lakehouse.embed.vector_rows import embedding_rows, kept_rows, loader_input


@flow(name="embed", flow_run_name=run_name, task_runner=ChosenRunner(), **HOOKS)
@one_writer
def embed(
    encoders: list[EncoderId] | Unset = UNCHOSEN,
    profile: ProfileId | None = None,
    encoder_files: list[FilePath] | Unset = UNCHOSEN,
) -> RunSummary:
    """Encode every entity that has no vector yet of the digests at hand.

    An encoder whose weights or inputs are not here is refused with the reason; asked for by name,
    it fails the run.

    Args:
        encoders: Encoders; those of the profile by default. From Python, globs too.
        profile: embedded or paper; the setting by default.
        encoder_files: Encoder declarations of your own (YAML files).
    """
    files = tuple(encoder_files or ())
    context = open_context(profile, files)
    refuse_half_curated(context.lake)
    outcome = RunSummary("embed")
    failures: dict[str, str] = {}
    named = {*(encoders or []), *context.registry.own_encoders}
    runs: dict[str, PrefectFuture[tuple[int, str]]] = {}
    for encoder in context.choose_encoders(encoders or [], files):
        runs[encoder.id] = embed_encoder.with_options(
            task_run_name=f"embed {encoder.id}",
            tags=[f"encoder:{encoder.id}", *(["gpu"] if encoder.needs_gpu else [])],
        ).submit(
            encoder.id,
            context.registry.profile.id,
            files,
            context.lake.delta.storage.root,
            wait_for=[allow_failure(runs[base]) for base in encoder.bases()],
        )
    for encoder_id, run in runs.items():
        result = result_of(run)
        if isinstance(result, EncoderUnavailable) and encoder_id not in named:
            outcome.refused[encoder_id] = str(result)
            continue
        if isinstance(result, BaseException):
            failures[encoder_id] = str(result)
            continue
        n_encoded, words = result
        (outcome.done if n_encoded else outcome.skipped)[encoder_id] = words
    return close(outcome, failures)


@task(name="embed encoder", cache_policy=NO_CACHE)
def embed_encoder(
    encoder_id: str, profile: str, files: tuple[str, ...], lake: str
) -> tuple[int, str]:
    """Encode what is pending for one encoder, chunk by chunk, each committed as it is done.

    Args:
        encoder_id: The encoder.
        profile: The profile.
        files: Encoder declarations of the user's own.
        lake: The lake of the flow run, which a worker elsewhere must write to as well.

    Returns:
        How many entities were encoded, and a line about it.
    """
    context = open_context(profile, files, lake_root=lake)
    encoder = context.registry.encoders[encoder_id]
    declared = context.registry.encoders
    digest = encoder_digest(encoder, context.place, declared)
    bases = {b: encoder_digest(declared[b], context.place, declared) for b in encoder.bases()}
    material = plan_embedding(context.lake.delta, encoder, digest, bases)
    if material.is_done:
        if not is_recorded(context.lake.delta, encoder):
            _tell_state(context, material, is_complete=True)
        return 0, f"{material.wanted.height:,} vectors of the same digests are there"
    n_encoded, counts = _materialise(context, encoder, material)
    size = stored_size(context.lake.delta, encoder_id)
    notes = "".join(f", {name} {n:,}" for name, n in counts.items() if n)
    return n_encoded, (
        f"{n_encoded:,} encoded; {size['n_entities']:,} vectors of {size['dimension']} "
        f"dimensions{notes}"
    )


def _materialise(
    context: Context, encoder: Encoder, material: PendingEmbedding
) -> tuple[int, dict[str, int]]:
    commit = context.commit()
    loader = load_encoder(encoder, context.place)
    n_encoded = 0
    counts: dict[str, int] = {}
    chunks = list(material.chunks())
    if not chunks:
        _begin(context, encoder, material)
    with track(f"embed {encoder.id}", sum(c.height for c in chunks), "entities") as advance:
        for chunk in chunks:
            reading = loader_input(context.lake.delta, material, chunk)
            vectors = check_dimension(encoder, loader.encode(reading, advance))
            if chunk is chunks[0]:
                # Only now: weights that are missing or wrong leave every table as it was.
                _begin(context, encoder, material)
            rows = embedding_rows(material, chunk, vectors, context.run_id)
            append(context, "silver.embeddings", rows, commit)
            n_encoded += rows.height
            for name, n in vectors.counts.items():
                counts[name] = counts.get(name, 0) + n
    weights = weight_digests(encoder, context.place) if chunks else {}
    _tell_state(context, material, is_complete=True, weights=weights)
    return n_encoded, counts


def _begin(context: Context, encoder: Encoder, material: PendingEmbedding) -> None:
    """Say that an encoder is at work, and remove the vectors that are no longer its own."""
    _tell_state(context, material, is_complete=False)
    if material.has_stale or encoder.is_fitted:
        kept = kept_rows(context.lake.delta, material)
        kept = kept.clear() if encoder.is_fitted else kept
        partition = {"encoder_id": encoder.id}
        replace(context, "silver.embeddings", kept, context.commit(), partition)


def _tell_state(
    context: Context,
    material: PendingEmbedding,
    is_complete: bool,
    weights: Mapping[str, str] | None = None,
) -> None:
    size = stored_size(context.lake.delta, material.encoder.id)
    row = encoder_row(material, is_complete, size, context.run_id)
    partition = {"encoder_id": material.encoder.id}
    commit = context.commit(**lineage(material.encoder, weights or {}))
    replace(context, "silver.encoders", row, commit, partition)
